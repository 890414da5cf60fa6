"""What the doctor says of the data that will hurt."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from usergrowth_dagster.explain.data_findings import DataFinding, data_findings
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.project import Project

TODAY = date(2024, 6, 1)
YESTERDAY = TODAY - timedelta(days=1)
MAP = pa.map_(pa.string(), pa.float64())
SCHEMA = pa.schema(
    {
        "ds": pa.date32(),
        "user_id": pa.string(),
        "events": pa.float64(),
        "kinds": MAP,
        "hours": MAP,
    }
)


def row(
    day: date, user: str, events: float = 1, kind: str = "visit", hours: int = 1
) -> dict[str, Any]:
    """A user's day."""
    by_hour = [(f"hh{hour:02d}", 1.0) for hour in range(hours)]
    return {"ds": day, "user_id": user, "events": events, "kinds": [(kind, events)]} | {
        "hours": by_hour
    }


def sound_rows() -> list[dict[str, Any]]:
    """Sixty days up to yesterday of a log that is as it should be."""
    days = [YESTERDAY - timedelta(days=back) for back in range(60)]
    rows = [row(day, f"u{n}") for day in days for n in range(5)]
    return [*rows, row(YESTERDAY - timedelta(days=9), "buyer", kind="buy", events=90)]


def findings_of(home: Path, rows: list[dict[str, Any]]) -> dict[str, DataFinding]:
    """What is said of some users' days, by its name."""
    project = Project(make_home(home, {"today": str(TODAY), "start_date": "2024-01-01"}))
    days = sorted({one["ds"] for one in rows})
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    if rows:
        project.warehouse.replace("user_day", table, days=days)
    return {finding.name: finding for finding in data_findings(project)}


def test_nothing_is_said_of_sound_data(tmp_path: Path) -> None:
    """A doctor that finds something in every home, and is read no more; or that needs data."""
    assert findings_of(tmp_path / "none", []) == {}
    assert findings_of(tmp_path / "sound", sound_rows()) == {}


def without(day: date) -> list[dict[str, Any]]:
    return [one for one in sound_rows() if one["ds"] != day]


CASES: dict[str, tuple[list[dict[str, Any]], int]] = {
    "few days": ([one for one in sound_rows() if (YESTERDAY - one["ds"]).days < 41], 41),
    "days missing": (without(YESTERDAY - timedelta(days=7)), 1),
    "clocks ahead": ([*sound_rows(), row(TODAY, "u1")], 1),
    "last days missing": ([one for one in sound_rows() if (YESTERDAY - one["ds"]).days > 1], 2),
    "one kind of behavior": ([one for one in sound_rows() if one["user_id"] != "buyer"], 1),
    "ids that repeat": ([*sound_rows(), row(YESTERDAY, "U1 "), row(YESTERDAY, "U2")], 4),
    "test accounts": (
        [*sound_rows(), *(row(YESTERDAY, who) for who in ("test", "QA-7", "latest", "protester"))],
        2,
    ),
    "impossible activity": (
        [*sound_rows(), row(YESTERDAY, "robot", hours=22), row(YESTERDAY, "flood", events=500)],
        2,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_property_is_counted(tmp_path: Path, name: str) -> None:
    """A property that is missed, counted wrong, or that brings another with it."""
    rows, count = CASES[name]
    findings = findings_of(tmp_path / "home", rows)
    assert {name: one.count for name, one in findings.items()} == {name: count}
    assert findings[name].detail and findings[name].remedy


@examples(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(gone=st.sets(st.integers(1, 58).filter(lambda back: back != 9), max_size=12))
def test_missing_days_are_those_between(tmp_path_factory: Any, gone: set[int]) -> None:
    """A day at the edge of a gap, left out or counted twice."""
    days = {YESTERDAY - timedelta(days=back) for back in gone}
    rows = [one for one in sound_rows() if one["ds"] not in days]
    findings = findings_of(tmp_path_factory.mktemp("homes") / "home", rows)
    assert {name: one.count for name, one in findings.items()} == (
        {"days missing": len(gone)} if gone else {}
    )
