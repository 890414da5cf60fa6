with entries as (
    select
        ds,
        user_id,
        unnest(map_entries(hours)) as entry
    from user_day
),

final as (
    select
        ds,
        user_id,
        cast(substring(entry.key, 3, 2) as integer) as hour_of_day,
        entry.value as events
    from entries
)

select * from final
