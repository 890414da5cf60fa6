"""What the example data sets share: SQL that makes landing rows, and files written once."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.quoting import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Progress = Callable[[str, int, int], None]
"""Called with the stage's name, how much of it is done, and its total."""

COLUMNS: dict[str, tuple[str, ...]] = {
    "user": ("user_id", "gender", "age", "reg_time", "user_type", "kvs_num", "kvs_str"),
    "item": ("item_id", "kvs_num", "kvs_str"),
    "behavior": ("user_id", "behavior", "item_id", "kvs_num", "kvs_str"),
    "operation": ("user_id", "target", "item_id", "kvs_num", "kvs_str"),
}
"""Columns of the landing tables, in the contract's order."""

_BATCH_ROWS = 250_000  # rows made into text at a time


def clean(expression: str) -> str:
    r"""SQL of a text made fit for a kvs value: reserved characters become ``_``.

    Colon, comma and white space are reserved by the kvs grammar, ``|`` separates several values
    and a quote would need CSV escapes; each run of them becomes one underscore
    (``BREAD: SAVORY, DRY`` → ``BREAD_SAVORY_DRY``).
    """
    return f"regexp_replace(trim({expression}), '[:,|\"\\s]+', '_', 'g')"


def kvs(pairs: Mapping[str, str]) -> str:
    """SQL of a kvs column from keys and value expressions; NULL values are left out.

    Returns:
        An expression of type varchar, NULL when no pair is left.
    """
    parts = ", ".join(f"{literal(f'{key}:')} || ({value})" for key, value in pairs.items())
    return f"nullif(concat_ws(' ', {parts}), '')"


def csv_lines(table: str) -> str:
    r"""SQL of a row's CSV line, NULL as ``\N``; no value needs quotes by construction."""
    values = ", ".join(rf"coalesce({name}::varchar, '\N')" for name in COLUMNS[table])
    return f"concat_ws(',', {values})"


def put(landing: Storage, path: str, content: bytes) -> bool:
    """Write a file atomically unless it holds these bytes already, so that its tag stays."""
    if landing.exists(path) and landing.read_bytes(path) == content:
        return False
    landing.write_bytes(path, content)
    return True


def folder(table: str, day: date) -> str:
    """The landing folder of a table's day."""
    return f"{table}/ds={day:%Y%m%d}"


def copy_bytes(con: "DuckDBPyConnection", query: str, scratch: Path) -> bytes:
    """The Parquet file of a query, as bytes (one row group order, ZSTD)."""
    target = scratch / "part.parquet"
    con.execute(f"copy ({query}) to '{target}' (format parquet, compression zstd)").fetchall()
    content = target.read_bytes()
    target.unlink()
    return content


def write_days(
    con: "DuckDBPyConnection", landing: Storage, table: str, *, name: str, order: str
) -> tuple[int, list[str]]:
    """Write the relation ``landing_<table>``, one file a day.

    Days are taken in batches of about ``_BATCH_ROWS`` rows, which bounds the text in memory.

    Args:
        con: connection that knows the relation: the table's columns and ``ds``.
        landing: where the files go.
        table: landing table.
        name: file name in each day's folder; ``.csv`` or ``.parquet`` says the format.
        order: SQL order of the rows in a file; must be total, so that the bytes are reproducible.

    Returns:
        Rows, and paths of the files, those left alone included.
    """
    content_of = _csv_days if name.endswith(".csv") else _parquet_days
    days = con.execute(
        f"select ds, count(*) from landing_{table} group by ds order by ds"
    ).fetchall()
    paths = []
    for first, last in _batches(days):
        for day, content in content_of(con, table, f"ds between '{first}' and '{last}'", order):
            paths.append(f"{folder(table, day)}/{name}")
            put(landing, paths[-1], content)
    return sum(rows for _, rows in days), paths


def _batches(days: list[tuple[date, int]]) -> Iterator[tuple[date, date]]:
    """First and last days of runs of days with about ``_BATCH_ROWS`` rows each."""
    begin, size = 0, 0
    for position, (day, rows) in enumerate(days):
        size += rows
        if size >= _BATCH_ROWS or position == len(days) - 1:
            yield days[begin][0], day
            begin, size = position + 1, 0


def _csv_days(
    con: "DuckDBPyConnection", table: str, where: str, order: str
) -> Iterator[tuple[date, bytes]]:
    header = ",".join(COLUMNS[table])
    days = con.execute(
        f"select ds, string_agg({csv_lines(table)}, chr(10) order by {order}) "
        f"from landing_{table} where {where} group by ds order by ds"
    ).fetchall()
    return ((day, f"{header}\n{lines}\n".encode()) for day, lines in days)


def _parquet_days(
    con: "DuckDBPyConnection", table: str, where: str, order: str
) -> Iterator[tuple[date, bytes]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = ", ".join(COLUMNS[table])
    days = con.execute(
        f"select ds, count(*) from landing_{table} where {where} group by ds order by ds"
    ).fetchall()
    rows = con.sql(
        f"select {columns} from landing_{table} where {where} order by ds, {order}"
    ).to_arrow_table()
    start = 0
    for day, count in days:
        buffer = pa.BufferOutputStream()
        pq.write_table(rows.slice(start, count), buffer, compression="zstd")
        start += count
        yield day, buffer.getvalue().to_pybytes()


def remove_others(
    storage: Storage, folders: Iterable[str], prefix: str, paths: Iterable[str]
) -> None:
    """Remove files whose names start with a prefix, other than these: an earlier example's."""
    keep = set(paths)
    for name in folders:
        for entry in storage.files(name, deep=True):
            if entry.name.startswith(prefix) and entry.path not in keep:
                storage.remove(entry.path)


class Marker:
    """A hidden file that says which parameters a finished example was written with.

    Args:
        landing: where the example is written.
        name: the example's name.
        parameters: everything the files depend on; JSON values.
    """

    def __init__(self, landing: Storage, name: str, parameters: Mapping[str, Any]) -> None:
        self._landing = landing
        self._path = f".{name}.json"
        self._parameters = dict(parameters)

    def finished(self) -> dict[str, int] | None:
        """Rows by table when this very example is complete, None when it must be written."""
        if not self._landing.exists(self._path):
            return None
        saved = json.loads(self._landing.read_bytes(self._path))
        if saved["parameters"] != self._parameters:
            return None
        there = {entry.path for table in COLUMNS for entry in self._landing.files(table, deep=True)}
        if not there.issuperset(saved["files"]):
            return None
        return {str(table): int(rows) for table, rows in saved["rows"].items()}

    def save(self, rows: Mapping[str, int], files: list[str]) -> None:
        """Record that all files are written."""
        saved = {"parameters": self._parameters, "rows": dict(rows), "files": sorted(files)}
        self._landing.write_bytes(self._path, json.dumps(saved, indent=1).encode())
