with population as (
    select distinct
        d.as_of as ds,
        u.user_id
    from as_of_dates as d
    cross join run_settings as s
    inner join user_day as u on u.ds < d.as_of
    where date_diff('day', u.ds, d.as_of) <= s.active_days
),

next_days as (
    select
        d.as_of as ds,
        u.user_id,
        min(date_diff('day', d.as_of, u.ds)) as days_to_next
    from as_of_dates as d
    cross join run_settings as s
    inner join user_day as u on u.ds >= d.as_of
    where date_diff('day', d.as_of, u.ds) < s.label_horizon_days
    group by d.as_of, u.user_id
),

final as (
    select
        p.ds,
        p.user_id,
        has_churned(n.days_to_next, s.churn_days) as churned,
        cast(n.days_to_next as integer) as days_to_next
    from population as p
    cross join run_settings as s
    left join next_days as n on p.ds = n.ds and p.user_id = n.user_id
)

select * from final
