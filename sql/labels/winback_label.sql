with touches as (
    select distinct
        d.as_of as ds,
        o.user_id,
        o.item_id,
        o.target
    from as_of_dates as d
    inner join stg_operation as o on d.as_of = o.ds
),

returns as (
    select
        t.ds,
        t.user_id,
        k.kind,
        min(date_diff('day', t.ds, u.ds)) filter (where u.ds > t.ds) as days,
        bool_or(u.ds = t.ds) as same_day
    from (select distinct
        ds,
        user_id
    from touches) as t
    cross join run_settings as s
    inner join user_day as u on t.user_id = u.user_id and u.ds >= t.ds
    cross join unnest(map_keys(u.kinds)) as k (kind)
    where date_diff('day', t.ds, u.ds) <= s.label_horizon_days
    group by t.ds, t.user_id, k.kind
),

by_user as (
    select
        ds,
        user_id,
        sorted_map_where(kind, cast(days as integer), days > 0) as days_to_return,
        list_sort(list(kind) filter (where same_day)) as same_day
    from returns
    group by ds, user_id
),

item_returns as (
    select
        t.ds,
        t.user_id,
        t.item_id,
        b.behavior as kind,
        min(date_diff('day', t.ds, b.ds)) filter (where b.ds > t.ds) as days,
        bool_or(b.ds = t.ds) as same_day
    from (select distinct
        ds,
        user_id,
        item_id
    from touches) as t
    cross join run_settings as s
    inner join stg_behavior as b
        on t.user_id = b.user_id and t.item_id = b.item_id and b.ds >= t.ds
    where date_diff('day', t.ds, b.ds) <= s.label_horizon_days
    group by t.ds, t.user_id, t.item_id, b.behavior
),

by_item as (
    select
        ds,
        user_id,
        item_id,
        sorted_map_where(kind, cast(days as integer), days > 0) as days_to_return_on_item,
        list_sort(list(kind) filter (where same_day)) as same_day_on_item
    from item_returns
    group by ds, user_id, item_id
),

final as (
    select
        t.ds,
        t.user_id,
        t.item_id,
        t.target,
        r.days_to_return,
        i.days_to_return_on_item,
        r.same_day,
        i.same_day_on_item
    from touches as t
    left join by_user as r on t.ds = r.ds and t.user_id = r.user_id
    left join by_item as i
        on t.ds = i.ds and t.user_id = i.user_id and t.item_id = i.item_id
)

select * from final
