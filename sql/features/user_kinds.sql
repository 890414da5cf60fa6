with named as (
    select
        h.*,
        case when r.is_named then h.kind else 'other' end as name
    from user_kind_history as h
    inner join kind_rank as r on h.ds = r.ds and h.kind = r.kind
    where h.days > 0
),

counted as (
    select
        n.ds,
        n.user_id,
        list_sort(list(struct_pack(
            k := n.name,
            events_1d := n.events_1d,
            events_3d := n.events_3d,
            events_7d := n.events_7d,
            events_14d := n.events_14d,
            events_30d := n.events_30d,
            events_60d := n.events_60d,
            events_90d := n.events_90d,
            events_lookback := n.events_lookback,
            active_days := n.active_days,
            freshness := n.freshness
        ))) as kinds
    from (
        select
            n.ds,
            n.user_id,
            n.name,
            sum(n.events_1d) as events_1d,
            sum(n.events_3d) as events_3d,
            sum(n.events_7d) as events_7d,
            sum(n.events_14d) as events_14d,
            sum(n.events_30d) as events_30d,
            sum(n.events_60d) as events_60d,
            sum(n.events_90d) as events_90d,
            sum(n.events_lookback) as events_lookback,
            cast(
                case when n.name = 'other' then max(o.kind_days) else sum(n.days) end as double
            ) as active_days,
            cast(1.0 / min(n.age) as double) as freshness
        from named as n
        left join user_other_days as o on n.ds = o.ds and n.user_id = o.user_id
        group by n.ds, n.user_id, n.name
    ) as n
    group by n.ds, n.user_id
),

final as (
    select
        ds,
        user_id,
        field_map(kinds, 'events_1d') as kind_events_1d,
        field_map(kinds, 'events_3d') as kind_events_3d,
        field_map(kinds, 'events_7d') as kind_events_7d,
        field_map(kinds, 'events_14d') as kind_events_14d,
        field_map(kinds, 'events_30d') as kind_events_30d,
        field_map(kinds, 'events_60d') as kind_events_60d,
        field_map(kinds, 'events_90d') as kind_events_90d,
        field_map(kinds, 'events_lookback') as kind_events_lookback,
        field_map(kinds, 'active_days') as kind_active_days,
        field_map(kinds, 'freshness') as kind_freshness
    from counted
)

select * from final
