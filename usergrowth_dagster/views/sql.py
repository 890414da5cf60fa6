"""The tables that ``usergrowth sql`` reads."""

from dataclasses import dataclass
from datetime import date, datetime

from usergrowth_dagster.sql_shell.catalog import TableAt
from usergrowth_dagster.sql_shell.records import COLUMNS, SCHEMA
from usergrowth_dagster.sql_shell.shell import Column, SqlShell


@dataclass(frozen=True)
class SqlTableView:
    """A table at the version that is read, and when that was written, on the business clock.

    ``first`` and ``last`` are None where it has no rows.
    """

    table: str
    version: int
    written: datetime | None
    rows: int
    days: int
    first: date | None
    last: date | None


def read_sql_tables(shell: SqlShell) -> list[SqlTableView]:
    """Every table that was there at the time asked for."""
    catalog = shell.catalog
    names = [name for name in catalog.names if catalog.version(name) is not None]
    return [view_of(shell, catalog.table(name)) for name in names]


def view_of(shell: SqlShell, table: TableAt) -> SqlTableView:
    """A table as it is listed."""
    days = sorted({size.day for size in table.sizes})
    zone = shell.project.settings.zone
    return SqlTableView(
        table.name,
        table.version,
        table.committed.astimezone(zone) if table.committed else None,
        sum(size.rows for size in table.sizes),
        len(days),
        days[0] if days else None,
        days[-1] if days else None,
    )


def read_sql_records() -> list[tuple[str, str]]:
    """The control records that are read as they are now: name and columns."""
    return [(f"{SCHEMA}.{name}", ", ".join(columns)) for name, columns in COLUMNS.items()]


def read_sql_columns(shell: SqlShell, table: str) -> list[Column]:
    """The columns of a table."""
    return shell.describe(table)
