with kinds as (
    select
        ds,
        user_id,
        unnest(map_keys(kinds)) as kind
    from user_day
),

first_days as (
    select
        d.as_of as ds,
        k.user_id,
        k.kind,
        min(date_diff('day', d.as_of, k.ds)) as days
    from as_of_dates as d
    inner join kinds as k on d.as_of <= k.ds
    where date_diff('day', d.as_of, k.ds) < 90
    group by d.as_of, k.user_id, k.kind
),

ahead as (
    select
        ds,
        user_id,
        sorted_map(kind, cast(days as integer)) as days_to_behavior
    from first_days
    group by ds, user_id
),

final as (
    select
        f.*,
        a.days_to_behavior
    from user_features as f
    left join ahead as a on f.ds = a.ds and f.user_id = a.user_id
    where f.recency_days <= 90
)

select * from final
