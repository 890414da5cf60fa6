"""The log of decisions lands: files of the service become the table ``rta_log``."""

from datetime import date
from pathlib import Path

from usergrowth_dagster.acquisition.build import snapshot_folder
from usergrowth_dagster.acquisition.log import LOG_COLUMNS
from usergrowth_dagster.intake import row_logs
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.project import Project

TABLE = "rta_log"
TABLE_COLUMNS = row_logs.table_columns(LOG_COLUMNS)
"""By name, the DuckDB type and the meaning of the columns of the table."""


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
    return row_logs.land_log(project, TABLE, LOG_COLUMNS, log_folder(project), before)
