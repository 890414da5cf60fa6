with histories as (
    select * from pair_item_history
),

final as (
    select
        h.ds,
        h.user_id,
        c.category_key,
        c.category_value,
        sum(h.events) as events,
        sum(h.events_30d) as events_30d,
        min(h.age) as age
    from histories as h
    inner join item_snapshot as s on h.ds = s.ds
    inner join item_category as c on s.snapshot_ds = c.ds and h.item_id = c.item_id
    group by h.ds, h.user_id, c.category_key, c.category_value
)

select * from final
