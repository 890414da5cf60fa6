"""Dagster's SQLite event log, writing the events of a backfill in one transaction.

A run over a range has an event for every asset and every day. The stock log opens two databases
anew for each event (about 12 ms), so a year of a dozen assets takes minutes just to be written
down. Here connections share an engine by database, and a batch of events shares a transaction:
each event is serialized once, each table gets its rows by one statement, and the row of an asset is
written once for the batch. The rows are those that the stock log leaves.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dagster._core.events import (
    ASSET_CHECK_EVENTS,
    ASSET_EVENTS,
    EVENT_TYPE_TO_PIPELINE_RUN_STATUS,
    DagsterEventType,
)
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log import SqlEventLogStorage, SqliteEventLogStorage
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from dagster import EventLogEntry
    from dagster._utils.concurrency import ConcurrencyClaimStatus
    from sqlalchemy import Connection, Engine

_INDEX = "index"
_INDEXED = {*ASSET_EVENTS, *ASSET_CHECK_EVENTS, *EVENT_TYPE_TO_PIPELINE_RUN_STATUS}
"""Types of the events that the index of all runs has, too."""


@dataclass(frozen=True)
class _IndexedEvent:
    """An event that the index has: its id there, and its row in ``event_logs``."""

    entry: "EventLogEntry"
    id: int
    row: Mapping[str, Any]


class FreePlacesAreTaken(SqlEventLogStorage):
    """What the stock logs of databases lack: a step that waits gets a place that came free."""

    def claim_concurrency_slot(
        self, concurrency_key: str, run_id: str, step_key: str, priority: int | None = None
    ) -> "ConcurrencyClaimStatus":
        """Ask for a place in a pool for a step; called again until the step has one.

        The stock log looks for a free place and then queues the step. When another run frees its
        place in between, it finds nobody in the queue, and the step would wait for ever.
        """
        claim = super().claim_concurrency_slot(concurrency_key, run_id, step_key, priority)
        if not claim.is_assigned and self.has_unassigned_slots(concurrency_key):
            self.assign_pending_steps([concurrency_key])
        return claim


class BatchingSqliteEventLogStorage(FreePlacesAreTaken, SqliteEventLogStorage):
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
        """Store events of one run, all or none.

        Raises:
            ValueError: the events are of several runs.
        """
        (run_id,) = {event.run_id for event in events}
        rows = [self._event_to_row(event) for event in events]
        with self._transaction(run_id) as (run, index):
            run.execute(SqlEventLogStorageTable.insert(), rows)
            self._store_indexed(
                index,
                [
                    (event, row)
                    for event, row in zip(events, rows, strict=True)
                    if event.dagster_event_type in _INDEXED
                ],
            )

    @contextmanager
    def _transaction(self, run_id: str) -> Iterator[tuple["Connection", "Connection"]]:
        """A transaction in the run's database and one in the index; an error ends both."""
        with ExitStack() as stack:
            run = stack.enter_context(self._connect(run_id))
            self._batch.open = {run_id: run}
            stack.callback(setattr, self._batch, "open", {})
            self._batch.open[_INDEX] = stack.enter_context(self._connect(_INDEX))
            yield run, self._batch.open[_INDEX]

    def _store_indexed(
        self, index: "Connection", events: Sequence[tuple["EventLogEntry", Mapping[str, Any]]]
    ) -> None:
        """Write events, and what tables of their own keep of assets and checks, to the index."""
        if not events:
            return
        table = SqlEventLogStorageTable
        statement = table.insert().returning(table.c.id, sort_by_parameter_order=True)
        ids = index.execute(statement, [row for _, row in events]).scalars()
        indexed = [
            _IndexedEvent(entry, event_id, row)
            for event_id, (entry, row) in zip(ids, events, strict=True)
        ]
        of_assets = [one for one in indexed if one.entry.dagster_event_type in ASSET_EVENTS]
        self._store_asset_event_tags(
            index, [one.entry for one in of_assets], [one.id for one in of_assets]
        )
        # Events of one type fill the same columns of an asset's row: the newest one stays.
        newest = {(one.row["asset_key"], one.entry.dagster_event_type): one for one in of_assets}
        for one in sorted(newest.values(), key=lambda one: one.id):
            self._store_asset_event(index, one.entry, one.id)
        self._store_checks(index, indexed)

    def _store_checks(self, index: "Connection", indexed: Sequence[_IndexedEvent]) -> None:
        """Write the executions of checks: planned ones together, then what came out of others."""
        planned: list[dict[str, Any]] = []
        for one in indexed:
            if one.entry.dagster_event_type == DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED:
                planned += _planned_executions(one)
        if planned:
            index.execute(AssetCheckExecutionsTable.insert(), planned)
        for one in indexed:
            if one.entry.dagster_event_type == DagsterEventType.ASSET_CHECK_EVALUATION:
                self.store_asset_check_event(one.entry, one.id)


def _planned_executions(event: _IndexedEvent) -> list[dict[str, Any]]:
    """The rows of a check that is planned: one a partition, or one for all of the asset."""
    plan: Any = event.entry.get_dagster_event().event_specific_data
    subset = plan.partitions_subset
    return [
        {
            "asset_key": plan.asset_key.to_string(),
            "check_name": plan.check_name,
            "partition": partition,
            "run_id": event.entry.run_id,
            "execution_status": AssetCheckExecutionRecordStatus.PLANNED.value,
            "evaluation_event": event.row["event"],
            "evaluation_event_timestamp": event.row["timestamp"],
            "evaluation_event_storage_id": event.id,
        }
        for partition in (subset.get_partition_keys() if subset else [None])
    ]
