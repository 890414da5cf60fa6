"""How many days one statement builds."""

from datetime import date, timedelta

from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse import build
from usergrowth_dagster.warehouse.build import Builder
from usergrowth_dagster.warehouse.tables import Warehouse

D = date(2024, 3, 1)


def chunks(
    settings: Settings, warehouse: Warehouse, model: str, rows: dict[str, int], days: int
) -> list[list[date]]:
    """The parts of a range whose input tables hold so many rows on each day of a year and a half."""
    builder = Builder(settings, warehouse)
    landed = [D + timedelta(days=i) for i in range(-400, days)]
    for table in builder.graph.table_inputs(model):
        builder._files[table] = {day: [f"{table} {day}"] for day in landed}
        builder._rows[table] = dict.fromkeys(landed, rows.get(table, 0))
    return list(builder._chunks(model, [D + timedelta(days=i) for i in range(days)]))


def test_a_range_is_cut_before_it_fills_the_memory(
    settings: Settings, warehouse: Warehouse
) -> None:
    """A training set of many people that holds all snapshots in memory at once, maps and all."""
    rows = {"user_features": 30_000, "churn_label": 20_000}
    found = chunks(settings, warehouse, "churn_training", rows, 7)
    assert [len(chunk) for chunk in found] == [2, 2, 2, 1]
    assert 2 * 30_000 <= build.COPIED_ROWS < 3 * 30_000
    assert [day for chunk in found for day in chunk] == [D + timedelta(days=i) for i in range(7)]
    found = chunks(settings, warehouse, "user_features", {"user_day": 2_500}, 5)
    assert [len(chunk) for chunk in found] == [2, 2, 1]  # 365 days of 2,500 rows each
    found = chunks(settings, warehouse, "user_features", {"user_day": 5}, 200)
    assert [len(chunk) for chunk in found] == [92, 92, 16]


def test_a_day_that_is_too_large_for_a_part_is_one(
    settings: Settings, warehouse: Warehouse
) -> None:
    """A home whose single day passes the limit, and whose range therefore never ends or is empty."""
    found = chunks(settings, warehouse, "user_features", {"user_day": 50_000}, 3)
    assert [len(chunk) for chunk in found] == [1, 1, 1]


def test_days_that_share_a_snapshot_count_it_once(settings: Settings, warehouse: Warehouse) -> None:
    """A catalogue of half a million categories that cuts a year of small days into eighty parts."""
    catalogue = {D: 500_000, D + timedelta(days=3): 1_000_000}
    builder = Builder(settings, warehouse)
    days = [D + timedelta(days=i) for i in range(6)]
    builder._files["stg_behavior"] = {day: [f"stg_behavior {day}"] for day in days}
    builder._rows["stg_behavior"] = dict.fromkeys(days, 100_000)
    builder._files["item_category"] = {day: [f"item_category {day}"] for day in catalogue}
    builder._rows["item_category"] = catalogue
    # the first three days read one snapshot; from the fourth on a second one joins it
    assert list(builder._chunks("user_day", days)) == [days[:5], days[5:]]
    builder._rows["item_category"] = dict.fromkeys(catalogue, 500_000)
    assert list(builder._chunks("user_day", days)) == [days]
