with touches as (
    select
        d.as_of as ds,
        o.user_id,
        o.ds as touched_on,
        o.target,
        o.item_id
    from as_of_dates as d
    cross join run_settings as s
    inner join stg_operation as o on d.as_of > o.ds
    where date_diff('day', o.ds, d.as_of) <= s.history_days and o.target <> 'holdout'
    group by d.as_of, o.user_id, o.ds, o.target, o.item_id
),

answered as (
    select distinct
        t.ds,
        t.user_id,
        t.touched_on,
        t.target,
        t.item_id
    from touches as t
    inner join user_item_day as u
        on
            t.user_id = u.user_id
            and t.item_id = u.item_id
            and t.touched_on < u.ds
            and t.ds > u.ds
),

final as (
    select
        t.ds,
        t.user_id,
        t.touched_on,
        t.target,
        t.item_id,
        date_diff('day', t.touched_on, t.ds) as age,
        a.user_id is not null as answered_on_item
    from touches as t
    left join answered as a
        on
            t.ds = a.ds
            and t.user_id = a.user_id
            and t.touched_on = a.touched_on
            and t.target = a.target
            and t.item_id = a.item_id
)

select * from final
