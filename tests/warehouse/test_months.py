"""Kept months: the same rows as the days that they are made of, and never rows of other days."""

import os
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse import months as kept
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.models import load_graph
from usergrowth_dagster.warehouse.months import Months, forget_months
from usergrowth_dagster.warehouse.tables import Warehouse

GRAPH = load_graph()
FIRST, DAYS = date(2024, 1, 20), 60
VIEW = "user_kind_days"


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def land(warehouse: Warehouse, numbers: range, events: float = 1.0) -> None:
    """A row of two kinds for each of three people and days, every fifth day without any."""
    days = [day(number) for number in numbers]
    rows = [
        {"ds": d, "user_id": f"u{u}", "kinds": [("buy", events), ("view", float(d.day + u))]}
        for d in days
        if d.day % 5
        for u in range(3)
    ]
    types = [
        ("ds", pa.date32()),
        ("user_id", pa.string()),
        ("kinds", pa.map_(pa.string(), pa.float64())),
    ]
    warehouse.replace("user_day", pa.Table.from_pylist(rows, schema=pa.schema(types)), days=days)


def read(engine: Engine, warehouse: Warehouse, days: list[date]) -> list[tuple[object, ...]]:
    landed = warehouse.files("user_day")
    wanted = set(days) & set(landed)
    Months(warehouse.storage, GRAPH).bind(engine, VIEW, wanted, landed)
    return sorted(engine.rows(f"select ds, user_id, kind, events from {VIEW}"))


def expected(days: list[date], events: float = 1.0) -> list[tuple[object, ...]]:
    rows = [
        (d, f"u{u}", kind, events if kind == "buy" else float(d.day + u))
        for d in days
        if d.day % 5
        for u in range(3)
        for kind in ("buy", "view")
    ]
    return sorted(rows)


def files(warehouse: Warehouse) -> list[str]:
    return [file.name for file in warehouse.storage.files(f"{kept.FOLDER}/{VIEW}")]


@pytest.mark.parametrize("first", [0, 3, 12, 30, 55])
@pytest.mark.parametrize("last", [12, 30, 59])
def test_any_days_are_the_same_rows(
    warehouse: Warehouse, settings: Settings, first: int, last: int
) -> None:
    """A day twice, a day lost, or a day of a kept month that was not asked for."""
    land(warehouse, range(DAYS))
    days = [day(number) for number in range(first, last + 1)]
    with open_engine(settings) as engine:
        assert read(engine, warehouse, days) == expected(days)
        assert read(engine, warehouse, days[::7]) == expected(days[::7])
    assert all(name[:7] in ("2024-01", "2024-02") for name in files(warehouse))


def test_views_of_one_table_show_their_own_days(warehouse: Warehouse, settings: Settings) -> None:
    """A view over a year that shows a quarter, since a view over a quarter was bound after it."""
    land(warehouse, range(20))  # no closed month: all is read from days
    landed = warehouse.files("user_day")
    every = [day(number) for number in range(20)]
    with open_engine(settings) as engine:
        months = Months(warehouse.storage, GRAPH)
        months.bind(engine, VIEW, set(every) & set(landed), landed)
        months.bind(engine, "user_event_days", set(every[15:]) & set(landed), landed)
        months.bind(engine, "user_amount_days", set(), landed)
        rows = sorted(engine.rows(f"select ds, user_id, kind, events from {VIEW}"))
        assert rows == expected(every)
        assert engine.value("select count(distinct ds) from user_event_days") == 4
        assert engine.value("select count(*) from user_amount_days") == 0


def test_a_day_that_is_landed_again_shows(warehouse: Warehouse, settings: Settings) -> None:
    """A kept month that hides what was landed since, or that stays on the disk for ever."""
    land(warehouse, range(DAYS))
    every = [day(number) for number in range(DAYS)]
    with open_engine(settings) as engine:
        read(engine, warehouse, every)
        before = files(warehouse)
        land(warehouse, range(14, 16), events=7.0)
        changed = [day(14), day(15)]
        rows = expected([d for d in every if d not in changed]) + expected(changed, 7.0)
        assert read(engine, warehouse, every) == sorted(rows)
        both = files(warehouse)
        assert len(before) == 2 and set(before) < set(both)  # a query may be open on the old one
        for file in warehouse.storage.files(f"{kept.FOLDER}/{VIEW}"):
            os.utime(file.uri, (0, 0))
        land(warehouse, range(14, 16), events=8.0)
        read(engine, warehouse, every)
    january, february = files(warehouse)
    assert january == before[0] and february not in both


def test_a_month_that_cannot_be_kept_is_read_from_its_days(
    warehouse: Warehouse, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home on a read-only disk of which no date can be looked at."""

    def refuse(*_: object) -> None:
        raise OSError("read-only file system")

    monkeypatch.setattr(Months, "_write", refuse)
    land(warehouse, range(DAYS))
    every = [day(number) for number in range(DAYS)]
    with open_engine(settings) as engine:
        assert read(engine, warehouse, every) == expected(every)
    assert files(warehouse) == []


def test_kept_months_are_private_and_can_go(warehouse: Warehouse, settings: Settings) -> None:
    """A file of people's days that others may read, or that outlives its people."""
    land(warehouse, range(DAYS))
    every = [day(number) for number in range(DAYS)]
    with open_engine(settings) as engine:
        read(engine, warehouse, every)
        for file in warehouse.storage.files(f"{kept.FOLDER}/{VIEW}"):
            assert Path(file.uri).stat().st_mode & 0o077 == 0
        forget_months(warehouse.storage)
        assert files(warehouse) == []
        assert read(engine, warehouse, every) == expected(every)
