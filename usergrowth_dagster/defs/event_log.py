"""Dagster's SQLite event log, writing the events of a backfill in one transaction.

A run over a range tells of every asset and every day. The stock log opens two databases anew for
each event (about 12 ms), so a year of a dozen assets takes minutes just to be written down. Here
connections share an engine by database, and a batch of events shares a transaction.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from dagster import EventLogEntry
    from sqlalchemy import Connection, Engine

_INDEX = "index"


class BatchingSqliteEventLogStorage(SqliteEventLogStorage):
    """The stock SQLite log with shared engines and batched writes; same files, same tables."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        self._engines: dict[str, Engine] = {}
        self._batch = threading.local()
        self._known_tables: set[str] = set()
        super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(
        cls, inst_data: Any, config_value: Mapping[str, Any]
    ) -> "BatchingSqliteEventLogStorage":
        """Made by Dagster from the dagster.yaml; the stock method would make a stock log."""
        return cls(inst_data=inst_data, **config_value)

    def _engine(self, shard: str) -> "Engine":
        from dagster._core.storage.sql import create_engine
        from sqlalchemy.pool import NullPool

        if shard not in self._engines:
            if len(self._engines) > 64:  # old runs' databases
                self._engines.clear()
            self._engines[shard] = create_engine(
                self.conn_string_for_shard(shard),
                poolclass=NullPool,
                connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS},
            )
        return self._engines[shard]

    @contextmanager
    def _connect(self, shard: str) -> Iterator["Connection"]:
        open_now: dict[str, Connection] = getattr(self._batch, "open", {})
        if shard in open_now:
            yield open_now[shard]
            return
        # A batch holds the lock already for as long as it lasts.
        with self._db_lock if not open_now else ExitStack():
            engine = self._engine(shard)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.connect() as connection, connection.begin():
                yield connection

    def has_table(self, table_name: str) -> bool:
        """Whether the index has a table; the stock log asks the database for every event."""
        if table_name not in self._known_tables and super().has_table(table_name):
            self._known_tables.add(table_name)
        return table_name in self._known_tables

    def store_event_batch(self, events: Sequence["EventLogEntry"]) -> None:
        """Store events of one run, all or none."""
        with ExitStack() as stack:
            run = stack.enter_context(self._connect(events[0].run_id))
            self._batch.open = {events[0].run_id: run}
            stack.callback(setattr, self._batch, "open", {})
            self._batch.open[_INDEX] = stack.enter_context(self._connect(_INDEX))
            for event in events:
                self.store_event(event)
