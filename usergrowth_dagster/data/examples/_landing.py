"""What the example data sets share: SQL that makes landing rows, and files written once."""

import json
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.data.storage import Storage

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
    parts = ", ".join(f"'{key}:' || ({value})" for key, value in pairs.items())
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


def write_csv_days(
    con: "DuckDBPyConnection",
    landing: Storage,
    table: str,
    source: str,
    *,
    name: str,
    order: str,
) -> list[str]:
    """Write the rows of a relation as one CSV file a day.

    Args:
        con: connection that knows the relation.
        landing: where the files go.
        table: landing table, which gives the columns.
        source: relation with the table's columns and ``ds``.
        name: file name in each day's folder.
        order: SQL order of the rows in a file; must be total, so that the bytes are reproducible.

    Returns:
        Paths of the files, those left alone included.
    """
    header = ",".join(COLUMNS[table])
    found = con.execute(
        f"select ds, string_agg({csv_lines(table)}, chr(10) order by {order}) "
        f"from {source} group by ds order by ds"
    ).fetchall()
    paths = []
    for day, lines in found:
        paths.append(f"{folder(table, day)}/{name}")
        put(landing, paths[-1], f"{header}\n{lines}\n".encode())
    return paths


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
