"""The data files that a replacement writes: read by others, bounded, and never named half done."""

import re
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.warehouse import data_files, tables
from usergrowth_dagster.warehouse.tables import Warehouse

DAY = date(2024, 1, 30)
NEXT = DAY + timedelta(days=1)
ROWS = """
    select date '2024-01-30' as ds, 'u' || i as user_id, nullif(i, 1) as number,
        map {'a': i::float} as numbers, map {'k': 'v' || i} as texts, i % 2 = 0 as even
    from range(3) as t(i)
"""


def rows_of(*days: date) -> pa.Table:
    """One row a day, in the days' order."""
    return pa.table({"ds": pa.array(days, pa.date32()), "x": list(range(len(days)))})


def stored(tmp_path: Path) -> list[Path]:
    """All data files, whether or not a version names them."""
    return sorted((tmp_path / "tables").rglob("*.parquet"))


def test_a_file_reads_like_one_of_delta_rs(tmp_path: Path) -> None:
    """Another type, nullability or a map that a reader does not know, and the table is lost."""
    rows = duckdb.sql(ROWS).to_arrow_table()
    warehouse = Warehouse(Storage(str(tmp_path)))
    warehouse.replace("t", rows, days=[DAY])
    other = tmp_path / "other"
    write_deltalake(str(other), rows, partition_by=["ds"])
    ours, theirs = DeltaTable(warehouse.uri("t")), DeltaTable(str(other))
    assert ours.schema().fields == theirs.schema().fields
    assert ours.to_pyarrow_table().to_pylist() == theirs.to_pyarrow_table().to_pylist()
    assert pl.read_delta(warehouse.uri("t")).equals(pl.read_delta(str(other)))
    assert ours.get_add_actions(flatten=True).column("num_records").to_pylist() == [3]
    (path,) = warehouse.files("t")[DAY]
    described = "describe select * from read_parquet('{}', hive_partitioning=true)"
    (theirs_path,) = theirs.file_uris()
    assert (
        duckdb.sql(described.format(path)).fetchall()
        == duckdb.sql(described.format(theirs_path)).fetchall()
    )


def test_log_holds_no_value(tmp_path: Path) -> None:
    """The log is never rewritten: the least and greatest value of a column would stay for ever."""
    warehouse = Warehouse(Storage(str(tmp_path)))
    warehouse.replace("t", duckdb.sql(ROWS).to_arrow_table(), days=[DAY])
    commit = (warehouse.log("t").text(1) or b"").decode()
    (stats,) = re.findall(r'"stats":"(.*?)","tags"', commit)
    assert stats.replace("\\", "") == (
        '{"numRecords":3,"minValues":{},"maxValues":{},"nullCount":{}}'
    )


def test_days_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row in the file of another day is a row of another day: readers go by the folder."""
    monkeypatch.setattr(data_files, "ROW_GROUP_ROWS", 2)
    days = [DAY, NEXT, DAY, DAY, NEXT, DAY]
    warehouse = Warehouse(Storage(str(tmp_path)))
    warehouse.replace("t", lambda: rows_of(*days).to_reader(max_chunksize=4), days=[DAY, NEXT])
    assert warehouse.row_counts("t") == {DAY: 4, NEXT: 2}
    rows = DeltaTable(warehouse.uri("t")).to_pyarrow_table()
    rows = rows.sort_by("x").select(["x", "ds"])
    assert rows.to_pydict() == {"x": list(range(6)), "ds": days}


def test_many_days_are_held_within_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of four hundred days collects rows; together they are more than the memory."""
    monkeypatch.setattr(data_files, "OPEN_BYTES", 1000)
    days = [DAY + timedelta(days=place) for place in range(40)]
    files = data_files.DayFiles(Storage(str(tmp_path)), "tables/t", rows_of(DAY).schema, days, {})
    for _ in range(3):
        for day in days:
            (batch,) = rows_of(*[day] * 50).to_batches()
            files.write(batch)
            assert sum(file.waiting_bytes for file in files._open.values()) <= 1000
    assert {file.rows for file in files.finish()} == {150}


