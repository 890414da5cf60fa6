with items as (
    select * from stg_item
),

keyed as (
    select
        i.ds,
        i.item_id,
        k.category_key,
        i.kvs_str[k.category_key] as category_values
    from items as i
    cross join unnest(map_keys(i.kvs_str)) as k (category_key)
),

final as (
    select distinct
        i.ds,
        i.item_id,
        i.category_key,
        v.category_value
    from keyed as i
    cross join unnest(string_split(i.category_values, '|')) as v (category_value)
)

select * from final
