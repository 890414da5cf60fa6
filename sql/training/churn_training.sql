with final as (
    select
        f.*,
        l.churned,
        l.days_to_next
    from churn_label as l
    inner join user_features as f on l.ds = f.ds and l.user_id = f.user_id
)

select * from final
