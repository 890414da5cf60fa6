with history as (
    select
        d.as_of as ds,
        u.user_id,
        date_diff('day', u.ds, d.as_of) as age,
        u.events,
        u.kinds,
        u.amounts
    from as_of_dates as d
    cross join run_settings as s
    inner join user_day as u on d.as_of > u.ds
    where date_diff('day', u.ds, d.as_of) <= s.history_days
),

-- A log that is younger than the history grows under the totals, which would drift from one
-- snapshot to the next; at the rate of the landed days they stay comparable.
landed as (
    select
        h.ds,
        max(h.age) as days,
        max(s.lookback_days) / max(h.age) as scale
    from history as h
    cross join run_settings as s
    group by h.ds
),

totals as (
    select
        h.ds,
        h.user_id,
        sum(h.events) * max(l.scale) as history_events,
        count(*) * max(l.scale) as history_active_days,
        max(h.age) / max(l.days) as history_span_share
    from history as h
    inner join landed as l on h.ds = l.ds
    group by h.ds, h.user_id
),

amount_days as (
    select
        h.ds,
        h.user_id,
        h.age,
        k.amount_key,
        h.amounts[k.amount_key] as amount
    from history as h
    cross join unnest(map_keys(h.amounts)) as k (amount_key)
),

amount_ranks as (
    select
        ds,
        amount_key,
        row_number() over (partition by ds order by count(*) desc, amount_key) as place
    from amount_days
    group by ds, amount_key
),

amount_sums as (
    select
        a.ds,
        a.user_id,
        case when r.place <= s.top_n then a.amount_key else 'other' end as k,
        round(sum(a.amount), 9) * max(l.scale) as total,
        cast(count(distinct a.age) as double) as days,
        cast(1.0 / min(a.age) as double) as freshness
    from amount_days as a
    cross join run_settings as s
    inner join landed as l on a.ds = l.ds
    inner join amount_ranks as r on a.ds = r.ds and a.amount_key = r.amount_key
    group by a.ds, a.user_id, case when r.place <= s.top_n then a.amount_key else 'other' end
),

amounts as (
    select
        ds,
        user_id,
        map_from_entries(list_sort(list(struct_pack(k := k, v := total)))) as history_amounts,
        map_from_entries(list_sort(list(struct_pack(k := k, v := days)))) as history_amount_days,
        map_from_entries(list_sort(list(struct_pack(k := k, v := freshness))))
            as history_amount_freshness
    from amount_sums
    group by ds, user_id
),

kind_days as (
    select
        h.ds,
        h.user_id,
        h.age,
        k.kind,
        h.kinds[k.kind] as events
    from history as h
    cross join unnest(map_keys(h.kinds)) as k (kind)
),

kind_ranks as (
    select
        ds,
        kind,
        row_number() over (partition by ds order by sum(events) desc, kind) as place
    from kind_days
    group by ds, kind
),

kind_sums as (
    select
        d.ds,
        d.user_id,
        case when r.place <= s.top_n then d.kind else 'other' end as k,
        sum(d.events) * max(l.scale) as total,
        cast(count(distinct d.age) as double) as days,
        cast(1.0 / min(d.age) as double) as freshness
    from kind_days as d
    cross join run_settings as s
    inner join landed as l on d.ds = l.ds
    inner join kind_ranks as r on d.ds = r.ds and d.kind = r.kind
    group by d.ds, d.user_id, case when r.place <= s.top_n then d.kind else 'other' end
),

kinds as (
    select
        ds,
        user_id,
        map_from_entries(list_sort(list(struct_pack(k := k, v := total)))) as history_kinds,
        map_from_entries(list_sort(list(struct_pack(k := k, v := days)))) as history_kind_days,
        map_from_entries(list_sort(list(struct_pack(k := k, v := freshness))))
            as history_kind_freshness
    from kind_sums
    group by ds, user_id
),

final as (
    select
        t.*,
        a.history_amounts,
        a.history_amount_days,
        a.history_amount_freshness,
        k.history_kinds,
        k.history_kind_days,
        k.history_kind_freshness
    from totals as t
    left join amounts as a on t.ds = a.ds and t.user_id = a.user_id
    left join kinds as k on t.ds = k.ds and t.user_id = k.user_id
)

select * from final
