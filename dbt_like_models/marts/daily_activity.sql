with days as (
    select * from user_day
),

totals as (
    select
        ds,
        count(*) as active_users,
        sum(events) as events,
        cast(sum(items) as bigint) as user_items
    from days
    group by ds
),

kinds as (
    select
        ds,
        sorted_map(kind, events) as kind_events
    from (
        select
            d.ds,
            k.kind,
            sum(d.kinds[k.kind]) as events
        from days as d
        cross join unnest(map_keys(d.kinds)) as k (kind)
        group by d.ds, k.kind
    ) as by_kind
    group by ds
),

final as (
    select
        t.ds,
        t.active_users,
        t.events,
        t.user_items,
        t.events / t.active_users as events_per_user,
        k.kind_events
    from totals as t
    inner join kinds as k on t.ds = k.ds
)

select * from final
