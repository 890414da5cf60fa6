"""Earlier SELECTs of the models that say so make the rows that the present ones make."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from usergrowth_dagster.settings import Settings, load_settings
from usergrowth_dagster.warehouse.build import Builder, bind_dates
from usergrowth_dagster.warehouse.earlier import SAME_ROWS
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.models import ModelGraph, load_graph
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
"""By table and version, the SELECT of then."""


def graph_of(table: str, sql: str) -> ModelGraph:
    """The project's models, one of them with another SELECT."""
    return ModelGraph(GRAPH.models | {table: replace(GRAPH.models[table], sql=sql)}, GRAPH.sources)


def test_the_texts_are_those_of_all_earlier_versions() -> None:
    """A version that nobody compares, or a line for a model that has changed since."""
    assert {(table, one) for table, (_, *before) in SAME_ROWS.items() for one in before} == {
        *EARLIER
    }
    for (table, version), sql in EARLIER.items():
        assert graph_of(table, sql).code_version(table) == version
    for table, (present, *_) in SAME_ROWS.items():
        assert GRAPH.code_version(table) == present


keys = st.text("ab=", min_size=1, max_size=2)
words = st.text("ab|", max_size=4)
numbers = st.sampled_from([0.0, -1.5, 0.1, 0.2, 2.0, 1e9, 1e-9])
maps_of_numbers = st.none() | st.dictionaries(keys, numbers, max_size=3)
items = st.dictionaries(
    st.tuples(st.sampled_from(DAYS), keys), st.none() | st.dictionaries(keys, words, max_size=3)
)
behaviors = st.lists(
    st.fixed_dictionaries(
        {
            "ds": st.sampled_from(DAYS),
            "user_id": keys,
            "behavior": keys,
            "item_id": st.none() | keys,
            "events": numbers,
            "hours": maps_of_numbers,
            "amounts": maps_of_numbers,
        }
    ),
    max_size=12,
)
STRINGS, NUMBERS = pa.map_(pa.string(), pa.string()), pa.map_(pa.string(), pa.float64())
ITEM = pa.schema([("ds", pa.date32()), ("item_id", pa.string()), ("kvs_str", STRINGS)])
BEHAVIOR = pa.schema(
    [
        ("ds", pa.date32()),
        ("user_id", pa.string()),
        ("behavior", pa.string()),
        ("item_id", pa.string()),
        ("events", pa.float64()),
        ("hours", NUMBERS),
        ("amounts", NUMBERS),
    ]
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine for all examples: it takes longer to open than one to run."""
    with open_engine(load_settings(tmp_path_factory.mktemp("home"), memory_limit="1GB")) as opened:
        bind_dates(opened, DAYS)
        yield opened


def bind(engine: Engine, table: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    """Make a table of rows, with maps as Arrow takes them."""
    made = [
        {name: list(v.items()) if isinstance(v, dict) else v for name, v in row.items()}
        for row in rows
    ]
    engine.bind_arrow(table, pa.Table.from_pylist(made, schema=schema))


@examples(deadline=None)
@given(landed=items, events=behaviors)
def test_rows_of_random_logs(
    engine: Engine, landed: dict[tuple[date, str], Any], events: list[dict[str, Any]]
) -> None:
    """A faster SELECT that loses a key without a value, a day, or a value that comes twice."""
    rows = [{"ds": ds, "item_id": item, "kvs_str": kvs} for (ds, item), kvs in landed.items()]
    bind(engine, "stg_item", rows, ITEM)
    bind(engine, "stg_behavior", events, BEHAVIOR)
    engine.run(f"create or replace table item_category as {GRAPH.models['item_category'].sql}")
    for (table, _), sql in EARLIER.items():
        now, before = (
            engine.rows(f"select * from ({one}) as rows order by all")
            for one in (GRAPH.models[table].sql, sql)
        )
        assert now == before


@pytest.mark.parametrize(("table", "version"), EARLIER)
def test_a_home_made_by_the_earlier_select_builds_nothing(
    settings: Settings, warehouse: Warehouse, table: str, version: str
) -> None:
    """An upgrade that builds a year of facts anew, and all that is made from them."""
    bought = {"user_id": "u", "behavior": "buy", "item_id": "i", "events": 1.0, "hours": None}
    inputs = {
        "stg_item": ({"item_id": "i", "kvs_str": [("genre", "a|b|a")]}, ITEM),
        "stg_behavior": ({**bought, "amounts": [("pay", 2.5)]}, BEHAVIOR),
    }

    def land(name: str, days: list[date]) -> None:
        row, schema = inputs[name]
        rows = pa.Table.from_pylist([{"ds": day, **row} for day in days], schema=schema)
        warehouse.replace(name, rows, days=days)

    for name in inputs:
        land(name, DAYS)
    if table != "item_category":
        Builder(settings, warehouse).build("item_category", DAYS)
    before = graph_of(table, EARLIER[table, version])
    assert Builder(settings, warehouse, before).build(table, DAYS).built == DAYS
    assert Builder(settings, warehouse).build(table, DAYS).unchanged == DAYS
    # a day whose input has landed anew is built again
    land("stg_item" if table == "item_category" else "stg_behavior", DAYS[:1])
    assert Builder(settings, warehouse).build(table, DAYS).built == DAYS[:1]
