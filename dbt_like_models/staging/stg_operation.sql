with source as (
    select * from raw_operation
),

final as (
    select
        ds,
        user_id,
        target,
        item_id,
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
