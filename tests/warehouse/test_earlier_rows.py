"""Earlier SELECTs of the models that say so make the rows that the present ones make."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.settings import Settings, load_settings
from usergrowth_dagster.warehouse.build import Builder
from usergrowth_dagster.warehouse.duckdb_rows import bind_dates, bind_settings
from usergrowth_dagster.warehouse.earlier import SAME_ROWS
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.models import (
    AS_OF_DATES,
    RUN_SETTINGS,
    ModelGraph,
    load_graph,
    table_refs,
)
from usergrowth_dagster.warehouse.tables import Warehouse

GRAPH = load_graph()
DAYS = [date(2024, 3, 11) + timedelta(days=day) for day in range(3)]

EARLIER = {
    ("item_category", "246e308ed2be"): """
with items as (
    select * from stg_item
),

keyed as (
    select
        i.ds,
        i.item_id,
        k.category_key,
        i.kvs_str[k.category_key] as category_values
    from items as i
    cross join unnest(map_keys(i.kvs_str)) as k (category_key)
),

final as (
    select distinct
        i.ds,
        i.item_id,
        i.category_key,
        v.category_value
    from keyed as i
    cross join unnest(string_split(i.category_values, '|')) as v (category_value)
)

select * from final
""",
    ("stg_behavior", "f153e68c2372"): r"""
WITH source AS (
  SELECT
    *,
    str_split(kvs_num, ' ') AS pairs
  FROM raw_behavior
), split AS (
  SELECT
    ds,
    user_id,
    behavior,
    item_id,
    map_from_entries(
      list_transform(
        list_filter(pairs, LAMBDA pair : regexp_matches(pair, '^hh[0-2][0-9]:')),
        LAMBDA pair : {'k': split_part(pair, ':', 1), 'v': CAST(split_part(pair, ':', 2) AS DOUBLE)}
      )
    ) AS hours,
    map_from_entries(
      list_transform(
        list_filter(pairs, LAMBDA pair : NOT regexp_matches(pair, '^hh[0-2][0-9]:')),
        LAMBDA pair : {'k': split_part(pair, ':', 1), 'v': CAST(split_part(pair, ':', 2) AS DOUBLE)}
      )
    ) AS amounts,
    map_from_entries(
      list_transform(
        str_split(kvs_str, ' '),
        LAMBDA pair : {'k': split_part(pair, ':', 1), 'v': split_part(pair, ':', 2)}
      )
    ) AS kvs_str
  FROM source
), final AS (
  SELECT
    ds,
    user_id,
    behavior,
    item_id,
    coalesce(
      nullif(list_sum(list_transform(map_values(hours), LAMBDA n : greatest(n, 0))), 0),
      1
    ) AS events,
    hours,
    amounts,
    kvs_str
  FROM split
)
SELECT
  *
FROM final
""",
    ("stg_item", "eb0d6596f98f"): r"""
WITH source AS (
  SELECT
    *
  FROM raw_item
), final AS (
  SELECT
    ds,
    item_id,
    map_from_entries(
      list_transform(
        str_split(kvs_num, ' '),
        LAMBDA pair : {'k': split_part(pair, ':', 1), 'v': CAST(split_part(pair, ':', 2) AS DOUBLE)}
      )
    ) AS kvs_num,
    map_from_entries(
      list_transform(
        str_split(kvs_str, ' '),
        LAMBDA pair : {'k': split_part(pair, ':', 1), 'v': split_part(pair, ':', 2)}
      )
    ) AS kvs_str
  FROM source
)
SELECT
  *
FROM final
""",
    ("stg_operation", "a7960acb89af"): r"""
WITH source AS (
  SELECT
    *
  FROM raw_operation
), final AS (
  SELECT
    ds,
    user_id,
    target,
    item_id,
    map_from_entries(
      list_transform(
        str_split(kvs_num, ' '),
        LAMBDA pair : {'k': split_part(pair, ':', 1), 'v': CAST(split_part(pair, ':', 2) AS DOUBLE)}
      )
    ) AS kvs_num,
    map_from_entries(
      list_transform(
        str_split(kvs_str, ' '),
        LAMBDA pair : {'k': split_part(pair, ':', 1), 'v': split_part(pair, ':', 2)}
      )
    ) AS kvs_str
  FROM source
)
SELECT
  *