def test_a_stream_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """Rows of a person would lie in a file that no version names."""
    warehouse = Warehouse(Storage(str(tmp_path)))
    warehouse.replace("t", rows_of(DAY), days=[DAY])
    before = stored(tmp_path)

    def broken() -> pa.RecordBatchReader:
        def batches() -> Iterator[pa.RecordBatch]:
            yield from rows_of(*[DAY] * 9).to_batches()
            raise OSError("the source is gone")

        return pa.RecordBatchReader.from_batches(rows_of(DAY).schema, batches())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_files, "ROW_GROUP_ROWS", 2)
        with pytest.raises(OSError, match="gone"):
            warehouse.replace("t", broken, days=[DAY])
    with pytest.raises(ValueError, match="days not replaced: 2024-01-31"):
        warehouse.replace("t", rows_of(DAY, NEXT), days=[DAY])
    assert stored(tmp_path) == before
    assert (warehouse.version("t"), warehouse.row_counts("t")) == (1, {DAY: 1})


def test_a_file_that_cannot_be_written_leaves_none(tmp_path: Path) -> None:
    """Files are written by several threads: one fails, and what the others wrote stays behind."""
    days = [DAY + timedelta(days=place) for place in range(30)]
    warehouse = Warehouse(Storage(str(tmp_path)))
    warehouse.replace("t", rows_of(DAY), days=[DAY])
    before = stored(tmp_path)
    (tmp_path / "tables" / "t" / f"ds={days[20]}").write_text("no folder")
    with pytest.raises(FileExistsError):
        warehouse.replace("t", rows_of(*days), days=days)
    assert stored(tmp_path) == before
    assert (warehouse.version("t"), warehouse.row_counts("t")) == (1, {DAY: 1})


def test_rows_of_another_scope_are_refused(tmp_path: Path) -> None:
    """The folder says the scope, so they would become rows of the one that is replaced."""
    rows = rows_of(DAY).append_column("task_id", pa.array(["autumn"]))
    with pytest.raises(ValueError, match="rows of task_id 'autumn', not 'spring'"):
        Warehouse(Storage(str(tmp_path))).replace(
            "t", rows, days=[DAY], scope={"task_id": "spring"}
        )


def test_a_file_without_its_commit_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between file and commit: the day stays as it was, and the next write replaces it."""
    warehouse = Warehouse(Storage(str(tmp_path)))
    warehouse.replace("t", rows_of(DAY), days=[DAY])
    with monkeypatch.context() as patch:
        patch.setattr(tables, "add_actions", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            warehouse.replace("t", rows_of(DAY, DAY), days=[DAY])
    assert len(stored(tmp_path)) == 2
    assert Warehouse(Storage(str(tmp_path))).row_counts("t") == {DAY: 1}
    warehouse.replace("t", rows_of(DAY, DAY, DAY), days=[DAY])
    assert warehouse.row_counts("t") == {DAY: 3}


def test_a_commit_of_others_in_between_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two first writes of one day that do not see each other leave its rows twice."""
    warehouse = Warehouse(Storage(str(tmp_path)))
    warehouse.replace("t", rows_of(NEXT), days=[NEXT])
    plain, meanwhile = tables.add_actions, [rows_of(DAY, DAY)]

    def slow(files: list[data_files.NewFile]) -> list[object]:
        if meanwhile:
            warehouse.replace("t", meanwhile.pop(), days=[DAY])
        return plain(files)

    monkeypatch.setattr(tables, "add_actions", slow)
    commit = warehouse.replace("t", rows_of(DAY, DAY, DAY), days=[DAY])
    assert (commit.version, commit.rows) == (3, 3)
    assert warehouse.row_counts("t") == {DAY: 3, NEXT: 1}


def test_a_new_column_and_one_that_is_left_out(tmp_path: Path) -> None:
    """The schema grows by new columns, and a row that lacks one reads as without a value."""
    warehouse = Warehouse(Storage(str(tmp_path)))
    warehouse.replace("t", rows_of(DAY), days=[DAY])
    wider = rows_of(NEXT).append_column("y", pa.array(["new"]))
    warehouse.replace("t", wider, days=[NEXT])
    later = NEXT + timedelta(days=1)
    warehouse.replace("t", rows_of(later), days=[later])
    assert warehouse.columns("t") == ["ds", "x", "y"]
    rows = DeltaTable(warehouse.uri("t")).to_pyarrow_table().sort_by("ds")
    assert rows.column("y").to_pylist() == [None, "new", None]
