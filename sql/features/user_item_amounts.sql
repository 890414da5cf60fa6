with pairs as (
    select * from user_item_pairs
),

pair_users as (
    select distinct
        ds,
        user_id
    from pairs
),

item_categories as (
    select * from pair_item_categories
),

-- Amounts of the users of the pairs alone: all users' would be many times as many rows.
amount_entries as (
    select
        p.ds,
        p.user_id,
        b.item_id,
        unnest(map_entries(b.amounts)) as entry
    from pair_users as p
    cross join run_settings as s
    inner join stg_behavior as b on p.user_id = b.user_id and p.ds > b.ds
    where b.item_id is not null and date_diff('day', b.ds, p.ds) <= s.lookback_days
),

amounts as (
    select
        ds,
        user_id,
        item_id,
        entry.key as amount_key,
        stable_sum(entry.value) as amount
    from amount_entries
    group by ds, user_id, item_id, entry.key
),

ranked as (
    select
        ds,
        amount_key,
        row_number() over (partition by ds order by count(*) desc, amount_key) as place
    from amounts
    group by ds, amount_key
),

named as (
    select
        a.ds,
        a.user_id,
        a.item_id,
        case when r.place <= s.top_n then a.amount_key else 'other' end as amount_key,
        a.amount
    from amounts as a
    cross join run_settings as s
    inner join ranked as r on a.ds = r.ds and a.amount_key = r.amount_key
),

wanted as (
    select distinct
        ds,
        category_key,
        category_value
    from item_categories
),

by_category as (
    select
        n.ds,
        n.user_id,
        c.category_key,
        c.category_value,
        n.amount_key,
        stable_sum(n.amount) as amount
    from named as n
    inner join item_snapshot as s on n.ds = s.ds
    inner join item_category as c on s.snapshot_ds = c.ds and n.item_id = c.item_id
    inner join wanted as w
        on
            n.ds = w.ds
            and c.category_key = w.category_key
            and c.category_value = w.category_value
    group by n.ds, n.user_id, c.category_key, c.category_value, n.amount_key
),

matched as (
    select
        p.ds,
        p.user_id,
        p.item_id,
        concat(c.category_key, ':', b.amount_key) as k,
        stable_sum(b.amount) as v
    from pairs as p
    inner join item_categories as c on p.ds = c.ds and p.item_id = c.item_id
    inner join by_category as b
        on
            p.ds = b.ds
            and p.user_id = b.user_id
            and c.category_key = b.category_key
            and c.category_value = b.category_value
    group by p.ds, p.user_id, p.item_id, c.category_key, b.amount_key
),

final as (
    select
        ds,
        user_id,
        item_id,
        sorted_map(k, v) as affinity_amounts
    from matched
    group by ds, user_id, item_id
)

select * from final