FROM final
""",
    ("stg_user", "05da0219ed4f"): r"""
WITH source AS (
  SELECT
    *
  FROM raw_user
), final AS (
  SELECT
    ds,
    user_id,
    gender,
    age,
    CAST(strptime(reg_time, '%Y%m%d') AS DATE) AS registered_on,
    user_type,
    map_from_entries(
      list_transform(
        str_split(kvs_num, ' '),
        LAMBDA pair : {'k': split_part(pair, ':', 1), 'v': CAST(split_part(pair, ':', 2) AS DOUBLE)}
      )
    ) AS kvs_num,
    map_from_entries(
      list_transform(
        str_split(kvs_str, ' '),
        LAMBDA pair : {'k': split_part(pair, ':', 1), 'v': split_part(pair, ':', 2)}
      )
    ) AS kvs_str
  FROM source
)
SELECT
  *
FROM final
""",
    ("user_day", "a6d2caf4d1d7"): """
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

amounts as (
    select
        ds,
        user_id,
        sorted_map(amount_key, amount) as amounts
    from (
        select
            b.ds,
            b.user_id,
            k.amount_key,
            stable_sum(b.amounts[k.amount_key]) as amount
        from behaviors as b
        cross join unnest(map_keys(b.amounts)) as k (amount_key)
        group by b.ds, b.user_id, k.amount_key
    ) as by_key
    group by ds, user_id
),

