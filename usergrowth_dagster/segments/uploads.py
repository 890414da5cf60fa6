"""A snapshot as the upload of a task's population, so that a campaign needs no other one."""

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from usergrowth_dagster.control.audit import record
from usergrowth_dagster.data.population import FOLDER, MARKER, task_folder
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.segments.definition import Named
from usergrowth_dagster.segments.sizes import bind_addresses
from usergrowth_dagster.segments.snapshots import (
    MEMBERS,
    Snapshot,
    bind_members,
    find_snapshot,
    read_snapshots,
)
from usergrowth_dagster.segments.standing import standing_of
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.relation import bind_query

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "segment.parquet"
"""File of an upload that is made from a segment; `usergrowth forget` reaches it."""

NO_ITEM = "-"
"""The item of people who are texted about none."""


@dataclass(frozen=True)
class Uploaded:
    """What became of an upload.

    Attributes:
        segment: the segment.
        snapshot: its snapshot.
        task: the task whose population it is.
        people: rows of the upload, one a person.
        with_address: rows with a number or an e-mail address.
        stale: why the segment must not be relied on, a sentence each.
        place: the file, below the landing folder.
    """

    segment: str
    snapshot: str
    task: str
    people: int
    with_address: int
    stale: tuple[str, ...]
    place: str


def upload_segment(
    project: Project, named: Named, task: str, *, actor: str, item: str, snapshot: str = "newest"
) -> Uploaded:
    """Write a snapshot's people as the population of a task: user, item, number, e-mail address.

    Addresses are those of the newest upload of each person up to the snapshot's date.

    Args:
        project: the home.
        named: the segment.
        task: name of the task, which has no upload yet.
        actor: who does it, for the audit log.
        item: the item that the message is about.
        snapshot: a snapshot; ``newest`` is the last.

    Raises:
        UserError: there is no such snapshot, or the task has an upload.
    """
    folder = task_folder(task)
    with project.alone(f"upload.{task}"), open_engine(project.settings) as engine:
        records = read_snapshots(engine, project.warehouse, named.name)
        chosen = find_snapshot(records, named.name, snapshot)
        if project.landing.files(folder, deep=True):
            raise UserError(
                f"{folder} has an upload already; name another task", code="file.exists"
            )
        path = f"{folder}/{FILE}"
        people, reached = _write(engine, project, chosen, item, path)
        with project.store.write() as connection:
            detail = f"snapshot {chosen.snapshot} of segment {named.name}: {people:,} people"
            record(connection, actor, "segment-upload", task, detail)
        project.landing.write_bytes(f"{folder}/{MARKER}", b"")
    settings = project.settings
    stands = standing_of(named, records, settings.current_date(), settings.segment_jump)
    return Uploaded(named.name, chosen.snapshot, task, people, reached, stands.stale, path)


def _write(
    engine: Engine, project: Project, chosen: Snapshot, item: str, path: str
) -> tuple[int, int]:
    """Write the file; its rows, and those with an address."""
    members = bind_members(engine, project.warehouse, chosen)
    people = bind_query(engine, MEMBERS, f"select user_id from {members}", keep=True)
    reachable = bind_addresses(engine, project, people, chosen.ds)
    rows = engine.stream(
        f"select user_id, {literal(item)} as item_id, phone, email from {reachable} "
        "order by user_id"
    )
    project.landing.write_atomic(path, lambda handle: _copy(rows, handle))
    counts = "select count(*), count(*) filter (where phone is not null or email is not null)"
    written, reached = engine.rows(f"{counts} from {reachable}")[0]
    return int(written), int(reached)


def _copy(rows: "pa.RecordBatchReader", handle: IO[bytes]) -> None:
    from pyarrow import parquet

    with parquet.ParquetWriter(handle, rows.schema) as writer:
        for batch in rows:
            writer.write_batch(batch)


def erase_from_uploads(landing: Storage, user_id: str, *, dry_run: bool = False) -> int:
    """Write uploads that are made from segments again without a user; how many rows they had.

    Args:
        landing: root of the landing files.
        user_id: the user.
        dry_run: count only.
    """
    erased = 0
    for entry in landing.files(FOLDER, deep=True):
        if entry.name == FILE:
            erased += _erase(landing, entry.path, user_id, dry_run=dry_run)
    return erased


def _erase(landing: Storage, path: str, user_id: str, *, dry_run: bool) -> int:
    import pyarrow.compute as pc
    from pyarrow import parquet

    with landing.open(path) as source:
        file = parquet.ParquetFile(source)
        found = sum(
            pc.sum(pc.equal(batch.column("user_id"), user_id)).as_py() or 0
            for batch in file.iter_batches(columns=["user_id"])
        )
        if found and not dry_run:
            schema = file.schema_arrow

            def kept(handle: IO[bytes]) -> None:
                with parquet.ParquetWriter(handle, schema) as writer:
                    for batch in file.iter_batches():
                        mask = pc.not_equal(batch.column("user_id"), user_id)
                        writer.write_batch(batch.filter(mask))

            landing.write_atomic(path, kept)
    return int(found)


def sentence_of(done: Uploaded) -> str:
    """What became of an upload, in a sentence."""
    return (
        f"population {done.task} has the {done.people:,} people of snapshot {done.snapshot} of "
        f"segment {done.segment}; {done.with_address:,} of them have an address"
    )
