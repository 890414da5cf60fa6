with history as (
    select
        d.as_of as ds,
        u.user_id,
        date_diff('day', u.ds, d.as_of) as age,
        u.events
    from as_of_dates as d
    cross join run_settings as s
    inner join user_event_days as u on d.as_of > u.ds
    where date_diff('day', u.ds, d.as_of) <= s.history_days
),

users as (
    select
        ds,
        user_id,
        sum(events) as events,
        count(*) as active_days,
        max(age) as first_age
    from history
    group by ds, user_id
),

-- A log that is younger than the history grows under the totals, which would drift from one
-- snapshot to the next; at the rate of the landed days they stay comparable.
landed as (
    select
        u.ds,
        max(u.first_age) as days,
        max(s.lookback_days) / max(u.first_age) as scale
    from users as u
    cross join run_settings as s
    group by u.ds
),

totals as (
    select
        u.ds,
        u.user_id,
        u.events * l.scale as history_events,
        u.active_days * l.scale as history_active_days,
        u.first_age / l.days as history_span_share
    from users as u
    inner join landed as l on u.ds = l.ds
),

amount_sums as (
    select
        h.ds,
        h.user_id,
        case when r.is_named_in_history then h.amount_key else 'other' end as k,
        stable_sum(h.history_amount) as total,
        sum(h.history_days) as days,
        cast(1.0 / min(h.history_age) as double) as freshness
    from user_amount_history as h
    inner join amount_rank as r on h.ds = r.ds and h.amount_key = r.amount_key
    where h.history_days > 0
    group by
        h.ds, h.user_id, case when r.is_named_in_history then h.amount_key else 'other' end
),

amounts as (
    select
        a.ds,
        a.user_id,
        list_sort(list(struct_pack(
            k := a.k,
            total := a.total * l.scale,
            days := cast(
                case when a.k = 'other' then o.amount_history_days else a.days end as double
            ),
            freshness := a.freshness
        ))) as entries
    from amount_sums as a
    inner join landed as l on a.ds = l.ds
    left join user_other_days as o on a.ds = o.ds and a.user_id = o.user_id
    group by a.ds, a.user_id
),

kind_sums as (
    select
        h.ds,
        h.user_id,
        case when r.is_named_in_history then h.kind else 'other' end as k,
        sum(h.history_events) as total,
        sum(h.history_days) as days,
        cast(1.0 / min(h.history_age) as double) as freshness
    from user_kind_history as h
    inner join kind_rank as r on h.ds = r.ds and h.kind = r.kind
    where h.history_days > 0
    group by h.ds, h.user_id, case when r.is_named_in_history then h.kind else 'other' end
),

kinds as (
    select
        c.ds,
        c.user_id,
        list_sort(list(struct_pack(
            k := c.k,
            total := c.total * l.scale,
            days := cast(
                case when c.k = 'other' then o.kind_history_days else c.days end as double
            ),
            freshness := c.freshness
        ))) as entries
    from kind_sums as c
    inner join landed as l on c.ds = l.ds
    left join user_other_days as o on c.ds = o.ds and c.user_id = o.user_id
    group by c.ds, c.user_id
),

final as (
    select
        t.*,
        field_map(a.entries, 'total') as history_amounts,
        field_map(a.entries, 'days') as history_amount_days,
        field_map(a.entries, 'freshness') as history_amount_freshness,
        field_map(k.entries, 'total') as history_kinds,
        field_map(k.entries, 'days') as history_kind_days,
        field_map(k.entries, 'freshness') as history_kind_freshness
    from totals as t
    left join amounts as a on t.ds = a.ds and t.user_id = a.user_id
    left join kinds as k on t.ds = k.ds and t.user_id = k.user_id
)

select * from final
