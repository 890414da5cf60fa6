with behaviors as (
    select * from stg_behavior
),

snapshots as (
    select
        d.as_of,
        max(i.ds) as snapshot_ds
    from as_of_dates as d
    inner join (select distinct ds from item_category) as i on i.ds <= d.as_of
    group by d.as_of
),

totals as (
    select
        ds,
        user_id,
        sum(events) as events,
        count(distinct item_id) as items
    from behaviors
    group by ds, user_id
),

kinds as (
    select
        ds,
        user_id,
        sorted_map(behavior, events) as kinds
    from (
        select
            ds,
            user_id,
            behavior,
            sum(events) as events
        from behaviors
        group by ds, user_id, behavior
    ) as by_kind
    group by ds, user_id
),

amount_entries as (
    select
        ds,
        user_id,
        unnest(map_entries(amounts)) as entry
    from behaviors
),

amounts as (
    select
        ds,
        user_id,
        sorted_map(amount_key, amount) as amounts
    from (
        select
            ds,
            user_id,
            entry.key as amount_key,
            stable_sum(entry.value) as amount
        from amount_entries
        group by ds, user_id, entry.key
    ) as by_key
    group by ds, user_id
),

hour_entries as (
    select
        ds,
        user_id,
        unnest(map_entries(hours)) as entry
    from behaviors
),

hours as (
    select
        ds,
        user_id,
        sorted_map(hour_key, events) as hours
    from (
        select
            ds,
            user_id,
            entry.key as hour_key,
            sum(entry.value) as events
        from hour_entries
        group by ds, user_id, entry.key
    ) as by_hour
    group by ds, user_id
),

categories as (
    select
        b.ds,
        b.user_id,
        count(distinct concat(c.category_key, '=', c.category_value)) as categories
    from behaviors as b
    inner join snapshots as s on b.ds = s.as_of
    inner join item_category as c on s.snapshot_ds = c.ds and b.item_id = c.item_id
    group by b.ds, b.user_id
),

final as (
    select
        t.ds,
        t.user_id,
        t.events,
        t.items,
        coalesce(c.categories, 0) as categories,
        k.kinds,
        a.amounts,
        h.hours
    from totals as t
    inner join kinds as k on t.ds = k.ds and t.user_id = k.user_id
    left join amounts as a on t.ds = a.ds and t.user_id = a.user_id
    left join hours as h on t.ds = h.ds and t.user_id = h.user_id
    left join categories as c on t.ds = c.ds and t.user_id = c.user_id
)

select * from final
