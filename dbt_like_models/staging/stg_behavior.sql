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
        number_entries(
            list_filter(pairs, lambda pair: regexp_matches(pair, '^hh[0-2][0-9]:'))
        ) as hours,
        number_entries(
            list_filter(pairs, lambda pair: not regexp_matches(pair, '^hh[0-2][0-9]:'))
        ) as amounts,
        kvs_str
    from source
),

final as (
    select
        ds,
        user_id,
        behavior,
        item_id,
        coalesce(
            nullif(list_sum(list_transform(hours, lambda hour: greatest(hour.v, 0))), 0), 1
        ) as events,
        as_map(hours) as hours,
        as_map(amounts) as amounts,
        kvs_strings(kvs_str) as kvs_str
    from split
)

select * from final
