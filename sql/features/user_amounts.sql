with amount_days as (
    select
        d.as_of as ds,
        u.user_id,
        date_diff('day', u.ds, d.as_of) as age,
        k.amount_key,
        u.amounts[k.amount_key] as amount
    from as_of_dates as d
    cross join run_settings as s
    inner join user_day as u on u.ds < d.as_of
    cross join unnest(map_keys(u.amounts)) as k (amount_key)
    where date_diff('day', u.ds, d.as_of) <= s.lookback_days
),

ranked as (
    select
        ds,
        amount_key,
        row_number() over (partition by ds order by count(*) desc, amount_key) as place
    from amount_days
    group by ds, amount_key
),

named as (
    select
        a.ds,
        a.user_id,
        a.age,
        a.amount,
        case when r.place <= s.top_n then a.amount_key else 'other' end as amount_key
    from amount_days as a
    cross join run_settings as s
    inner join ranked as r on a.ds = r.ds and a.amount_key = r.amount_key
),

-- Sums of fractions depend on the order of the rows; their ninth decimal does not.
summed as (
    select
        ds,
        user_id,
        amount_key as k,
        round(coalesce(sum(amount) filter (where age <= 1), 0), 9) as amount_1d,
        round(coalesce(sum(amount) filter (where age <= 3), 0), 9) as amount_3d,
        round(coalesce(sum(amount) filter (where age <= 7), 0), 9) as amount_7d,
        round(coalesce(sum(amount) filter (where age <= 14), 0), 9) as amount_14d,
        round(coalesce(sum(amount) filter (where age <= 30), 0), 9) as amount_30d,
        round(coalesce(sum(amount) filter (where age <= 60), 0), 9) as amount_60d,
        round(coalesce(sum(amount) filter (where age <= 90), 0), 9) as amount_90d,
        round(
            coalesce(sum(amount) filter (where age <= 30), 0)
            - coalesce(sum(amount) filter (where age between 31 and 60), 0), 9
        ) as amount_trend_30d,
        round(sum(amount), 9) / count(amount) as amount_per_day
    from named
    group by ds, user_id, amount_key
),

final as (
    select
        ds,
        user_id,
        map_from_entries(list_sort(list(struct_pack(k := k, v := amount_1d)))) as amount_1d,
        map_from_entries(list_sort(list(struct_pack(k := k, v := amount_3d)))) as amount_3d,
        map_from_entries(list_sort(list(struct_pack(k := k, v := amount_7d)))) as amount_7d,
        map_from_entries(list_sort(list(struct_pack(k := k, v := amount_14d)))) as amount_14d,
        map_from_entries(list_sort(list(struct_pack(k := k, v := amount_30d)))) as amount_30d,
        map_from_entries(list_sort(list(struct_pack(k := k, v := amount_60d)))) as amount_60d,
        map_from_entries(list_sort(list(struct_pack(k := k, v := amount_90d)))) as amount_90d,
        map_from_entries(list_sort(list(struct_pack(k := k, v := amount_trend_30d))))
            as amount_trend_30d,
        map_from_entries(list_sort(list(struct_pack(k := k, v := amount_per_day))))
            as amount_per_day
    from summed
    group by ds, user_id
)

select * from final
