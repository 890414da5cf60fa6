with history as (
    select
        d.as_of as ds,
        u.user_id,
        u.ds as day,
        date_diff('day', u.ds, d.as_of) as age,
        date_diff('day', cast('1970-01-05' as date), u.ds) % 7 as weekday,
        u.events,
        date_diff(
            'day',
            lag(u.ds) over (partition by d.as_of, u.user_id order by u.ds),
            u.ds
        ) as gap
    from as_of_dates as d
    cross join run_settings as s
    inner join user_event_days as u on u.ds < d.as_of
    where date_diff('day', u.ds, d.as_of) <= s.lookback_days
),

windows as (
    select
        ds,
        user_id,
        min(age) as recency_days,
        max(age) as first_seen_days,
        sum_where(events, age <= 1) as events_1d,
        sum_where(events, age <= 3) as events_3d,
        sum_where(events, age <= 7) as events_7d,
        sum_where(events, age <= 14) as events_14d,
        sum_where(events, age <= 30) as events_30d,
        sum_where(events, age <= 60) as events_60d,
        sum_where(events, age <= 90) as events_90d,
        sum(events) as events_lookback,
        count(*) filter (where age <= 3) as active_days_3d,
        count(*) filter (where age <= 7) as active_days_7d,
        count(*) filter (where age <= 14) as active_days_14d,
        count(*) filter (where age <= 30) as active_days_30d,
        count(*) filter (where age <= 60) as active_days_60d,
        count(*) filter (where age <= 90) as active_days_90d,
        count(*) as active_days_lookback,
        sum_where(events, age <= 7)
        - sum_where(events, age between 8 and 14) as events_trend_7d,
        sum_where(events, age <= 30)
        - sum_where(events, age between 31 and 60) as events_trend_30d,
        count(*) filter (where age <= 14)
        - count(*) filter (where age between 15 and 28) as active_days_trend_14d,
        count(*) filter (where age <= 30)
        - count(*) filter (where age between 31 and 60) as active_days_trend_30d,
        avg(gap) as gap_mean_days,
        round(stddev_samp(gap), 9) as gap_sd_days,
        max(gap) as gap_max_days,
        avg(gap) filter (where age <= 30) as gap_mean_30d,
        max_by(gap, age * -1) as gap_last_days,
        min(age) / nullif(avg(gap), 0) as recency_over_gap,
        (min(age) - avg(gap)) / nullif(round(stddev_samp(gap), 9), 0) as recency_gap_z,
        max(age) / count(*) as span_per_active_day,
        sum(events) / count(*) as events_per_active_day,
        count(*) filter (where weekday = 0) / count(*) as weekday_share_mon,
        count(*) filter (where weekday = 1) / count(*) as weekday_share_tue,
        count(*) filter (where weekday = 2) / count(*) as weekday_share_wed,
        count(*) filter (where weekday = 3) / count(*) as weekday_share_thu,
        count(*) filter (where weekday = 4) / count(*) as weekday_share_fri,
        count(*) filter (where weekday = 5) / count(*) as weekday_share_sat,
        count(*) filter (where weekday = 6) / count(*) as weekday_share_sun
    from history
    group by ds, user_id
),

final as (
    select
        *,
        date_diff('day', cast('1970-01-05' as date), ds) % 7 as as_of_weekday
    from windows
)

select * from final
