with pairs as (
    select * from user_item_pairs
),

pair_items as (
    select distinct
        ds,
        item_id
    from pairs
),

final as (
    select
        p.ds,
        p.item_id,
        c.category_key,
        c.category_value
    from pair_items as p
    inner join item_snapshot as s on p.ds = s.ds
    inner join item_category as c on s.snapshot_ds = c.ds and p.item_id = c.item_id
)

select * from final
