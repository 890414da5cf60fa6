"""Dagster's databases of a home: in PostgreSQL by the setting ``one_database``, else SQLite files.

The files lie where ``DAGSTER_HOME`` is now, whatever characters its path has. The home's
dagster.yaml names no folder, so a home that is moved or copied takes its history along. Dagster
writes SQLite URLs without quoting: a folder ``q?x=1`` would put them into a file ``q``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage

from usergrowth_dagster.defs.event_log import BatchingSqliteEventLogStorage
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.settings.places import sqlite_url


def _quoted(base_dir: str, db_name: str) -> str:
    """Instead of Dagster's ``create_db_conn_string``."""
    return sqlite_url(Path(base_dir).absolute() / f"{db_name}.db")


for _module in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
    setattr(_module, "create_db_conn_string", _quoted)  # noqa: B010 - not theirs to the types


class HomeStorage(DagsterSqliteStorage):
    """The stock SQLite databases below one folder, with the batching event log."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        super().__init__(base_dir, inst_data)
        self._event_log_storage = BatchingSqliteEventLogStorage(
            str(Path(base_dir) / "history" / "runs")
        )

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> Any:
        """Made by Dagster from the dagster.yaml, which names neither a folder nor a database.

        The settings of the home that the folder lies in say which of the two it is.
        """
        settings = load_settings(Path(config_value["base_dir"]).absolute().parent)
        if settings.one_database:
            from usergrowth_dagster.defs.postgres_storage import storage_of

            return storage_of(settings, inst_data)
        return cls.from_local(inst_data=inst_data, **config_value)
