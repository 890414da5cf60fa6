"""Rows of a service in files: by business day, whole or not at all, and counted when lost."""

import os
import time
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq
import pytest

from usergrowth_dagster.data import row_log
from usergrowth_dagster.data.row_log import RowLog, logged_files, remove_unfinished

COLUMNS = {"time": ("TIMESTAMP", "when"), "place": ("INTEGER", "place"), "name": ("VARCHAR", "")}
ZONE = ZoneInfo("Asia/Shanghai")


def at(hour: int) -> datetime:
    """An hour of a day in UTC, as rows have it."""
    return datetime(2024, 3, 1, hour, tzinfo=UTC).replace(tzinfo=None)


def test_rows_stand_in_the_folder_of_their_business_day(tmp_path: Path) -> None:
    """Guards against days of UTC, and against a file of a killed process that lands or stays."""
    log = RowLog(tmp_path, COLUMNS, ZONE)
    log.keep(at(15), 1, "eve")
    log.keep(at(16), 2, "midnight")
    assert log.write() == 2 and log.write() == 0
    files = logged_files(tmp_path)
    assert {
        day: pq.read_table(paths[0]).to_pylist()[0]["name"] for day, paths in files.items()
    } == {
        date(2024, 3, 1): "eve",
        date(2024, 3, 2): "midnight",
    }
    young, old = (tmp_path / "ds=20240301" / f".{name}.parquet" for name in ("young", "old"))
    for path in (young, old):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7_200,) * 2)
    assert logged_files(tmp_path) == files
    remove_unfinished(tmp_path)
    assert young.exists() and not old.exists()


def test_rows_that_are_lost_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a full queue that stops the service, and a bad day that takes others along."""
    lost: list[int] = []
    monkeypatch.setattr(row_log, "MOST_WAITING", 3)
    log = RowLog(tmp_path, COLUMNS, ZONE, lost.append)
    for hour in (1, 2, 16, 17):
        log.keep(at(hour), hour, "")
    assert lost == [1]
    (tmp_path / "ds=20240301").touch()  # no folder can be made there
    assert log.write() == 1 and lost == [1, 2]
    assert [path.parent.name for path in logged_files(tmp_path)[date(2024, 3, 2)]] == [
        "ds=20240302"
    ]
