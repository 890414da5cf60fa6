with source as (
    select * from raw_operation
),

final as (
    select
        ds,
        user_id,
        target,
        item_id,
        kvs_numbers(kvs_num) as kvs_num,
        kvs_strings(kvs_str) as kvs_str
    from source
)

select * from final
