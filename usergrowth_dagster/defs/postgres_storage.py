"""Dagster's run, event and schedule storage in a schema of the home's PostgreSQL database.

The driver is psycopg2, since dagster-postgres ends its sessions in a way that psycopg does not
bear.
"""

from typing import Any

from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.event_log import PostgresEventLogStorage

from usergrowth_dagster.defs.event_log import FreePlacesAreTaken
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.settings.databases import DAGSTER, make_schema, url_of_schema


class HomePostgresEventLog(FreePlacesAreTaken, PostgresEventLogStorage):
    """The stock log, which writes batches by itself."""


class HomePostgresStorage(DagsterPostgresStorage):
    """The stock storage with that log."""

    def __init__(self, postgres_url: str, inst_data: Any = None) -> None:
        super().__init__(postgres_url, inst_data=inst_data)
        self._event_log_storage = HomePostgresEventLog(postgres_url)


def storage_of(settings: Settings, inst_data: Any = None) -> HomePostgresStorage:
    """The storage of a home with the setting ``one_database``; makes its schema and tables."""
    make_schema(settings.database, DAGSTER)
    return HomePostgresStorage(url_of_schema(settings.database, DAGSTER, "psycopg2"), inst_data)
