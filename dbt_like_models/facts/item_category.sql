with items as (
    select * from stg_item
),

entries as (
    select
        ds,
        item_id,
        unnest(map_entries(kvs_str)) as entry
    from items
),

final as (
    select
        ds,
        item_id,
        entry.key as category_key,
        unnest(list_distinct(string_split(entry.value, '|'))) as category_value
    from entries
)

select * from final
