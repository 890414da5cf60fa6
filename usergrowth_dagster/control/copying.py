"""A consistent copy of the control database, and putting one into an empty database.

SQLite copies itself through its backup API, in one step, beside writers. PostgreSQL is read through
COPY in one transaction that sees one moment, a file a table. ``pg_dump`` is not used: it has to be
as new as the server and is missing where only the driver is installed, and a password would have to
pass through its environment.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, MetaData, inspect, text

from usergrowth_dagster.control.store import ControlStore, upgrade
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.quoting import identifier

VERSIONS = "alembic_version"
"""Alembic's table: a copy has it as its revision, not as rows."""

SUFFIX = ".copy"
"""Of a file with a table's columns in its first line, then its rows as PostgreSQL writes them."""

_BLOCK = 1 << 20


@dataclass(frozen=True)
class CopiedRows:
    """What belongs to the rows of a schema: its sequences' last values, and alembic's revision."""

    sequences: Mapping[str, int]
    revision: str


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy an SQLite database as it is at one moment, whoever writes to it.

    Args:
        source: the database.
        target: the new file; its folder is there.
    """
    with (
        closing(sqlite3.connect(source, timeout=60)) as original,
        closing(sqlite3.connect(target)) as copy,
    ):
        original.backup(copy)
        copy.execute("pragma journal_mode = delete")  # one file, without a log beside it


def copy_rows(connection: Connection, folder: Path, schema: str | None = None) -> CopiedRows:
    """Write every table of a PostgreSQL schema into a file of its own.

    Args:
        connection: in a transaction that sees one moment (repeatable read).
        folder: where the files go; it is there.
        schema: default: that of the connection.
    """
    cursor = _driver(connection).cursor()
    seen = inspect(connection)
    for table in sorted(seen.get_table_names(schema=schema)):
        if table == VERSIONS:
            continue
        present = seen.get_columns(table, schema=schema)
        columns = [column["name"] for column in present if "computed" not in column]
        listed = ", ".join(map(identifier, columns))
        with (folder / f"{table}{SUFFIX}").open("wb") as file:
            file.write(listed.encode() + b"\n")
            with cursor.copy(f"copy {_name(schema, table)} ({listed}) to stdout") as rows:
                for block in rows:
                    file.write(block)
    query = text(
        "select sequencename, last_value from pg_sequences "
        "where schemaname = coalesce(:schema, current_schema())"
    )
    values = connection.execute(query, {"schema": schema})
    return CopiedRows(
        {name: value for name, value in values if value is not None},
        revision_of(connection, schema),
    )


def revision_of(connection: Connection, schema: str | None = None) -> str:
    """What alembic has on record of a PostgreSQL schema."""
    revision = connection.scalar(text(f"select version_num from {_name(schema, VERSIONS)}"))
    return str(revision)


def put_rows(
    connection: Connection, folder: Path, sequences: Mapping[str, int], schema: str | None = None
) -> None:
    """Put the rows of :func:`copy_rows` into tables that are there and hold nothing of worth.

    Args:
        connection: in the transaction of all of it.
        folder: with the files.
        sequences: the last value of each.
        schema: default: that of the connection.
    """
    known = MetaData(schema=schema)
    known.reflect(connection)
    ordered = [table.name for table in known.sorted_tables if table.name != VERSIONS]
    cursor = _driver(connection).cursor()
    for table in reversed(ordered):
        connection.execute(text(f"delete from {_name(schema, table)}"))
    for table in ordered:
        path = folder / f"{table}{SUFFIX}"
        if not path.exists():
            continue
        with path.open("rb") as file:
            listed = file.readline().decode().strip()
            with cursor.copy(f"copy {_name(schema, table)} ({listed}) from stdin") as rows:
                for block in _blocks(file):
                    rows.write(block)
    for name, last in sequences.items():
        connection.execute(
            text("select setval(cast(:name as regclass), :last)"),
            {"name": _name(schema, name), "last": last},
        )


def put_control(
    store: ControlStore,
    connection: Connection,
    folder: Path,
    revision: str,
    sequences: Mapping[str, int],
) -> None:
    """Put a copy into an empty PostgreSQL database, and bring it to the newest form.

    Args:
        store: of that database, not migrated.
        connection: of its ``write(alone=True)``.
        folder: with the files of :func:`copy_rows`.
        revision: the newest migration of the copied database.
        sequences: the last value of each.

    Raises:
        UserError: the database holds tables.
    """
    if present := inspect(connection).get_table_names():
        raise UserError(
            f"the database {store.shown} is not empty (it has the table {min(present)}): name an "
            "empty one in USERGROWTH_DATABASE_URL",
            code="database.occupied",
        )
    upgrade(connection, revision)
    put_rows(connection, folder, sequences)
    upgrade(connection)


def _name(schema: str | None, name: str) -> str:
    return identifier(name) if schema is None else f"{identifier(schema)}.{identifier(name)}"


def _driver(connection: Connection) -> Any:
    """The connection of psycopg below SQLAlchemy's."""
    return connection.connection.driver_connection


def _blocks(file: Any) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block
