with pairs as (
    select * from user_item_pairs
),

pair_users as (
    select distinct
        ds,
        user_id
    from pairs
),

final as (
    select
        p.ds,
        p.user_id,
        u.item_id,
        sum(u.events) as events,
        sum_where(u.events, date_diff('day', u.ds, p.ds) <= 30) as events_30d,
        min(date_diff('day', u.ds, p.ds)) as age
    from pair_users as p
    cross join run_settings as s
    inner join user_item_days as u on p.user_id = u.user_id and u.ds < p.ds
    where date_diff('day', u.ds, p.ds) <= s.lookback_days
    group by p.ds, p.user_id, u.item_id
)

select * from final
