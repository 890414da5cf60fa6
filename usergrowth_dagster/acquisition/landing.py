"""The log of decisions lands: files of the service become the table ``rta_log``."""

import re
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path

from usergrowth_dagster.acquisition.build import snapshot_folder
from usergrowth_dagster.acquisition.log import LOG_COLUMNS, remove_unfinished
from usergrowth_dagster.data.storage import file_literal
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.columns import types_of
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.relation import files_fingerprint

TABLE = "rta_log"
TABLE_COLUMNS: Mapping[str, tuple[str, str]] = {
    "ds": ("DATE", "business day of the decision"),
    **LOG_COLUMNS,
}
"""By name, the DuckDB type and the meaning of the columns of the table."""

_FOLDER = re.compile(r"ds=(\d{8})")


def log_folder(project: Project) -> Path:
    """Where a home's service writes its log."""
    return snapshot_folder(project) / "log"


def log_key(project: Project) -> bytes:
    """The key of the hashes of devices; a rotation of the home's key keeps it.

    Raises:
        UserError: the home's secret cannot be read.
    """
    return open_vault(project.settings.home, project.settings.default_country).key_for(b"rta log")


def land_log(project: Project, before: date) -> dict[date, int]:
    """Land the log of all days before a date whose files have changed.

    A day whose files were removed keeps its rows.

    Returns:
        Rows by day that landed now.
    """
    remove_unfinished(log_folder(project))
    marks, landed = project.warehouse.fingerprints(TABLE), {}
    for day, files in sorted(_files(log_folder(project)).items()):
        mark = files_fingerprint(map(str, files))
        if day < before and marks.get(day) != mark:
            landed[day] = _land_day(project, day, files, mark)
    return landed


def _files(folder: Path) -> dict[date, list[Path]]:
    """Whole files by day."""
    by_day: dict[date, list[Path]] = {}
    for path in sorted(folder.glob("ds=*/[!.]*.parquet")):
        if named := _FOLDER.fullmatch(path.parent.name):
            by_day.setdefault(datetime.strptime(named[1], "%Y%m%d").date(), []).append(path)
    return by_day


def _land_day(project: Project, day: date, files: list[Path], mark: str) -> int:
    listed = ", ".join(file_literal(str(path)) for path in files)
    kinds = types_of(LOG_COLUMNS)
    columns = ", ".join(f'cast("{name}" as {kind}) as "{name}"' for name, kind in kinds.items())
    sql = f"select date '{day}' as ds, {columns} from read_parquet([{listed}]) order by time"
    with project.alone(TABLE), open_engine(project.settings) as engine:
        commit = project.warehouse.replace(
            TABLE, lambda: engine.stream(sql), days=[day], fingerprints={day: mark}
        )
    return commit.rows
