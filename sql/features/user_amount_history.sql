with aged as (
    select
        d.as_of as ds,
        u.user_id,
        u.amount_key,
        u.amount,
        date_diff('day', u.ds, d.as_of) as age,
        s.lookback_days,
        s.history_days
    from as_of_dates as d
    cross join run_settings as s
    inner join user_amount_days as u on d.as_of > u.ds
    where date_diff('day', u.ds, d.as_of) <= greatest(s.history_days, s.lookback_days)
),

amount_days as (
    select
        ds,
        user_id,
        amount_key,
        amount,
        case when age <= lookback_days then age end as age,
        case when age <= history_days then age end as history_age
    from aged
),

final as (
    select
        ds,
        user_id,
        amount_key,
        sum_where(amount, age <= 1) as amount_1d,
        sum_where(amount, age <= 3) as amount_3d,
        sum_where(amount, age <= 7) as amount_7d,
        sum_where(amount, age <= 14) as amount_14d,
        sum_where(amount, age <= 30) as amount_30d,
        sum_where(amount, age <= 60) as amount_60d,
        sum_where(amount, age <= 90) as amount_90d,
        sum_where(amount, age between 31 and 60) as amount_31_to_60d,
        sum(amount) filter (where age > 0) as amount_lookback,
        count(age) as days,
        sum(amount) filter (where history_age > 0) as history_amount,
        count(history_age) as history_days,
        min(history_age) as history_age
    from amount_days
    group by ds, user_id, amount_key
)

select * from final
