"""Delta tables partitioned by ``ds``: replaced by day in one commit, read at a known version."""

import json
import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.quoting import literals
from usergrowth_dagster.warehouse.data_files import (
    ROW_GROUP_ROWS,
    DayFiles,
    NewFile,
    add_actions,
)
from usergrowth_dagster.warehouse.state import (
    META_KEY,
    CommitLog,
    TableState,
    TableStates,
    own_metadata,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

RowStream = Callable[[], "pa.RecordBatchReader"]
CommitLock = Callable[[str], AbstractContextManager[None]]

WRITER_ENVIRONMENT = {
    # A partition's rows all pass one writer; the queue before it has no limit otherwise, so a
    # fast reader would put a whole table into memory.
    "DELTARS_MAX_CONCURRENCY_TASKS": "1",
    "DELTARS_MAX_CONCURRENT_WRITERS": "1",
    "DELTARS_WRITER_BATCH_CHANNEL_SIZE": "1",
    "DELTARS_MAX_IN_FLIGHT_UPLOAD_BYTES": str(16 << 20),
}
"""What bounds the memory of delta-rs, which reads it when it first writes; may be overridden."""

for _name, _value in WRITER_ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

_FOLLOWING_COMMITS = 64
"""How many commits of others may follow one before it is looked for."""

_CONFIGURATION = {
    # recorded versions must stay readable for replays
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
    # The log would hold the least and the greatest value of each column, and it is never
    # rewritten: no user id, phone or attribute belongs there.
    "delta.dataSkippingNumIndexedCols": "0",
}


_OF_A_STORE = _CONFIGURATION | {
    # Every commit reads those since the last checkpoint, each with a request of its own.
    "delta.checkpointInterval": "10",
}


@dataclass(frozen=True)
class Commit:
    """One committed write: table, Delta version and rows written."""

    table: str
    version: int
    rows: int


def _is_conflict(error: BaseException) -> bool:
    from deltalake.exceptions import CommitFailedError, TableNotFoundError

    if isinstance(error, CommitFailedError | TableNotFoundError):
        return True
    return "already exists" in str(error)


def _no_lock(_table: str) -> AbstractContextManager[None]:
    return nullcontext()


class Warehouse:
    """The tables under one storage root.

    Args:
        storage: where the tables live; each is a folder ``tables/<name>`` below it.
        states: file that keeps the state of each table, made when it is missing; None keeps them
            in this object, which then reads each log once.
        lock: by table, what a commit holds; for a store in which two writers may both believe that
            a version is theirs.
    """

    def __init__(
        self, storage: Storage, states: Path | None = None, lock: CommitLock = _no_lock
    ) -> None:
        self.storage = storage
        self.states = TableStates(states)
        self.lock = lock

    def uri(self, table: str) -> str:
        """The Delta table's path or URI."""
        return self.storage.uri(f"tables/{table}")

    @property
    def _options(self) -> dict[str, str] | None:
        return dict(self.storage.delta) or None

    def log(self, table: str) -> CommitLog:
        """The table's commits."""
        return CommitLog(self.storage, table, lambda version: self.open(table, version))

    def state(
        self, table: str, *, first: date | None = None, last: date | None = None
    ) -> TableState | None:
        """The newest version's state, of the days in [first, last]; None: it was never written.

        This is one look at the table, whatever is asked of the state.
        """
        return self.states.look(self.log(table), first=first, last=last)

    def exists(self, table: str) -> bool:
        """Whether the table has ever been written."""
        return self.log(table).has(0) or self._has_checkpoint(table)

    def _has_checkpoint(self, table: str) -> bool:
        """Whether a table is there whose first commits were cleaned up."""
        return self.storage.has_file(f"tables/{table}/_delta_log/_last_checkpoint")

    def open(self, table: str, version: int | None = None) -> "DeltaTable":
        """The Delta table, at its newest or the given version."""
        from deltalake import DeltaTable

        return DeltaTable(self.uri(table), version=version, storage_options=self._options)

    def version(self, table: str) -> int | None:
        """The newest version, or None when the table was never written."""
        state = self.state(table, first=date.min, last=date.min)
        return None if state is None else state.version

    def tables(self) -> list[str]:
        """Names of all tables."""
        return [name for name in self.storage.folders("tables") if self.exists(name)]

    def replace(
        self,
        table: str,
        data: "pa.Table | RowStream",
        *,
        days: Iterable[date],
        scope: Mapping[str, str] | None = None,
        fingerprints: Mapping[date, str] | None = None,
        notes: Mapping[date, Mapping[str, Any]] | None = None,
        ready: Sequence[DayFiles] = (),
    ) -> Commit:
        """Replace the rows of some days (within ``scope``) in one commit.

        Args:
            table: table name; created at its first write, partitioned by ``ds`` and scope columns.
            data: the days' new rows, with a ``ds`` date column; may be empty. For more rows than
                fit in memory, a function that opens a stream of them.
            days: the days replaced; days without rows become empty.
            scope: further partition columns and their values, e.g. ``{"task_id": "spring"}``.
            fingerprints: what each day was made from; read back by :meth:`fingerprints`.
            notes: JSON kept with the commit about each day, without a word about a person, since
                the log is never rewritten; read back by :meth:`notes`.
            ready: further new rows of the days, written before; see :meth:`day_files`.

        Returns:
            The commit. Parallel writers of other days or scopes do not collide.
        """
        wanted, scope = sorted(set(days)), dict(scope or {})
        reader = data() if callable(data) else data.to_reader()
        base = self._opened(table, reader.schema, ["ds", *scope])
        schema = _as_known(base, reader.schema)
        files = DayFiles(self.storage, f"tables/{table}", schema, wanted, scope)
        try:
            for batch in reader:
                files.write(batch)
            written = [file for some in (files, *ready) for file in some.finish()]
        except BaseException:
            for some in (files, *ready):
                some.discard()
            raise
        # From here on the files stay: a commit that seems to have failed may name them.
        meta = _metadata(wanted, scope, fingerprints, notes)
        since = (self.version(table) or 0) + 1
        version = self._name_files(base, table, schema, written, wanted, scope, meta, since)
        self.version(table)  # takes the commit into the state that is kept
        return Commit(table, version, sum(file.rows for file in written))

    def _opened(self, table: str, schema: "pa.Schema", partition_by: Sequence[str]) -> "DeltaTable":
        """The table at its newest version; it is made if it is not there.

        It is made without rows, so that a first write replaces its days like any other.
        """
        from deltalake import CommitProperties, DeltaTable
        from deltalake.exceptions import CommitFailedError

        if self.exists(table):
            return self.open(table)
        with self.lock(table):
            try:
                return DeltaTable.create(
                    self.uri(table),
                    schema,
                    mode="ignore",
                    partition_by=list(partition_by),
                    configuration=_CONFIGURATION if self.storage.is_local else _OF_A_STORE,
                    storage_options=self._options,
                    # Another try would make the table a second time, on top of the first one.
                    commit_properties=CommitProperties(max_commit_retries=0),
                )
            except CommitFailedError:
                return self.open(table)  # another writer has made it since

    def day_files(self, table: str, schema: "pa.Schema", day: date) -> DayFiles:
        """A writer for rows of a day before it is known whether the day is replaced.

        They are no part of the table before :meth:`replace` gets them as ``ready``.
        """
        known = _as_known(self.open(table) if self.exists(table) else None, schema)
        return DayFiles(self.storage, f"tables/{table}", known, [day], {})

    @retry(
        retry=retry_if_exception(_is_conflict),
        stop=stop_after_attempt(30),
        wait=wait_random_exponential(multiplier=0.02, max=1),
        reraise=True,
    )
    def _name_files(
        self,
        base: "DeltaTable",
        table: str,
        schema: "pa.Schema",
        files: Sequence[NewFile],
        days: Sequence[date],
        scope: Mapping[str, str],
        meta: str,
        since: int,
    ) -> int:
        """Commit new files in place of all that some days have; returns the version.

        Whatever is committed meanwhile, by whomever, makes this look at the table again: delta-rs
        would let two first writes of one day both stand. An attempt that seemed to fail may have
        been committed all the same, when its answer was lost on the way.
        """
        with self.lock(table):
            base.update_incremental()  # in an object store it asks for less than to open it anew
            earlier = self._version_of(table, meta, since, int(base.version()))
            if earlier is None:
                self._commit_files(base, schema, files, days, scope, meta)
            return int(base.version()) + 1 if earlier is None else earlier

    def _version_of(self, table: str, meta: str, first: int, last: int) -> int | None:
        """Which commit of [first, last] has this metadata, newest first."""
        log = self.log(table)
        for version in range(last, first - 1, -1):
            if log.information(version).get(META_KEY) == meta:
                return version
        return None

    def _commit_files(
        self,
        base: "DeltaTable",
        schema: "pa.Schema",
        files: Sequence[NewFile],
        days: Sequence[date],
        scope: Mapping[str, str],
        meta: str,
    ) -> None:
        import pyarrow as pa
        from deltalake import CommitProperties

        known = pa.schema(base.schema().to_arrow())
        merged = pa.schema([*known, *(f for f in schema if f.name not in known.names)])
        base.create_write_transaction(
            add_actions(files),
            "overwrite",
            merged,
            ["ds", *scope],
            [
                ("ds", "in", [day.isoformat() for day in days]),
                *((column, "=", value) for column, value in scope.items()),
            ],
            commit_properties=CommitProperties(
                custom_metadata={META_KEY: meta}, max_commit_retries=0
            ),
        )

    def rewrite(
        self,
        base: "DeltaTable",
        table: str,
        data: RowStream,
        *,
        days: Iterable[date],
        scope: Mapping[str, str],
        fingerprints: Mapping[date, str],
        notes: Mapping[date, Mapping[str, Any]] | None = None,
    ) -> Commit:
        """As :meth:`replace`, with rows that were made from the days' own rows.

        Args:
            base: the table as it was opened before the rows were read.
            table: its name.
            data: the new rows.
            days: the days replaced.
            scope: every further partition column and its value.
            fingerprints: what each day goes on to be known by.
            notes: what goes on to be noted about each day.

        Raises:
            CommitFailedError: somebody has written these days since; read them again.
        """
        from deltalake import write_deltalake

        kwargs = _replacement(sorted(set(days)), scope, fingerprints, notes)
        with self.lock(table):
            write_deltalake(base, data(), mode="overwrite", schema_mode="merge", **kwargs)
        version, rows = self._written(table, kwargs["commit_properties"])
        return Commit(table, version, rows)

    def _written(self, table: str, properties: Any) -> tuple[int, int]:
        """Version and rows of the commit just made, found by its own mark: others may follow it."""
        newest = self.version(table) or 0
        first = max(newest - _FOLLOWING_COMMITS + 1, 0)
        version = self._version_of(table, properties.custom_metadata[META_KEY], first, newest)
        if version is None:
            raise RuntimeError(f"{table}: the commit just made is not in the table's history")
        metrics = self.log(table).information(version).get("operationMetrics", {})
        return version, int(metrics.get("num_added_rows", 0))

    def fingerprints(
        self,
        table: str,
        scope: Mapping[str, str] | None = None,
        *,
        first: date | None = None,
        last: date | None = None,
    ) -> dict[date, str]:
        """What each written day in [first, last] was made from, by its newest commit."""
        state = self.state(table, first=first, last=last)
        marks = {} if state is None else state.marks_of(scope)
        return {day: mark.fingerprint for day, mark in marks.items()}

    def fingerprint(
        self, table: str, day: date, scope: Mapping[str, str] | None = None
    ) -> str | None:
        """What one day was made from; None when it was never written."""
        return self.fingerprints(table, scope, first=day, last=day).get(day)

    def notes(
        self,
        table: str,
        scope: Mapping[str, str] | None = None,
        *,
        first: date | None = None,
        last: date | None = None,
    ) -> dict[date, dict[str, Any]]:
        """What was noted about each written day in [first, last], by its newest commit.

        Days whose newest commit has no note are left out.
        """
        state = self.state(table, first=first, last=last)
        marks = {} if state is None else state.marks_of(scope)
        log = self.log(table)
        by_version = {
            version: (own_metadata(log.information(version)) or {}).get("notes", {})
            for version in {mark.version for mark in marks.values()}
        }
        notes = {day: by_version[mark.version].get(str(day)) for day, mark in marks.items()}
        return {day: note for day, note in notes.items() if note is not None}

    def files(
        self,
        table: str,
        *,
        first: date | None = None,
        last: date | None = None,
        version: int | None = None,
    ) -> dict[date, list[str]]:
        """Data files by day, of days in [first, last]; names change whenever content does."""
        by_day: dict[date, list[str]] = {}
        for path, day in self._files_at(table, first, last, version):
            by_day.setdefault(day, []).append(self.storage.uri(f"tables/{table}/{path}"))
        return by_day

    def pinned(self, table: str) -> tuple[int | None, dict[date, list[str]]]:
        """The newest version and its data files by day, of one look; None: never written."""
        state = self.state(table)
        by_day: dict[date, list[str]] = {}
        for file in state.files if state is not None else ():
            by_day.setdefault(file.day, []).append(self.storage.uri(f"tables/{table}/{file.path}"))
        return None if state is None else state.version, by_day

    def _files_at(
        self, table: str, first: date | None, last: date | None, version: int | None
    ) -> list[tuple[str, date]]:
        """Paths of data files below the table's folder, by day and path."""
        if version is None:
            state = self.state(table, first=first, last=last)
            return [] if state is None else [(file.path, file.day) for file in state.files]
        actions = self.open(table, version).get_add_actions(flatten=True)
        days = actions.column("partition.ds").to_pylist()
        files = zip(map(unquote, actions.column("path").to_pylist()), days, strict=True)
        low, high = first or date.min, last or date.max
        return sorted((one for one in files if low <= one[1] <= high), key=lambda f: (f[1], f[0]))

    def row_counts(
        self,
        table: str,
        scope: Mapping[str, str] | None = None,
        *,
        first: date | None = None,
        last: date | None = None,
    ) -> dict[date, int]:
        """Rows by day, of the partitions in ``scope`` alone if it is given; no data is read."""
        state = self.state(table, first=first, last=last)
        counts: dict[date, int] = {}
        for file in state.files if state is not None else ():
            if (scope or {}).items() <= file.partition.items():
                counts[file.day] = counts.get(file.day, 0) + file.rows
        return counts

    def days(self, table: str) -> list[date]:
        """Days that hold rows, in order."""
        return list(self.files(table))

    def columns(self, table: str) -> Sequence[str]:
        """Column names of the newest version."""
        return [field.name for field in self.open(table).schema().fields]


def _as_known(base: "DeltaTable | None", schema: "pa.Schema") -> "pa.Schema":
    """A schema with the types that a table has, as far as it is there."""
    import pyarrow as pa
    from deltalake import Schema

    new = pa.schema(Schema.from_arrow(schema).to_arrow())
    if base is None:
        return new
    known = {field.name: field for field in pa.schema(base.schema().to_arrow())}
    return pa.schema([known.get(field.name, field) for field in new])


def _replacement(
    days: Sequence[date],
    scope: Mapping[str, str] | None,
    fingerprints: Mapping[date, str] | None,
    notes: Mapping[date, Mapping[str, Any]] | None,
) -> dict[str, Any]:
    """What ``write_deltalake`` needs to replace days within a scope, and to know them again."""
    from deltalake import CommitProperties, WriterProperties

    quoted = literals(day.isoformat() for day in days)
    predicate = f"ds in ({quoted})"
    for column, value in (scope or {}).items():
        predicate += f" and {column} = '{value}'"
    meta = _metadata(days, scope, fingerprints, notes)
    return {
        "partition_by": ["ds", *(scope or {})],
        "predicate": predicate,
        "commit_properties": CommitProperties(
            custom_metadata={META_KEY: meta}, max_commit_retries=30
        ),
        "writer_properties": WriterProperties(
            compression="ZSTD", max_row_group_size=ROW_GROUP_ROWS
        ),
    }


def _metadata(
    days: Sequence[date],
    scope: Mapping[str, str] | None,
    fingerprints: Mapping[date, str] | None,
    notes: Mapping[date, Mapping[str, Any]] | None,
) -> str:
    """What a commit says of itself: its days and scope, what they were made from, and a mark."""
    meta: dict[str, Any] = {
        "days": [day.isoformat() for day in days],
        "scope": dict(scope or {}),
        "fingerprints": {day.isoformat(): mark for day, mark in (fingerprints or {}).items()},
        "commit": uuid.uuid4().hex,
    }
    if notes:
        meta["notes"] = {day.isoformat(): dict(note) for day, note in notes.items()}
    return json.dumps(meta)
