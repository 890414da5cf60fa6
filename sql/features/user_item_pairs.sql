with planned as (
    select
        d.as_of as ds,
        o.user_id,
        o.item_id
    from as_of_dates as d
    inner join stg_operation as o on d.as_of = o.ds
    where o.item_id is not null
),

uploaded as (
    select
        d.as_of as ds,
        p.user_id,
        p.item_id
    from as_of_dates as d
    inner join population as p on d.as_of = p.ds
),

final as (
    select
        ds,
        user_id,
        item_id
    from planned
    union distinct
    select
        ds,
        user_id,
        item_id
    from uploaded
)

select * from final
