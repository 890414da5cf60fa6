with source as (
    select * from raw_item
),

final as (
    select
        ds,
        item_id,
        kvs_numbers(kvs_num) as kvs_num,
        kvs_strings(kvs_str) as kvs_str
    from source
)

select * from final
