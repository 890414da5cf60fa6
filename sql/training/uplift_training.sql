with drawn as (
    select
        ds,
        user_id,
        item_id,
        target,
        min(kvs_num['propensity']) as propensity,
        min(kvs_str['channel']) as channel
    from stg_operation
    group by ds, user_id, item_id, target
),

final as (
    select
        f.*,
        l.item_id,
        l.target,
        d.channel,
        l.target <> 'holdout' as treated,
        d.propensity,
        p.* exclude (ds, user_id, item_id),
        l.days_to_return,
        l.days_to_return_on_item,
        l.same_day,
        l.same_day_on_item
    from winback_label as l
    inner join drawn as d
        on
            l.ds = d.ds
            and l.user_id = d.user_id
            and l.target = d.target
            and l.item_id is not distinct from d.item_id
    inner join user_features as f on l.ds = f.ds and l.user_id = f.user_id
    left join user_item_features as p
        on l.ds = p.ds and l.user_id = p.user_id and l.item_id = p.item_id
)

select * from final
