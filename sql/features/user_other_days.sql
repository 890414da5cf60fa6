-- Where every kind and key has its name, both joins are with nothing and read no day.
with days as (
    select
        d.as_of,
        s.lookback_days,
        s.history_days
    from as_of_dates as d
    cross join run_settings as s
),

kind_days as (
    select
        d.as_of as ds,
        u.user_id,
        count(distinct u.ds) filter (
            where not r.is_named and date_diff('day', u.ds, d.as_of) <= d.lookback_days
        ) as kind_days,
        count(distinct u.ds) filter (
            where not r.is_named_in_history and date_diff('day', u.ds, d.as_of) <= d.history_days
        ) as kind_history_days
    from kind_rank as r
    inner join days as d on r.ds = d.as_of
    inner join user_kind_days as u on r.kind = u.kind and d.as_of > u.ds
    where
        not (r.is_named and r.is_named_in_history)
        and date_diff('day', u.ds, d.as_of) <= greatest(d.lookback_days, d.history_days)
    group by d.as_of, u.user_id
),

amount_days as (
    select
        d.as_of as ds,
        u.user_id,
        count(distinct u.ds) as amount_history_days
    from amount_rank as r
    inner join days as d on r.ds = d.as_of
    inner join user_amount_days as u on r.amount_key = u.amount_key and d.as_of > u.ds
    where
        not r.is_named_in_history
        and date_diff('day', u.ds, d.as_of) <= d.history_days
    group by d.as_of, u.user_id
),

final as (
    select
        coalesce(k.ds, a.ds) as ds,
        coalesce(k.user_id, a.user_id) as user_id,
        k.kind_days,
        k.kind_history_days,
        a.amount_history_days
    from kind_days as k
    full join amount_days as a on k.ds = a.ds and k.user_id = a.user_id
)

select * from final
