with source as (
    select
        *,
        string_split(kvs_num, ' ') as pairs
    from raw_behavior
),

split as (
    select
        ds,
        user_id,
        behavior,
        item_id,
        map_from_entries(list_transform(
            list_filter(pairs, lambda pair: regexp_matches(pair, '^hh[0-2][0-9]:')),
            lambda pair: struct_pack(
                k := split_part(pair, ':', 1),
                v := cast(split_part(pair, ':', 2) as double)
            )
        )) as hours,
        map_from_entries(list_transform(
            list_filter(pairs, lambda pair: not regexp_matches(pair, '^hh[0-2][0-9]:')),
            lambda pair: struct_pack(
                k := split_part(pair, ':', 1),
                v := cast(split_part(pair, ':', 2) as double)
            )
        )) as amounts,
        map_from_entries(list_transform(
            string_split(kvs_str, ' '),
            lambda pair: struct_pack(
                k := split_part(pair, ':', 1),
                v := split_part(pair, ':', 2)
            )
        )) as kvs_str
    from source
),

final as (
    select
        ds,
        user_id,
        behavior,
        item_id,
        coalesce(
            nullif(list_sum(list_transform(map_values(hours), lambda n: greatest(n, 0))), 0), 1
        ) as events,
        hours,
        amounts,
        kvs_str
    from split
)

select * from final
