with behaviors as (
    select * from stg_behavior
),

final as (
    select
        ds,
        user_id,
        item_id,
        sum(events) as events
    from behaviors
    where item_id is not null
    group by ds, user_id, item_id
)

select * from final
