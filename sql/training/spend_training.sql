with amounts as (
    select
        d.as_of as ds,
        u.user_id,
        u.amount_key,
        u.amount,
        date_diff('day', d.as_of, u.ds) as days
    from as_of_dates as d
    inner join user_amount_days as u on d.as_of <= u.ds
    where date_diff('day', d.as_of, u.ds) < 90
),

summed as (
    select
        ds,
        user_id,
        amount_key,
        round(sum_where(amount, days < 7), 9) as amount_7d,
        round(sum_where(amount, days < 14), 9) as amount_14d,
        round(sum_where(amount, days < 30), 9) as amount_30d,
        round(sum_where(amount, days < 60), 9) as amount_60d,
        round(sum_where(amount, days < 90), 9) as amount_90d
    from amounts
    group by ds, user_id, amount_key
),

ahead as (
    select
        ds,
        user_id,
        sorted_map(amount_key, amount_7d) as amount_next_7d,
        sorted_map(amount_key, amount_14d) as amount_next_14d,
        sorted_map(amount_key, amount_30d) as amount_next_30d,
        sorted_map(amount_key, amount_60d) as amount_next_60d,
        sorted_map(amount_key, amount_90d) as amount_next_90d
    from summed
    group by ds, user_id
),

final as (
    select
        f.*,
        a.amount_next_7d,
        a.amount_next_14d,
        a.amount_next_30d,
        a.amount_next_60d,
        a.amount_next_90d
    from user_features as f
    left join ahead as a on f.ds = a.ds and f.user_id = a.user_id
    where f.recency_days <= 90
)

select * from final
