with newcomers as (
    select *
    from user_features
    where tenure_days in (1, 2, 4, 8)
),

first_days as (
    select
        n.ds,
        n.user_id,
        k.kind,
        min(date_diff('day', n.ds, u.ds)) as days
    from newcomers as n
    inner join user_day as u on n.user_id = u.user_id
    cross join unnest(map_keys(u.kinds)) as k (kind)
    where date_diff('day', n.ds, u.ds) between -14 and 89
    group by n.ds, n.user_id, k.kind
),

behaviors as (
    select
        ds,
        user_id,
        sorted_map(kind, cast(days as integer)) as days_to_behavior
    from first_days
    group by ds, user_id
),

first_touches as (
    select
        n.ds,
        n.user_id,
        o.target,
        min(date_diff('day', n.ds, o.ds)) as days
    from newcomers as n
    inner join stg_operation as o on n.user_id = o.user_id
    where date_diff('day', n.ds, o.ds) between -n.tenure_days and 89
    group by n.ds, n.user_id, o.target
),

touches as (
    select
        ds,
        user_id,
        sorted_map_where(target, cast(days as integer), target <> 'holdout') as days_to_touch,
        cast(min(days) filter (where target = 'holdout') as integer) as days_to_holdout
    from first_touches
    group by ds, user_id
),

final as (
    select
        n.*,
        b.days_to_behavior,
        t.days_to_touch,
        t.days_to_holdout
    from newcomers as n
    left join behaviors as b on n.ds = b.ds and n.user_id = b.user_id
    left join touches as t on n.ds = t.ds and n.user_id = t.user_id
)

select * from final
