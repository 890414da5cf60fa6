with final as (
    select
        d.as_of as ds,
        u.user_id,
        u.item_id,
        sum(u.events) as events,
        sum_where(u.events, date_diff('day', u.ds, d.as_of) <= 30) as events_30d,
        min(date_diff('day', u.ds, d.as_of)) as age
    from as_of_dates as d
    cross join run_settings as s
    inner join user_item_days as u on u.ds < d.as_of
    where date_diff('day', u.ds, d.as_of) <= s.lookback_days
    group by d.as_of, u.user_id, u.item_id
)

select * from final
