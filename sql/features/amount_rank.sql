with totals as (
    select
        ds,
        amount_key,
        sum(days) as days,
        sum(history_days) as history_days
    from user_amount_history
    group by ds, amount_key
),

final as (
    select
        t.ds,
        t.amount_key,
        row_number() over (
            partition by t.ds order by t.days desc, t.amount_key asc
        ) <= s.top_n and t.amount_key <> 'other' as is_named,
        row_number() over (
            partition by t.ds order by t.history_days desc, t.amount_key asc
        ) <= s.top_n and t.amount_key <> 'other' as is_named_in_history
    from totals as t
    cross join run_settings as s
)

select * from final
