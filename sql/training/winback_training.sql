with final as (
    select
        f.*,
        l.item_id,
        l.target,
        p.* exclude (ds, user_id, item_id),
        l.days_to_return,
        l.days_to_return_on_item,
        l.same_day,
        l.same_day_on_item
    from winback_label as l
    inner join user_features as f on l.ds = f.ds and l.user_id = f.user_id
    left join user_item_features as p
        on l.ds = p.ds and l.user_id = p.user_id and l.item_id = p.item_id
    where l.target <> 'holdout'
)

select * from final
