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
        map_from_entries(list_transform(
            string_split(kvs_num, ' '),
            lambda pair: struct_pack(
                k := split_part(pair, ':', 1),
                v := cast(split_part(pair, ':', 2) as double)
            )
        )) as kvs_num,
        map_from_entries(list_transform(
            string_split(kvs_str, ' '),
            lambda pair: struct_pack(
                k := split_part(pair, ':', 1),
                v := split_part(pair, ':', 2)
            )
        )) as kvs_str
    from source
)

select * from final
