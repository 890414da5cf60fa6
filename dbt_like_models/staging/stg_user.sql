with source as (
    select * from raw_user
),

final as (
    select
        ds,
        user_id,
        gender,
        age,
        cast(strptime(reg_time, '%Y%m%d') as date) as registered_on,
        user_type,
        kvs_numbers(kvs_num) as kvs_num,
        kvs_strings(kvs_str) as kvs_str
    from source
)

select * from final
