with pairs as (
    select * from user_item_pairs
),

pair_items as (
    select distinct
        ds,
        item_id
    from pairs
),

histories as (
    select
        p.ds,
        p.item_id,
        u.user_id,
        sum(u.events) as events,
        sum_where(u.events, date_diff('day', u.ds, p.ds) <= 30) as events_30d
    from pair_items as p
    cross join run_settings as s
    inner join user_item_days as u on p.item_id = u.item_id and u.ds < p.ds
    where date_diff('day', u.ds, p.ds) <= s.lookback_days
    group by p.ds, p.item_id, u.user_id
),

final as (
    select
        ds,
        item_id,
        count(*) as users,
        sum(events) as events,
        sum(events_30d) as events_30d
    from histories
    group by ds, item_id
)

select * from final
