with pairs as (
    select * from user_item_pairs
),

own as (
    select
        p.ds,
        p.user_id,
        p.item_id,
        h.events as item_events,
        h.events_30d as item_events_30d,
        h.age as item_recency_days
    from pairs as p
    inner join pair_item_history as h
        on p.ds = h.ds and p.user_id = h.user_id and p.item_id = h.item_id
),

popularity as (
    select
        ds,
        item_id,
        users as item_users,
        events as item_all_events,
        events_30d as item_all_events_30d,
        events_30d / nullif(events, 0) as item_trend
    from pair_item_popularity
),

pair_items as (
    select distinct
        ds,
        item_id
    from pairs
),

item_categories as (
    select * from pair_item_categories
),

key_totals as (
    select
        ds,
        user_id,
        category_key,
        sum(events) as events,
        sum(events_30d) as events_30d
    from pair_user_categories
    group by ds, user_id, category_key
),

matched as (
    select
        p.ds,
        p.user_id,
        p.item_id,
        c.category_key,
        sum(u.events) as events,
        sum(u.events_30d) as events_30d,
        min(u.age) as age,
        count(*) as shared
    from pairs as p
    inner join item_categories as c on p.ds = c.ds and p.item_id = c.item_id
    inner join pair_user_categories as u
        on
            p.ds = u.ds
            and p.user_id = u.user_id
            and c.category_key = u.category_key
            and c.category_value = u.category_value
    group by p.ds, p.user_id, p.item_id, c.category_key
),

affinity as (
    select
        m.ds,
        m.user_id,
        m.item_id,
        sorted_map(m.category_key, m.events / nullif(t.events, 0)) as affinity_share,
        sorted_map(m.category_key, m.events) as affinity_events,
        sorted_map(m.category_key, m.events_30d) as affinity_events_30d,
        sorted_map(m.category_key, cast(m.shared as double)) as affinity_categories,
        sorted_map(m.category_key, cast(1.0 / m.age as double)) as affinity_freshness
    from matched as m
    inner join key_totals as t
        on m.ds = t.ds and m.user_id = t.user_id and m.category_key = t.category_key
    group by m.ds, m.user_id, m.item_id
),

breadth as (
    select
        ds,
        item_id,
        count(*) as item_categories
    from item_categories
    group by ds, item_id
),

item_days as (
    select
        d.as_of as ds,
        max(i.ds) as snapshot_ds
    from as_of_dates as d
    inner join (select distinct ds from stg_item) as i on i.ds < d.as_of
    group by d.as_of
),

attributes as (
    select
        p.ds,
        p.item_id,
        i.kvs_num as item_attribute_num,
        map_from_entries(list_filter(
            map_entries(i.kvs_str), lambda entry: not contains(entry.value, '|')
        )) as item_attribute_str
    from pair_items as p
    inner join item_days as s on p.ds = s.ds
    inner join stg_item as i on s.snapshot_ds = i.ds and p.item_id = i.item_id
),

final as (
    select
        p.ds,
        p.user_id,
        p.item_id,
        coalesce(o.item_events, 0) as item_events,
        coalesce(o.item_events_30d, 0) as item_events_30d,
        o.item_recency_days,
        coalesce(q.item_users, 0) as item_users,
        coalesce(q.item_all_events, 0) as item_all_events,
        coalesce(q.item_all_events_30d, 0) as item_all_events_30d,
        q.item_trend,
        coalesce(b.item_categories, 0) as item_categories,
        a.affinity_share,
        a.affinity_events,
        a.affinity_events_30d,
        a.affinity_categories,
        a.affinity_freshness,
        m.affinity_amounts,
        t.item_attribute_num,
        t.item_attribute_str
    from pairs as p
    left join own as o
        on p.ds = o.ds and p.user_id = o.user_id and p.item_id = o.item_id
    left join popularity as q on p.ds = q.ds and p.item_id = q.item_id
    left join breadth as b on p.ds = b.ds and p.item_id = b.item_id
    left join affinity as a
        on p.ds = a.ds and p.user_id = a.user_id and p.item_id = a.item_id
    left join user_item_amounts as m
        on p.ds = m.ds and p.user_id = m.user_id and p.item_id = m.item_id
    left join attributes as t on p.ds = t.ds and p.item_id = t.item_id
)

select * from final