hours as (
    select
        ds,
        user_id,
        sorted_map(hour_key, events) as hours
    from (
        select
            b.ds,
            b.user_id,
            k.hour_key,
            sum(b.hours[k.hour_key]) as events
        from behaviors as b
        cross join unnest(map_keys(b.hours)) as k (hour_key)
        group by b.ds, b.user_id, k.hour_key
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
""",
}
"""By table and version, the SELECT of then, with its macros expanded."""

PAIRS_OF_ALL_USERS = """
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
    inner join user_item_history as h
        on p.ds = h.ds and p.user_id = h.user_id and p.item_id = h.item_id
),

popularity as (
    select
        ds,
        item_id,
        count(*) as item_users,
        sum(events) as item_all_events,
        sum(events_30d) as item_all_events_30d,
        sum(events_30d) / nullif(sum(events), 0) as item_trend
    from user_item_history
    group by ds, item_id
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
    from user_categories
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
    inner join user_categories as u
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
"""
"""user_item_features when it made the histories of all users, for the sake of the pairs' users."""

EARLIER_VIEWS = {
    ("user_item_features", "64afb4574acb", "user_item_features"): PAIRS_OF_ALL_USERS,
    ("user_item_features", "f17fb94c13c3", "user_item_features"): PAIRS_OF_ALL_USERS,
    ("user_features", "7dcb50dab855", "user_touches"): """
with touches as (
    select * from user_touch_history
),

answers as (
    select distinct
        t.ds,
        t.user_id,
        t.touched_on,
        t.target,
        t.item_id,
        k.kind
    from touches as t
    cross join run_settings as s
    inner join user_day as u
        on
            t.user_id = u.user_id
            and t.touched_on < u.ds
            and t.ds > u.ds
    cross join unnest(map_keys(u.kinds)) as k (kind)
    where date_diff('day', t.touched_on, u.ds) <= s.label_horizon_days
),

received as (
    select
        ds,
        user_id,
        count(*) as touches_history,
        count(*) filter (where age <= 7) as touches_7d,
        count(*) filter (where age <= 30) as touches_30d,
        count(*) filter (where age <= 90) as touches_90d,
        min(age) as touch_recency_days,
        count(*) filter (where answered_on_item) as touches_answered_on_item,
        (count(*) filter (where answered_on_item) + 0.1) / (count(*) + 1) as item_answer_rate
    from touches
    group by ds, user_id
),

target_counts as (
    select
        ds,
        user_id,
        target,
        cast(count(*) as double) as touches,
        count(*) filter (where answered_on_item) as answered
    from touches
    group by ds, user_id, target
),

by_target as (
    select
        ds,
        user_id,
        sorted_map(target, touches) as target_touches,
        sorted_map(target, (answered + 0.1) / (touches + 1)) as target_answer_rate
    from target_counts
    group by ds, user_id
),

kind_counts as (
    select
        ds,
        user_id,
        kind,
        cast(count(*) as double) as n
    from answers
    group by ds, user_id, kind
),

by_kind as (
    select
        ds,
        user_id,
        sorted_map(kind, n) as touches_answered
    from kind_counts
    group by ds, user_id
),

final as (
    select
        r.*,
        t.target_touches,
        t.target_answer_rate,
        k.touches_answered
    from received as r
    inner join by_target as t on r.ds = t.ds and r.user_id = t.user_id
    left join by_kind as k on r.ds = k.ds and r.user_id = k.user_id
)

select * from final
""",
    ("user_item_features", "f17fb94c13c3", "user_item_amounts"): """
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
amounts as (
    select
        p.ds,
        p.user_id,
        b.item_id,
        k.amount_key,
        stable_sum(b.amounts[k.amount_key]) as amount
    from pair_users as p
    cross join run_settings as s
    inner join stg_behavior as b on p.user_id = b.user_id and p.ds > b.ds
    cross join unnest(map_keys(b.amounts)) as k (amount_key)
    where b.item_id is not null and date_diff('day', b.ds, p.ds) <= s.lookback_days
    group by p.ds, p.user_id, b.item_id, k.amount_key
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
""",
}
"""By table, version and the view that differed, the SELECT of that view."""

TABLES = [table for table in GRAPH.tables if table in {name for name, _ in EARLIER}]
EARLIER_OF = {
    table: [EARLIER[table, version] for version in SAME_ROWS[table][1:]] for table in TABLES
}
"""By table, the SELECTs of then, newest first."""


def graph_of(**selects: str) -> ModelGraph:
    """The project's models, some of them with another SELECT."""
    others = {
        name: replace(
            GRAPH.models[name], sql=sql, refs=table_refs(sql) - {AS_OF_DATES, RUN_SETTINGS}
        )
        for name, sql in selects.items()
    }
    return ModelGraph(GRAPH.models | others, GRAPH.sources)


def test_the_texts_are_those_of_all_earlier_versions() -> None:
    """A version that nobody compares, or a line for a model that has changed since."""
    assert {(table, one) for table, (_, *before) in SAME_ROWS.items() for one in before} == {
        *EARLIER,
        *((table, version) for table, version, _ in EARLIER_VIEWS),
    }
    for (table, version), sql in EARLIER.items():
        assert graph_of(**{table: sql}).code_version(table) == version
    for table, version in {(table, version) for table, version, _ in EARLIER_VIEWS}:
        selects = {
            view: sql for (*made, view), sql in EARLIER_VIEWS.items() if made == [table, version]
        }
        assert graph_of(**selects).code_version(table) == version
    for table, (present, *_) in SAME_ROWS.items():
        assert GRAPH.code_version(table) == present


keys = st.text("ab=", min_size=1, max_size=2)
words = st.text("ab|", min_size=1, max_size=4)
numbers = st.sampled_from(["0", "-1.5", ".1", "0.2", "2.", "1e9", "1e-9", "+7"])
hours = st.sampled_from(["hh00", "hh09", "hh23"])
days = st.sampled_from(DAYS)


def texts(keys: st.SearchStrategy[str], values: st.SearchStrategy[str]) -> Any:
    """Key-value texts as the contract lets them pass: no key twice."""
    pairs = st.dictionaries(keys, values, min_size=1, max_size=4)
    return st.none() | pairs.map(lambda one: " ".join(f"{key}:{one[key]}" for key in one))


texts_of_strings = texts(keys, words)
texts_of_numbers = texts(keys | hours, numbers)
dates = st.dates(date(2020, 1, 1), DAYS[0]).map(lambda day: f"{day:%Y%m%d}")
VALUES: dict[str, dict[str, Any]] = {
    "raw_user": {
        "gender": st.none() | st.sampled_from([1, 2]),
        "age": st.none() | st.integers(0, 150),
        "reg_time": st.none() | dates,
        "user_type": st.none() | keys,
    },
    "raw_item": {},
    "raw_behavior": {"behavior": keys, "item_id": st.none() | keys},
    "raw_operation": {"target": keys, "item_id": st.none() | keys},
}
"""By landed table, its columns besides keys and key-value texts."""
KEYS = {"raw_user": "user_id", "raw_item": "item_id"}
"""Columns of snapshots that come once a day."""


def landed_rows(table: str) -> Any:
    """Rows of a landed table, as its contract lets them pass."""
    row = st.fixed_dictionaries(
        {
            "ds": days,
            KEYS.get(table, "user_id"): keys,
            "kvs_num": texts_of_numbers,
            "kvs_str": texts_of_strings,
            **VALUES[table],
        }
    )
    once = (lambda one: (one["ds"], one[KEYS[table]])) if table in KEYS else None
    return st.lists(row, max_size=8, unique_by=once)


logs = st.fixed_dictionaries({table: landed_rows(table) for table in VALUES})


def as_arrow(table: str, rows: list[dict[str, Any]]) -> pa.Table:
    """Rows of a landed table with the types of its contract."""
    kinds = {"VARCHAR": pa.string(), "BIGINT": pa.int64(), "DATE": pa.date32()}
    return pa.Table.from_pylist(
        rows, pa.schema([(name, kinds[kind]) for name, kind in GRAPH.sources[table].items()])
    )


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine for all examples: it takes longer to open than one to run."""
    settings = load_settings(tmp_path_factory.mktemp("home"), memory_limit="1GB")
    with open_engine(settings) as opened:
        bind_dates(opened, DAYS)
        bind_settings(
            opened, Builder(settings, Warehouse(Storage(settings.storage_root))).run_settings
        )
        yield opened


@examples(deadline=None)
@given(landed=logs)
def test_rows_of_random_logs(engine: Engine, landed: dict[str, list[dict[str, Any]]]) -> None:
    """A faster SELECT that loses a key without a value, a day, or a value that comes twice."""
    for table, rows in landed.items():
        engine.bind_arrow(table, as_arrow(table, rows))
    for table in TABLES:
        now, *before = (
            engine.rows(f"select * from ({sql.rstrip().rstrip(';')}) as made order by all")
            for sql in (GRAPH.models[table].sql, *EARLIER_OF[table])
        )
        assert all(rows == now for rows in before), table
        engine.run(f"create or replace table {table} as {GRAPH.models[table].sql}")


few_texts = st.dictionaries(st.sampled_from("ab"), numbers, max_size=2).map(
    lambda one: " ".join(f"{key}:{one[key]}" for key in one) or None
)
close_logs = st.fixed_dictionaries(
    {
        "raw_behavior": st.lists(
            st.fixed_dictionaries(
                {
                    "ds": days,
                    "user_id": st.sampled_from("uv"),
                    "behavior": keys,
                    "item_id": st.none() | st.sampled_from("ij"),
                    "kvs_num": few_texts,
                }
            ),
            min_size=1,
            max_size=12,
        ),
        "raw_operation": st.lists(
            st.fixed_dictionaries(
                {
                    "ds": days,
                    "user_id": st.sampled_from("uv"),
                    "target": st.sampled_from(["sms", "holdout"]),
                    "item_id": st.none() | st.sampled_from("ij"),
                }
            ),
            min_size=1,
            max_size=8,
        ),
    }
)
ITEMS = [
    {"ds": day, "item_id": item, "kvs_str": "genre:g|all"} for day in DAYS for item in ("i", "j")
]


@examples(deadline=None)
@given(landed=close_logs)
def test_rows_of_views(engine: Engine, landed: dict[str, list[dict[str, Any]]]) -> None:
    """A faster SELECT of a view that counts a touch, a kind or an amount another number of times."""
    for table in GRAPH.sources:
        rows = ITEMS if table == "raw_item" else landed.get(table, [])
        if table == "population":
            columns = (f"null::{kind} as {name}" for name, kind in GRAPH.types(table).items())
            engine.run(
                f"create or replace table {table} as select {', '.join(columns)} where false"
            )
        else:
            engine.bind_arrow(table, as_arrow(table, rows))
    for table in [*TABLES, "user_item_day"]:
        engine.run(f"create or replace table {table} as {GRAPH.models[table].sql}")
    for (_, _, name), before in EARLIER_VIEWS.items():
        for view in [*graph_of(**{name: before}).views(name), *GRAPH.views(name)]:
            engine.run(f"create or replace table {view} as {GRAPH.models[view].sql}")
        then, now = (
            engine.rows(f"select * from ({sql.rstrip().rstrip(';')}) as made order by all")
            for sql in (before, GRAPH.models[name].sql)
        )
        assert then == now, name


def land(warehouse: Warehouse, days: list[date]) -> None:
    """Land some rows of each table on each of the days."""
    texts = {"kvs_num": "hh09:2 hh10:-1 pay:2.5 b:.5", "kvs_str": "genre:a|b|a brand:x"}
    user = {"user_id": "u", "gender": 1, "age": 30, "reg_time": "20230102", "user_type": "x"}
    behavior = {"user_id": "u", "behavior": "buy", "item_id": "i"}
    rows: dict[str, list[dict[str, Any]]] = {
        "raw_user": [user | texts, {"user_id": "v"}],
        "raw_item": [{"item_id": "i"} | texts, {"item_id": "j"}],
        "raw_behavior": [behavior | texts, behavior | {"user_id": "v"}, behavior],
        "raw_operation": [{"user_id": "u", "target": "sms", "item_id": "i"} | texts],
    }
    for table, some in rows.items():
        made = as_arrow(table, [{"ds": day, **row} for day in days for row in some])
        warehouse.replace(table, made, days=days)


def test_a_home_made_by_earlier_selects_builds_nothing(settings: Settings) -> None:
    """An upgrade that builds a year of facts anew, or one that keeps other rows."""
    homes = {}
    for name in ("before", "now"):
        homes[name] = Warehouse(Storage(f"{settings.storage_root}/{name}"))
        land(homes[name], DAYS)
    earlier = ModelGraph(
        GRAPH.models
        | {table: replace(GRAPH.models[table], sql=sql[0]) for table, sql in EARLIER_OF.items()},
        GRAPH.sources,
    )
    made = Builder(settings, homes["before"], earlier).build_with_inputs(TABLES, DAYS)
    assert {table: build.built for table, build in made.items()} == dict.fromkeys(TABLES, DAYS)
    again = Builder(settings, homes["before"]).build_with_inputs(TABLES, DAYS)
    assert all(build.unchanged == DAYS for build in again.values())
    Builder(settings, homes["now"]).build_with_inputs(TABLES, DAYS)
    for table in TABLES:
        assert rows_of(homes["now"], table) == rows_of(homes["before"], table) != []
    # a day whose files have landed anew is built again
    land(homes["before"], DAYS[:1])
    last = Builder(settings, homes["before"]).build_with_inputs(TABLES, DAYS)
    assert all(DAYS[0] in build.built for build in last.values())


def rows_of(warehouse: Warehouse, table: str) -> list[tuple[Any, ...]]:
    """All rows of a table, in order."""
    files = [name for names in warehouse.files(table).values() for name in names]
    query = "from read_parquet(?, hive_partitioning = true) order by all"
    return duckdb.execute(query, [files]).fetchall()
