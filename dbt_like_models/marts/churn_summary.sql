with labels as (
    select * from churn_label
),

final as (
    select
        ds,
        count(*) as users,
        count(*) filter (where churned) as churned_users,
        count(*) filter (where churned) / count(*) as churn_rate
    from labels
    group by ds
)

select * from final
