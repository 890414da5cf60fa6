with final as (
    select
        ds,
        user_id,
        item_id,
        events
    from user_item_day
)

select * from final
