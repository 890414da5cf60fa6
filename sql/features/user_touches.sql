with touches as (
    select * from user_touch_history
),

answers as (
    select distinct
        ds,
        user_id,
        touched_on,
        target,
        item_id,
        kind
    from (
        select
            t.ds,
            t.user_id,
            t.touched_on,
            t.target,
            t.item_id,
            unnest(map_keys(u.kinds)) as kind
        from touches as t
        cross join run_settings as s
        inner join user_day as u
            on
                t.user_id = u.user_id
                and t.touched_on < u.ds
                and t.ds > u.ds
        where date_diff('day', t.touched_on, u.ds) <= s.label_horizon_days
    ) as kinds_of_days
),

received as (
    select
        ds,
        user_id,
        count(*) as touches_history,
        count(*) filter (where age <= 7) as touches_7d,
        count(*) filter (where age <= 30) as touches_30d,
        count(*) filter (where age <= 90) as touches_90d,
        min(age) as touch_recency_days,
        count(*) filter (where answered_on_item) as touches_answered_on_item,
        (count(*) filter (where answered_on_item) + 0.1) / (count(*) + 1) as item_answer_rate
    from touches
    group by ds, user_id
),

target_counts as (
    select
        ds,
        user_id,
        target,
        cast(count(*) as double) as touches,
        count(*) filter (where answered_on_item) as answered
    from touches
    group by ds, user_id, target
),

by_target as (
    select
        ds,
        user_id,
        sorted_map(target, touches) as target_touches,
        sorted_map(target, (answered + 0.1) / (touches + 1)) as target_answer_rate
    from target_counts
    group by ds, user_id
),

kind_counts as (
    select
        ds,
        user_id,
        kind,
        cast(count(*) as double) as n
    from answers
    group by ds, user_id, kind
),

by_kind as (
    select
        ds,
        user_id,
        sorted_map(kind, n) as touches_answered
    from kind_counts
    group by ds, user_id
),

final as (
    select
        r.*,
        t.target_touches,
        t.target_answer_rate,
        k.touches_answered
    from received as r
    inner join by_target as t on r.ds = t.ds and r.user_id = t.user_id
    left join by_kind as k on r.ds = k.ds and r.user_id = k.user_id
)

select * from final
