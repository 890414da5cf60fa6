"""Notes stay with the commit that they speak of."""

from datetime import date
from pathlib import Path

import pyarrow as pa

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.erasure import Person, erase_person
from usergrowth_dagster.warehouse.tables import Warehouse

MONDAY, TUESDAY = date(2017, 5, 1), date(2017, 5, 2)


def table(task: str, day: date, *users: str) -> pa.Table:
    rows = len(users)
    return pa.table(
        {
            "ds": pa.array([day] * rows, pa.date32()),
            "task_id": pa.array([task] * rows),
            "user_id": pa.array(users, pa.string()),
        }
    )


def test_notes_follow_their_days(tmp_path: Path) -> None:
    """A later commit of another task, day, or hand hides or changes what a decision came from."""
    warehouse = Warehouse(Storage(str(tmp_path)))
    assert warehouse.notes("t") == {}

    def write(task: str, day: date, note: dict[str, object] | None) -> None:
        warehouse.replace(
            "t",
            table(task, day, "ann", "bob"),
            days=[day],
            scope={"task_id": task},
            fingerprints={day: "mark"},
            notes=None if note is None else {day: note},
        )

    write("one", MONDAY, {"files": ["a"], "price": 0.045})
    write("one", TUESDAY, {"files": ["b"]})
    write("two", MONDAY, {"files": ["c"]})
    first = {MONDAY: {"files": ["a"], "price": 0.045}, TUESDAY: {"files": ["b"]}}
    assert warehouse.notes("t", {"task_id": "one"}) == first
    assert warehouse.notes("t", {"task_id": "two"}) == {MONDAY: {"files": ["c"]}}
    assert warehouse.notes("t") == {}

    # forgetting a person rewrites the days, and what they were made from is still known
    settings = load_settings(tmp_path / "home")
    assert erase_person(settings, warehouse, "t", Person("ann")).days == 3
    assert warehouse.notes("t", {"task_id": "one"}) == first
    assert warehouse.fingerprints("t", {"task_id": "one"})[MONDAY] == "mark"

    write("one", MONDAY, None)  # a new decision without a note has none, not the former one's
    assert warehouse.notes("t", {"task_id": "one"}) == {TUESDAY: {"files": ["b"]}}
