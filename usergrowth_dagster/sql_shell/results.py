"""Rows of a result as CSV, JSON or Parquet, written as they come and not kept in memory."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO

from usergrowth_dagster.documents import plain
from usergrowth_dagster.sql_shell.shell import Column, Result
from usergrowth_dagster.sql_shell.statements import SqlError

_AS_THEY_ARE = {
    "BIGINT",
    "BOOLEAN",
    "DOUBLE",
    "FLOAT",
    "INTEGER",
    "SMALLINT",
    "TINYINT",
    "UBIGINT",
    "UINTEGER",
    "USMALLINT",
    "UTINYINT",
}
"""Types that are written to CSV without quotes; the others become text first."""


@dataclass(frozen=True)
class FirstRows:
    """The first rows of a result, as texts; None stands for NULL.

    ``more`` says that there are others.
    """

    columns: list[Column]
    rows: list[tuple[str | None, ...]]
    more: bool


def first_rows(result: Result, limit: int) -> FirstRows:
    """The first rows as DuckDB writes their values; ``limit`` 0: all of them."""
    rows: list[tuple[str | None, ...]] = []
    for batch in result.read(_text):
        rows += zip(*(column.to_pylist() for column in batch.columns), strict=True)
        if limit and len(rows) > limit:
            return FirstRows(result.columns, rows[:limit], True)
    return FirstRows(result.columns, rows, False)


def write_csv(result: Result, file: IO[bytes]) -> None:
    """UTF-8 with a header; texts stand in double quotes, NULL is an empty field without them."""
    from pyarrow import csv

    reader = result.read(_unquoted_or_text)
    with csv.CSVWriter(file, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)


def write_json(result: Result, file: IO[bytes]) -> None:
    """One JSON document, a list with an object a line; what is not a number is null."""
    separator = "[\n"
    for line in _objects(result):
        file.write(f"{separator}{line}".encode())
        separator = ",\n"
    file.write(b"[]\n" if separator == "[\n" else b"\n]\n")


def _objects(result: Result) -> Iterator[str]:
    cells = result.read(lambda _, sql: f"cast(to_json({sql}) as varchar)")
    names = [json.dumps(column.name, ensure_ascii=False) for column in result.columns]
    for batch in cells:
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            pairs = zip(names, map(_json, row), strict=True)
            yield "{" + ", ".join(f"{name}: {value}" for name, value in pairs) + "}"


def _json(value: str | None) -> str:
    """A value of DuckDB's JSON as other programs read it."""
    if value is None:
        return "null"
    if "NaN" in value or "Infinity" in value:
        return json.dumps(plain(json.loads(value)), ensure_ascii=False, allow_nan=False)
    return value


def write_parquet(result: Result, file: IO[bytes]) -> None:
    """Parquet with the types of the result.

    Raises:
        SqlError: Parquet has no such type.
    """
    import pyarrow as pa
    from pyarrow import parquet

    reader = result.read()
    try:
        with parquet.ParquetWriter(file, reader.schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(batch)
    except pa.ArrowNotImplementedError as error:
        raise SqlError(
            f"Parquet cannot hold this result ({error}); cast the column", code="sql.invalid"
        ) from None


def _unquoted_or_text(column: Column, sql: str) -> str:
    return sql if column.kind in _AS_THEY_ARE else _text(column, sql)


def _text(_column: Column, sql: str) -> str:
    return f"cast({sql} as varchar)"


WRITERS: Mapping[str, Callable[[Result, IO[bytes]], None]] = {
    "csv": write_csv,
    "json": write_json,
    "parquet": write_parquet,
}
"""By the name of the format."""
