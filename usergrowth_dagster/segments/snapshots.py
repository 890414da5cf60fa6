"""Frozen snapshots: who was in a segment on a date, and what the snapshot was made from.

Two Delta tables hold them, both partitioned by ``ds``, segment and snapshot: ``segment_members``
with the people, and ``segment_snapshots`` with one row each. A snapshot is written once and never
again, except that people who are forgotten leave it; its count then differs from the record's.
A refresh that fails leaves a row without people, so that the segment is stale in sight.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from usergrowth_dagster.documents import plain
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.segments.sizes import Sizes
from usergrowth_dagster.warehouse.columns import arrow_schema, types_of
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation, bind_files
from usergrowth_dagster.warehouse.tables import Warehouse

MEMBERS = "segment_members"
SNAPSHOTS = "segment_snapshots"
FAILED = "failed"

MEMBER_COLUMNS = {"ds": "DATE", "segment": "VARCHAR", "snapshot": "VARCHAR", "user_id": "VARCHAR"}

SNAPSHOT_COLUMNS: Mapping[str, tuple[str, str]] = {
    "ds": ("DATE", "execution date that the people are as of"),
    "segment": ("VARCHAR", "the segment"),
    "snapshot": ("VARCHAR", "the snapshot: date and fingerprint; a failed refresh ends so"),
    "version": ("VARCHAR", "SHA-256 of the definition, 16 digits"),
    "definition": ("VARCHAR", "the definition as JSON"),
    "fingerprint": ("VARCHAR", "hash of the definition, the date and all inputs"),
    "matches": ("BIGINT", "people of the snapshot; null when the refresh failed"),
    "with_address": ("BIGINT", "of these, people with an uploaded address"),
    "not_refused": ("BIGINT", "of these, people who refuse on no channel"),
    "not_held_out": ("BIGINT", "of these, people outside the global control group"),
    "sendable": ("BIGINT", "of these, people who meet all three"),
    "sha256": ("VARCHAR", "SHA-256 of the user ids in order, each with a line end"),
    "inputs": ("VARCHAR", "version of each table that was read, as JSON"),
    "notes": ("VARCHAR", "sentences about what was left out, one a line"),
    "made_by": ("VARCHAR", "who refreshed"),
    "reason": ("VARCHAR", "why"),
    "made_at": ("TIMESTAMP WITH TIME ZONE", "when (UTC)"),
    "error": ("VARCHAR", "why the refresh failed; empty for a snapshot"),
}
"""By name, the DuckDB type and the meaning of the columns of ``segment_snapshots``."""

_SCOPE = re.compile(r"/segment=([^/]+)/snapshot=([^/]+)/")


@dataclass(frozen=True)
class Snapshot:
    """A row of ``segment_snapshots``; see :data:`SNAPSHOT_COLUMNS`."""

    ds: date
    segment: str
    snapshot: str
    version: str
    definition: str
    fingerprint: str
    sizes: Sizes | None
    sha256: str
    inputs: str
    notes: tuple[str, ...]
    made_by: str
    reason: str
    made_at: datetime
    error: str

    @property
    def is_good(self) -> bool:
        """Whether it has people, and is no record of a failure."""
        return not self.error


def write_record(warehouse: Warehouse, snapshot: Snapshot) -> None:
    """Record a snapshot, or a refresh that failed."""
    sizes = plain(snapshot.sizes) if snapshot.sizes is not None else {}
    row: dict[str, Any] = {
        name: getattr(snapshot, name) if hasattr(snapshot, name) else sizes.get(name)
        for name in SNAPSHOT_COLUMNS
    }
    row["notes"] = "\n".join(snapshot.notes)
    _replace_record(warehouse, snapshot, [row])


def remove_record(warehouse: Warehouse, failure: Snapshot) -> None:
    """Take back the record of a refresh that failed; earlier versions of the table keep it."""
    _replace_record(warehouse, failure, [])


def _replace_record(warehouse: Warehouse, snapshot: Snapshot, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa

    warehouse.replace(
        SNAPSHOTS,
        pa.Table.from_pylist(rows, arrow_schema(SNAPSHOT_COLUMNS)),
        days=[snapshot.ds],
        scope=scope_of(snapshot.segment, snapshot.snapshot),
        fingerprints={snapshot.ds: snapshot.fingerprint},
    )


def scope_of(segment: str, snapshot: str) -> dict[str, str]:
    """The partition of a snapshot beside its date."""
    return {"segment": segment, "snapshot": snapshot}


def record_files(warehouse: Warehouse) -> dict[str, list[str]]:
    """By segment, the files of its records, oldest date first; no file is opened."""
    files: dict[str, list[str]] = {}
    if not warehouse.exists(SNAPSHOTS):
        return files
    for _, paths in sorted(warehouse.files(SNAPSHOTS).items()):
        for path in paths:
            found = _SCOPE.search(path)
            if found is not None:
                files.setdefault(found[1], []).append(path)
    return files


def read_snapshots(
    engine: Engine, warehouse: Warehouse, segment: str, *, newest: int | None = None
) -> list[Snapshot]:
    """The records of a segment, by date and by when they were made.

    Args:
        engine: reads them.
        warehouse: holds them.
        segment: the segment.
        newest: only so many files of the newest dates.
    """
    files = record_files(warehouse).get(segment, [])
    return read_records(engine, files[-newest:] if newest else files)


def read_records(engine: Engine, files: Sequence[str]) -> list[Snapshot]:
    """The records in some files of ``segment_snapshots``, by date and by when they were made."""
    kinds = types_of(SNAPSHOT_COLUMNS)
    engine.run("set TimeZone = 'UTC'")
    bound = bind_files(engine, SNAPSHOTS, files, kinds)
    rows = engine.rows(f"select * from {bound} order by ds, made_at, snapshot")
    return [_snapshot(dict(zip(kinds, row, strict=True))) for row in rows]


def _snapshot(row: dict[str, Any]) -> Snapshot:
    names = ("matches", "with_address", "not_refused", "not_held_out", "sendable")
    counts = {name: row.pop(name) for name in names}
    sizes = None if counts["matches"] is None else Sizes(**counts)
    row["notes"] = tuple((row["notes"] or "").splitlines())
    return Snapshot(sizes=sizes, **row)


def good(snapshots: Sequence[Snapshot], *, until: date | None = None) -> list[Snapshot]:
    """Those that have people, of dates up to one."""
    return [one for one in snapshots if one.is_good and (until is None or one.ds <= until)]


def find_snapshot(snapshots: Sequence[Snapshot], segment: str, name: str) -> Snapshot:
    """The snapshot of a name; ``newest`` is the last that has people.

    Raises:
        UserError: there is none.
    """
    candidates = good(snapshots)
    chosen = candidates[-1:] if name == "newest" else [s for s in candidates if s.snapshot == name]
    if not chosen:
        known = ", ".join(s.snapshot for s in candidates[-10:]) or "none"
        raise UserError(
            f"segment {segment} has no snapshot {name!r}; it has {known}", code="segment.unknown"
        )
    return chosen[-1]


def bind_members(engine: Engine, warehouse: Warehouse, snapshot: Snapshot) -> Relation:
    """The people of a snapshot: ``ds``, ``segment``, ``snapshot`` and ``user_id``."""
    return bind_members_of(
        engine, warehouse, snapshot.ds, scope_of(snapshot.segment, snapshot.snapshot)
    )


def bind_members_of(
    engine: Engine, warehouse: Warehouse, day: date, scope: Mapping[str, str]
) -> Relation:
    """As :func:`bind_members`, of a snapshot by its date and its :func:`scope_of`."""
    days = warehouse.files(MEMBERS, first=day, last=day) if warehouse.exists(MEMBERS) else {}
    mine = f"/segment={scope['segment']}/snapshot={scope['snapshot']}/"
    paths = [path for files in days.values() for path in files if mine in path]
    return bind_files(engine, MEMBERS, paths, MEMBER_COLUMNS)
