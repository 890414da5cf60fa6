with touches as (
    select
        d.as_of as ds,
        o.user_id,
        o.ds as touched_on,
        date_diff('day', o.ds, d.as_of) as age,
        o.target,
        o.item_id
    from as_of_dates as d
    cross join run_settings as s
    inner join stg_operation as o on o.ds < d.as_of
    where date_diff('day', o.ds, d.as_of) <= s.history_days
    group by d.as_of, o.user_id, o.ds, o.target, o.item_id
),

answers as (
    select
        t.ds,
        t.user_id,
        t.touched_on,
        t.target,
        t.item_id,
        k.kind
    from touches as t
    cross join run_settings as s
    inner join user_day as u
        on
            t.user_id = u.user_id
            and u.ds > t.touched_on
            and u.ds < t.ds
    cross join unnest(map_keys(u.kinds)) as k (kind)
    where date_diff('day', t.touched_on, u.ds) <= s.label_horizon_days
    group by t.ds, t.user_id, t.touched_on, t.target, t.item_id, k.kind
),

item_answers as (
    select distinct
        t.ds,
        t.user_id,
        t.touched_on,
        t.target,
        t.item_id
    from touches as t
    inner join user_item_day as u
        on
            t.user_id = u.user_id
            and t.item_id = u.item_id
            and u.ds > t.touched_on
            and u.ds < t.ds
),

received as (
    select
        ds,
        user_id,
        count(*) as touches_history,
        count(*) filter (where age <= 7) as touches_7d,
        count(*) filter (where age <= 30) as touches_30d,
        count(*) filter (where age <= 90) as touches_90d,
        min(age) as touch_recency_days
    from touches
    group by ds, user_id
),

by_target as (
    select
        c.ds,
        c.user_id,
        map_from_entries(list_sort(list(struct_pack(k := c.target, v := c.touches))))
            as target_touches,
        map_from_entries(list_sort(list(struct_pack(
            k := c.target, v := (coalesce(a.answered, 0) + 0.1) / (c.touches + 1)
        )))) as target_answer_rate
    from (
        select
            ds,
            user_id,
            target,
            cast(count(*) as double) as touches
        from touches
        group by ds, user_id, target
    ) as c
    left join (
        select
            ds,
            user_id,
            target,
            count(*) as answered
        from item_answers
        group by ds, user_id, target
    ) as a
        on c.ds = a.ds and c.user_id = a.user_id and c.target = a.target
    group by c.ds, c.user_id
),

by_kind as (
    select
        ds,
        user_id,
        map_from_entries(list_sort(list(struct_pack(k := kind, v := n)))) as touches_answered
    from (
        select
            ds,
            user_id,
            kind,
            cast(count(*) as double) as n
        from answers
        group by ds, user_id, kind
    ) as counted
    group by ds, user_id
),

by_item as (
    select
        ds,
        user_id,
        count(*) as touches_answered_on_item
    from item_answers
    group by ds, user_id
),

final as (
    select
        r.*,
        t.target_touches,
        t.target_answer_rate,
        k.touches_answered,
        coalesce(i.touches_answered_on_item, 0) as touches_answered_on_item,
        (coalesce(i.touches_answered_on_item, 0) + 0.1)
        / (r.touches_history + 1) as item_answer_rate
    from received as r
    inner join by_target as t on r.ds = t.ds and r.user_id = t.user_id
    left join by_kind as k on r.ds = k.ds and r.user_id = k.user_id
    left join by_item as i on r.ds = i.ds and r.user_id = i.user_id
)

select * from final
