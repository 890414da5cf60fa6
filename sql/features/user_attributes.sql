with snapshots as (
    select
        d.as_of,
        max(u.ds) as snapshot_ds
    from as_of_dates as d
    inner join (select distinct ds from stg_user) as u on u.ds < d.as_of
    group by d.as_of
),

final as (
    select
        s.as_of as ds,
        u.user_id,
        u.gender,
        u.age,
        u.user_type,
        date_diff('day', u.registered_on, s.as_of) as tenure_days,
        u.kvs_num as attribute_num,
        u.kvs_str as attribute_str
    from snapshots as s
    inner join stg_user as u on s.snapshot_ds = u.ds
)

select * from final
