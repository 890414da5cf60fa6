with aged as (
    select
        d.as_of as ds,
        u.user_id,
        u.kind,
        u.events,
        date_diff('day', u.ds, d.as_of) as age,
        s.lookback_days,
        s.history_days
    from as_of_dates as d
    cross join run_settings as s
    inner join user_kind_days as u on d.as_of > u.ds
    where date_diff('day', u.ds, d.as_of) <= greatest(s.history_days, s.lookback_days)
),

kind_days as (
    select
        ds,
        user_id,
        kind,
        events,
        case when age <= lookback_days then age end as age,
        case when age <= history_days then age end as history_age
    from aged
),

final as (
    select
        ds,
        user_id,
        kind,
        sum_where(events, age <= 1) as events_1d,
        sum_where(events, age <= 3) as events_3d,
        sum_where(events, age <= 7) as events_7d,
        sum_where(events, age <= 14) as events_14d,
        sum_where(events, age <= 30) as events_30d,
        sum_where(events, age <= 60) as events_60d,
        sum_where(events, age <= 90) as events_90d,
        sum(events) filter (where age > 0) as events_lookback,
        count(age) as days,
        min(age) as age,
        sum(events) filter (where history_age > 0) as history_events,
        count(history_age) as history_days,
        min(history_age) as history_age
    from kind_days
    group by ds, user_id, kind
)

select * from final
