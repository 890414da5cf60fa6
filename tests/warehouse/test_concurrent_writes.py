"""Writers of one table at the same time."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pyarrow as pa
import pytest

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse import build
from usergrowth_dagster.warehouse.tables import Warehouse

ROWS = 10


def _write(job: tuple[str, int]) -> None:
    """Replace three days; the jobs 0 and 1 share the middle one."""
    root, number = job
    days = [date(2024, 1, 1) + timedelta(days=2 * number + i) for i in range(3)]
    table = pa.table(
        {
            "ds": pa.array([day for day in days for _ in range(ROWS)], pa.date32()),
            "x": list(range(3 * ROWS)),
        }
    )
    Warehouse(Storage(root)).replace("t", table.to_reader, days=days)


def test_two_first_writes_of_one_day_do_not_double_it(tmp_path: Path) -> None:
    """Two processes that both make the table each add the day that they share: twice its rows."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for attempt in range(15):
            root = str(tmp_path / str(attempt))
            pool.map(_write, [(root, 0), (root, 1)], chunksize=1)
            counts = Warehouse(Storage(root)).row_counts("t")
            assert (len(counts), set(counts.values())) == (5, {ROWS})


def test_writers_at_once_make_one_new_table(tmp_path: Path) -> None:
    """Guards against a table that is made a second time upon the first, or a first write that fails
    since another one made the table at the same moment.
    """
    first, writers = date(2024, 1, 1), 4
    for attempt in range(20):
        storage, ready = Storage(str(tmp_path / str(attempt))), Barrier(writers)

        def write(number: int, storage: Storage = storage, ready: Barrier = ready) -> None:
            day = first + timedelta(days=number)
            ready.wait()
            Warehouse(storage).replace("t", pa.table({"ds": [day], "x": [number]}), days=[day])

        with ThreadPoolExecutor(writers) as threads:
            list(threads.map(write, range(writers)))
        table = Warehouse(storage).open("t")
        assert table.version() == writers, "the table itself is version 0"
        assert set(Warehouse(storage).row_counts("t").values()) == {1}
        assert len(table.file_uris()) == writers


def test_days_published_meanwhile_keep_their_files(
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes that need the same days: new files of equal rows train every model again."""
    first = date(2024, 3, 4)
    days = [first + timedelta(days=i) for i in range(4)]
    landed = [first + timedelta(days=i) for i in range(-10, 14)]
    rows = [{"ds": day, "user_id": user} for day in landed for user in ("a", "b")]
    schema = pa.schema([("ds", pa.date32()), ("user_id", pa.string())])
    warehouse.replace("user_day", pa.Table.from_pylist(rows, schema=schema), days=landed)
    other = build.Builder(settings, warehouse)
    run_tests = build.run_tests

    def meanwhile(*arguments: Any) -> Any:
        monkeypatch.setattr(build, "run_tests", run_tests)
        other.build("churn_label", days[1:3])
        return run_tests(*arguments)

    monkeypatch.setattr(build, "run_tests", meanwhile)
    result = build.Builder(settings, warehouse).build("churn_label", days)
    assert result.built == [days[0], days[3]]
    assert result.unchanged == days[1:3]
    assert set(warehouse.files("churn_label")) == set(days)
    before = other.files("churn_label")
    now = warehouse.files("churn_label")
    assert {day: now[day] for day in days[1:3]} == {day: before[day] for day in days[1:3]}
    assert result.rows_in_all == 8
    assert build.Builder(settings, warehouse).build("churn_label", days).built == []


def test_a_table_that_changes_while_rows_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a commit upon the version of before: rows twice, or a column that is lost."""
    day, next_day = date(2024, 1, 1), date(2024, 1, 2)
    ours, theirs = (Warehouse(Storage(str(tmp_path))) for _ in range(2))
    ours.replace("t", pa.table({"ds": [day], "x": [1]}), days=[day])
    opened = Warehouse._opened

    def then_theirs(self: Warehouse, *arguments: Any) -> Any:
        base = opened(self, *arguments)
        if self is ours:
            other = pa.table({"ds": [day, next_day], "x": [2, 3], "theirs": ["a", "b"]})
            theirs.replace("t", other, days=[day, next_day])
        return base

    monkeypatch.setattr(Warehouse, "_opened", then_theirs)
    ours.replace("t", pa.table({"ds": [day], "x": [4], "ours": [0.5]}), days=[day])
    assert ours.row_counts("t") == {day: 1, next_day: 1}
    assert {*ours.columns("t")} == {"ds", "x", "theirs", "ours"}
    assert sorted(ours.open("t").file_uris()) == sorted(
        file for files in ours.files("t").values() for file in files
    )
