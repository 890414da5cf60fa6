with entries as (
    select
        ds,
        user_id,
        unnest(map_entries(kinds)) as entry
    from user_day
),

final as (
    select
        ds,
        user_id,
        entry.key as kind,
        entry.value as events
    from entries
)

select * from final
