with items as (
    select
        ds,
        user_id,
        count(*) filter (where age <= 1) as items_1d,
        count(*) filter (where age <= 3) as items_3d,
        count(*) filter (where age <= 7) as items_7d,
        count(*) filter (where age <= 14) as items_14d,
        count(*) filter (where age <= 30) as items_30d,
        count(*) filter (where age <= 60) as items_60d,
        count(*) filter (where age <= 90) as items_90d,
        max(events) / sum(events) as top_item_share
    from user_item_history
    group by ds, user_id
),

category_totals as (
    select
        ds,
        category_key,
        category_value,
        row_number() over (
            partition by ds order by sum(events) desc, category_key, category_value asc
        ) as place
    from user_categories
    group by ds, category_key, category_value
),

categories as (
    select
        ds,
        user_id,
        count(*) filter (where age <= 7) as categories_7d,
        count(*) filter (where age <= 30) as categories_30d,
        count(*) as categories_lookback
    from user_categories
    group by ds, user_id
),

named as (
    select
        u.ds,
        u.user_id,
        concat(u.category_key, '=', u.category_value) as k,
        u.events as v
    from user_categories as u
    cross join run_settings as s
    inner join category_totals as t
        on
            u.ds = t.ds
            and u.category_key = t.category_key
            and u.category_value = t.category_value
    where t.place <= s.top_n
    union all
    select
        u.ds,
        u.user_id,
        'other' as k,
        sum(u.events) as v
    from user_categories as u
    cross join run_settings as s
    inner join category_totals as t
        on
            u.ds = t.ds
            and u.category_key = t.category_key
            and u.category_value = t.category_value
    where t.place > s.top_n
    group by u.ds, u.user_id
),

mix as (
    select
        ds,
        user_id,
        sorted_map(k, v) as category_events
    from named
    group by ds, user_id
),

final as (
    select
        i.*,
        coalesce(c.categories_7d, 0) as categories_7d,
        coalesce(c.categories_30d, 0) as categories_30d,
        coalesce(c.categories_lookback, 0) as categories_lookback,
        m.category_events
    from items as i
    left join categories as c on i.ds = c.ds and i.user_id = c.user_id
    left join mix as m on i.ds = m.ds and i.user_id = m.user_id
)

select * from final
