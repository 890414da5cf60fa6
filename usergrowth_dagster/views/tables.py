"""The tables of a home."""

from dataclasses import dataclass
from datetime import date

from usergrowth_dagster.project import Project


@dataclass(frozen=True)
class TableView:
    """A table: its rows, the number of its days, the first and last of them, its Delta version."""

    table: str
    rows: int
    days: int
    first: date
    last: date
    version: int | None


def read_tables(project: Project) -> list[TableView]:
    """Every table that has rows."""
    views = []
    for table in project.warehouse.tables():
        counts = project.warehouse.row_counts(table)
        if counts:
            version = project.warehouse.version(table)
            rows = sum(counts.values())
            views.append(TableView(table, rows, len(counts), min(counts), max(counts), version))
    return views
