with hourly as (
    select
        d.as_of as ds,
        u.user_id,
        u.hour_of_day,
        sum(u.events) as events
    from as_of_dates as d
    cross join run_settings as s
    inner join user_hour_days as u on u.ds < d.as_of
    where date_diff('day', u.ds, d.as_of) <= s.lookback_days
    group by d.as_of, u.user_id, u.hour_of_day
),

final as (
    select
        ds,
        user_id,
        cast(max_by(hour_of_day, events * 100 - hour_of_day) as integer) as peak_hour,
        share_where(events, hour_of_day < 6) as hour_share_night,
        share_where(events, hour_of_day between 6 and 11) as hour_share_morning,
        share_where(events, hour_of_day between 12 and 17) as hour_share_afternoon,
        share_where(events, hour_of_day >= 18) as hour_share_evening
    from hourly
    group by ds, user_id
)

select * from final
