"""How many days one statement builds."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse import build
from usergrowth_dagster.warehouse.build import Builder
from usergrowth_dagster.warehouse.model_files import ModelError
from usergrowth_dagster.warehouse.models import ModelGraph, load_graph
from usergrowth_dagster.warehouse.tables import Warehouse

D = date(2024, 3, 1)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with more memory than the largest part may take."""
    return settings.model_copy(update={"memory_limit": "4GB"})


def chunks(
    settings: Settings, warehouse: Warehouse, model: str, rows: dict[str, int], days: int
) -> list[list[date]]:
    """The parts of a range whose input tables hold so many rows on each day of a year and a half."""
    builder = Builder(settings, warehouse)
    landed = [D + timedelta(days=i) for i in range(-400, days)]
    for table in builder.graph.table_inputs(model):
        builder._seen[table] = (0, {day: [f"{table} {day}"] for day in landed})
        builder._rows[table] = dict.fromkeys(landed, rows.get(table, 0))
    return list(builder._chunks(model, [D + timedelta(days=i) for i in range(days)]))


def test_a_range_is_cut_before_it_fills_the_memory(
    settings: Settings, warehouse: Warehouse
) -> None:
    """A training set of many people that holds all snapshots in memory at once, maps and all."""
    rows = {"user_features": 30_000, "churn_label": 20_000}
    parts = chunks(settings, warehouse, "churn_training", rows, 7)
    assert [len(chunk) for chunk in parts] == [2, 2, 2, 1]
    assert 2 * 30_000 <= build.COPIED_ROWS < 3 * 30_000
    assert [day for chunk in parts for day in chunk] == [D + timedelta(days=i) for i in range(7)]
    parts = chunks(settings, warehouse, "user_features", {"user_day": 2_500}, 5)
    assert [len(chunk) for chunk in parts] == [2, 2, 1]  # 365 days of 2,500 rows each
    parts = chunks(settings, warehouse, "user_features", {"user_day": 5}, 200)
    assert [len(chunk) for chunk in parts] == [92, 92, 16]


def test_a_day_that_is_too_large_for_a_part_is_one(
    settings: Settings, warehouse: Warehouse
) -> None:
    """A home whose single day passes the limit, and whose range therefore never ends or is empty."""
    parts = chunks(settings, warehouse, "user_features", {"user_day": 50_000}, 3)
    assert [len(chunk) for chunk in parts] == [1, 1, 1]


def test_less_memory_makes_smaller_parts(settings: Settings, warehouse: Warehouse) -> None:
    """Guards against parts that fill a small memory, and then write and read all that they join."""
    small = settings.model_copy(update={"memory_limit": "512MB"})
    parts = chunks(small, warehouse, "user_features", {"user_day": 300}, 5)
    assert [len(chunk) for chunk in parts] == [2, 2, 1]  # 365 days of 300 rows each
    rows = {"user_features": 20_000, "churn_label": 20_000}
    parts = chunks(small, warehouse, "churn_training", rows, 5)
    assert [len(chunk) for chunk in parts] == [2, 2, 1]


def test_days_that_share_a_snapshot_count_it_once(settings: Settings, warehouse: Warehouse) -> None:
    """A catalogue of half a million categories that cuts a year of small days into eighty parts."""
    catalogue = {D: 500_000, D + timedelta(days=3): 1_000_000}
    builder = Builder(settings, warehouse)
    days = [D + timedelta(days=i) for i in range(6)]
    builder._seen["stg_behavior"] = (0, {day: [f"stg_behavior {day}"] for day in days})
    builder._rows["stg_behavior"] = dict.fromkeys(days, 100_000)
    builder._seen["item_category"] = (0, {d: [f"item_category {d}"] for d in catalogue})
    builder._rows["item_category"] = catalogue
    # the first three days read one snapshot; from the fourth on a second one joins it
    assert list(builder._chunks("user_day", days)) == [days[:5], days[5:]]
    builder._rows["item_category"] = dict.fromkeys(catalogue, 500_000)
    assert list(builder._chunks("user_day", days)) == [days]


def test_rows_that_pass_one_date_at_a_time_do_not_cut_a_range(
    settings: Settings, warehouse: Warehouse
) -> None:
    """Guards against a catalogue, or days read once for all dates, that cut a range into dates."""
    rows = {"user_day": 500, "user_item_day": 50_000, "item_category": 900_000}
    parts = chunks(settings, warehouse, "user_features", rows, 12)
    assert [len(part) for part in parts] == [10, 2]  # 365 days of 500 rows each
    parts = chunks(settings, warehouse, "user_item_features", rows, 2)
    assert [len(part) for part in parts] == [1, 1]  # their rows are kept for all dates


@pytest.mark.parametrize(
    ("model", "changes", "reason"),
    [
        ("user_features", {"by_date": True}, "a view with ds in its grain only"),
        ("user_kind_days", {"by_date": True}, "a view with ds in its grain only"),
        ("user_hours", {"by_date": True, "grain": ("user_id",)}, "a view with ds in its grain"),
        ("pair_item_categories", {"by_date": True}, "reads user_item_pairs"),
        ("user_windows", {"by_user": True}, "a table with user_id in its grain"),
        ("item_category", {"by_user": True}, "a table with user_id in its grain"),
    ],
)
def test_a_model_that_cannot_be_made_by_date_or_user_is_refused(
    model: str, changes: dict[str, object], reason: str
) -> None:
    """Guards against a view whose first dates are made from views that do not stand yet."""
    graph = load_graph()
    changed = graph.models | {model: replace(graph.models[model], **changes)}  # type: ignore[arg-type]
    if model == "pair_item_categories":
        pairs = graph.models["user_item_pairs"]
        changed["user_item_pairs"] = replace(pairs, refs=pairs.refs | {"user_item_history"})
    with pytest.raises(ModelError, match=reason):
        ModelGraph(changed, graph.sources)
