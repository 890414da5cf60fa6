with entries as (
    select
        ds,
        user_id,
        unnest(map_entries(amounts)) as entry
    from user_day
),

final as (
    select
        ds,
        user_id,
        entry.key as amount_key,
        entry.value as amount
    from entries
)

select * from final
