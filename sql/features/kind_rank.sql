with totals as (
    select
        ds,
        kind,
        sum(events_lookback) as events,
        sum(history_events) as history_events
    from user_kind_history
    group by ds, kind
),

final as (
    select
        t.ds,
        t.kind,
        row_number() over (
            partition by t.ds order by t.events desc nulls last, t.kind asc
        ) <= s.top_n and t.kind <> 'other' as is_named,
        row_number() over (
            partition by t.ds order by t.history_events desc nulls last, t.kind asc
        ) <= s.top_n and t.kind <> 'other' as is_named_in_history
    from totals as t
    cross join run_settings as s
)

select * from final
