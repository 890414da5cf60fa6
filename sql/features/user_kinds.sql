with kind_days as (
    select
        d.as_of as ds,
        u.user_id,
        date_diff('day', u.ds, d.as_of) as age,
        k.kind,
        u.kinds[k.kind] as events
    from as_of_dates as d
    cross join run_settings as s
    inner join user_day as u on u.ds < d.as_of
    cross join unnest(map_keys(u.kinds)) as k (kind)
    where date_diff('day', u.ds, d.as_of) <= s.lookback_days
),

ranked as (
    select
        ds,
        kind,
        row_number() over (partition by ds order by sum(events) desc, kind) as place
    from kind_days
    group by ds, kind
),

named as (
    select
        k.ds,
        k.user_id,
        k.age,
        k.events,
        case when r.place <= s.top_n then k.kind else 'other' end as kind
    from kind_days as k
    cross join run_settings as s
    inner join ranked as r on k.ds = r.ds and k.kind = r.kind
),

counted as (
    select
        ds,
        user_id,
        kind,
        coalesce(sum(events) filter (where age <= 1), 0) as events_1d,
        coalesce(sum(events) filter (where age <= 3), 0) as events_3d,
        coalesce(sum(events) filter (where age <= 7), 0) as events_7d,
        coalesce(sum(events) filter (where age <= 14), 0) as events_14d,
        coalesce(sum(events) filter (where age <= 30), 0) as events_30d,
        coalesce(sum(events) filter (where age <= 60), 0) as events_60d,
        coalesce(sum(events) filter (where age <= 90), 0) as events_90d,
        sum(events) as events_lookback,
        count(distinct age) as active_days,
        1.0 / min(age) as freshness
    from named
    group by ds, user_id, kind
),

final as (
    select
        ds,
        user_id,
        map_from_entries(list_sort(list(struct_pack(k := kind, v := events_1d)))) as kind_events_1d,
        map_from_entries(list_sort(list(struct_pack(k := kind, v := events_3d)))) as kind_events_3d,
        map_from_entries(list_sort(list(struct_pack(k := kind, v := events_7d)))) as kind_events_7d,
        map_from_entries(list_sort(list(struct_pack(k := kind, v := events_14d))))
            as kind_events_14d,
        map_from_entries(list_sort(list(struct_pack(k := kind, v := events_30d))))
            as kind_events_30d,
        map_from_entries(list_sort(list(struct_pack(k := kind, v := events_60d))))
            as kind_events_60d,
        map_from_entries(list_sort(list(struct_pack(k := kind, v := events_90d))))
            as kind_events_90d,
        map_from_entries(list_sort(list(struct_pack(k := kind, v := events_lookback))))
            as kind_events_lookback,
        map_from_entries(list_sort(list(struct_pack(k := kind, v := cast(active_days as double)))))
            as kind_active_days,
        map_from_entries(list_sort(list(struct_pack(k := kind, v := cast(freshness as double)))))
            as kind_freshness
    from counted
    group by ds, user_id
)

select * from final
