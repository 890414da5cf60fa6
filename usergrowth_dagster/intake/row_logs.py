"""Lands what services log: the files of :class:`RowLog` become a table."""

from datetime import date
from pathlib import Path

from usergrowth_dagster.data.row_log import Columns, logged_files, remove_unfinished
from usergrowth_dagster.data.storage import file_literal
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.columns import types_of
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.relation import files_fingerprint


def table_columns(columns: Columns) -> Columns:
    """The columns of the table of a log."""
    return {"ds": ("DATE", "business day of the row"), **columns}


def land_log(
    project: Project, table: str, columns: Columns, folder: Path, before: date = date.max
) -> dict[date, int]:
    """Land the log of all days before a date whose files have changed.

    A day whose files were removed keeps its rows.

    Args:
        project: the home.
        table: the name of the table.
        columns: of the log.
        folder: of the log.
        before: the date; days from it on do not land yet.

    Returns:
        Rows by day that landed now.
    """
    remove_unfinished(folder)
    marks, landed = project.warehouse.fingerprints(table), {}
    for day, files in sorted(logged_files(folder).items()):
        mark = files_fingerprint(map(str, files))
        if day < before and marks.get(day) != mark:
            landed[day] = _land_day(project, table, columns, day, files, mark)
    return landed


def _land_day(
    project: Project, table: str, columns: Columns, day: date, files: list[Path], mark: str
) -> int:
    listed = ", ".join(file_literal(str(path)) for path in files)
    kinds = types_of(columns)
    values = ", ".join(f'cast("{name}" as {kind}) as "{name}"' for name, kind in kinds.items())
    sql = f"select date '{day}' as ds, {values} from read_parquet([{listed}]) order by time"
    with project.alone(table), open_engine(project.settings) as engine:
        commit = project.warehouse.replace(
            table, lambda: engine.stream(sql), days=[day], fingerprints={day: mark}
        )
    return commit.rows
