with final as (
    select
        d.as_of as ds,
        max(i.ds) as snapshot_ds
    from as_of_dates as d
    inner join (select distinct ds from item_category) as i on i.ds < d.as_of
    group by d.as_of
)

select * from final
