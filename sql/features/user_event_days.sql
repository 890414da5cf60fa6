with final as (
    select
        ds,
        user_id,
        events
    from user_day
)

select * from final
