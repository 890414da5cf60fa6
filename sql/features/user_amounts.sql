with named as (
    select
        h.*,
        case when r.is_named then h.amount_key else 'other' end as name
    from user_amount_history as h
    inner join amount_rank as r on h.ds = r.ds and h.amount_key = r.amount_key
    where h.days > 0
),

-- Sums of fractions depend on the order of the rows; their ninth decimal does not.
summed as (
    select
        ds,
        user_id,
        name,
        stable_sum(amount_1d) as amount_1d,
        stable_sum(amount_3d) as amount_3d,
        stable_sum(amount_7d) as amount_7d,
        stable_sum(amount_14d) as amount_14d,
        stable_sum(amount_30d) as amount_30d,
        stable_sum(amount_60d) as amount_60d,
        stable_sum(amount_90d) as amount_90d,
        round(sum(amount_30d) - sum(amount_31_to_60d), 9) as amount_trend_30d,
        stable_sum(amount_lookback) / sum(days) as amount_per_day
    from named
    group by ds, user_id, name
),

listed as (
    select
        ds,
        user_id,
        list_sort(list(struct_pack(
            k := name,
            amount_1d := amount_1d,
            amount_3d := amount_3d,
            amount_7d := amount_7d,
            amount_14d := amount_14d,
            amount_30d := amount_30d,
            amount_60d := amount_60d,
            amount_90d := amount_90d,
            amount_trend_30d := amount_trend_30d,
            amount_per_day := amount_per_day
        ))) as amounts
    from summed
    group by ds, user_id
),

final as (
    select
        ds,
        user_id,
        field_map(amounts, 'amount_1d') as amount_1d,
        field_map(amounts, 'amount_3d') as amount_3d,
        field_map(amounts, 'amount_7d') as amount_7d,
        field_map(amounts, 'amount_14d') as amount_14d,
        field_map(amounts, 'amount_30d') as amount_30d,
        field_map(amounts, 'amount_60d') as amount_60d,
        field_map(amounts, 'amount_90d') as amount_90d,
        field_map(amounts, 'amount_trend_30d') as amount_trend_30d,
        field_map(amounts, 'amount_per_day') as amount_per_day
    from listed
)

select * from final
