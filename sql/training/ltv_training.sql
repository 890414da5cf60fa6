with amounts as (
    select
        d.as_of as ds,
        u.user_id,
        u.amount_key,
        u.amount,
        date_diff('day', d.as_of, u.ds) as days
    from as_of_dates as d
    inner join user_amount_days as u on d.as_of <= u.ds
    where date_diff('day', d.as_of, u.ds) < 180
),

summed as (
    select
        ds,
        user_id,
        amount_key,
        round(sum_where(amount, days < 30), 9) as month_1,
        round(sum_where(amount, days between 30 and 59), 9) as month_2,
        round(sum_where(amount, days between 60 and 89), 9) as month_3,
        round(sum_where(amount, days between 90 and 119), 9) as month_4,
        round(sum_where(amount, days between 120 and 149), 9) as month_5,
        round(sum_where(amount, days >= 150), 9) as month_6
    from amounts
    group by ds, user_id, amount_key
),

ahead as (
    select
        ds,
        user_id,
        sorted_map(amount_key, month_1) as amount_month_1,
        sorted_map(amount_key, month_2) as amount_month_2,
        sorted_map(amount_key, month_3) as amount_month_3,
        sorted_map(amount_key, month_4) as amount_month_4,
        sorted_map(amount_key, month_5) as amount_month_5,
        sorted_map(amount_key, month_6) as amount_month_6
    from summed
    group by ds, user_id
),

final as (
    select
        f.*,
        a.amount_month_1,
        a.amount_month_2,
        a.amount_month_3,
        a.amount_month_4,
        a.amount_month_5,
        a.amount_month_6
    from user_features as f
    left join ahead as a on f.ds = a.ds and f.user_id = a.user_id
    where f.recency_days <= 90
)

select * from final
