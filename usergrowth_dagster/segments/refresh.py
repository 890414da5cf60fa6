"""Refresh segments: a new frozen snapshot where the definition or the inputs have changed."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Literal

from usergrowth_dagster.control.store import utc_now
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.segments.definition import Named
from usergrowth_dagster.segments.files import in_order, segment_named
from usergrowth_dagster.segments.groups.checks import GroupFailedError, begin, write_check
from usergrowth_dagster.segments.groups.files import content_mark
from usergrowth_dagster.segments.inputs import upload_hash
from usergrowth_dagster.segments.leaves import Upload
from usergrowth_dagster.segments.people import People, bind_people
from usergrowth_dagster.segments.sizes import sizes_of
from usergrowth_dagster.segments.snapshots import (
    FAILED,
    MEMBERS,
    Snapshot,
    good,
    read_snapshots,
    remove_record,
    scope_of,
    write_record,
)
from usergrowth_dagster.segments.standing import jump_sentence
from usergrowth_dagster.warehouse.engine import Engine, open_engine

if TYPE_CHECKING:
    import pyarrow as pa

_FORM = "1"
"""Changes when the same definition and inputs come to give other people."""


@dataclass(frozen=True)
class Refreshed:
    """What became of a segment on a date.

    Attributes:
        segment: its name.
        execution_date: the date.
        state: new; unchanged (the snapshot was made from the same); not_due (once, and made; or
            no file has changed); expired (not valid on the date).
        snapshot: the snapshot that stands; None where there is none.
        alert: the jump in size, in a sentence; empty without one.
        sentence: all of that in one sentence.
    """

    segment: str
    execution_date: date
    state: Literal["new", "unchanged", "not_due", "expired"]
    snapshot: Snapshot | None
    alert: str
    sentence: str


def refresh(
    project: Project, named: Named, day: date, *, actor: str, reason: str = "", again: bool = False
) -> Refreshed:
    """Make a snapshot of a segment as of a date, unless one stands.

    Args:
        project: the home.
        named: the segment.
        day: the execution date.
        actor: who refreshes.
        reason: why; kept with the snapshot.
        again: look at the inputs also where the segment is not due.

    Raises:
        UserError: it cannot be worked out; that is on record then.
    """
    with project.alone(f"segment.{named.name}"), open_engine(project.settings) as engine:
        known = read_snapshots(engine, project.warehouse, named.name)
        waits = _waits(project, named, day, known, again=again)
        if waits is not None:
            if waits.state == "not_due" and waits.snapshot is not None:
                _end_failures(project, known, waits.snapshot, day)
            return waits
        try:
            people = _bind_checked(engine, project, named, day)
        except UserError as error:
            _record_failure(project, named, day, str(error), actor, reason)
            raise
        mark = _fingerprint(named, day, people)
        name = f"{day:%Y%m%d}-{mark[:8]}"
        standing = [one for one in good(known) if one.snapshot == name]
        if standing:
            _end_failures(project, known, standing[-1], day)
            return _result(named, day, "unchanged", standing[-1])
        made = _write(engine, project, named, day, people, name, mark, actor, reason)
        alert = jump_sentence(made, good(known, until=day), project.settings.segment_jump)
        return _result(named, day, "new", made, alert)


def _bind_checked(engine: Engine, project: Project, named: Named, day: date) -> People:
    """The people; of a segment with a source, its check is on record before and after.

    Raises:
        UserError: they cannot be worked out.
    """
    if named.segment.source is None:
        return bind_people(engine, project, named, day)
    begun = begin(named, day)
    write_check(project.warehouse, begun)
    try:
        people = bind_people(engine, project, named, day)
    except UserError as error:
        failed = error.check if isinstance(error, GroupFailedError) else None
        write_check(project.warehouse, failed or replace(begun, state="failed", problem=str(error)))
        raise
    if people.check is not None:
        write_check(project.warehouse, people.check)
    return people


def _waits(
    project: Project, named: Named, day: date, known: Sequence[Snapshot], *, again: bool
) -> Refreshed | None:
    """The result where nothing is to be done; None where the inputs must be looked at."""
    segment = named.segment
    if segment.valid_until is not None and day > segment.valid_until:
        return _result(named, day, "expired", next(reversed(good(known)), None))
    mine = [one for one in good(known, until=day) if one.version == segment.version]
    if again or segment.refresh == "daily" or not mine:
        return None
    kept = json.loads(mine[-1].inputs)
    is_typed = segment.source is not None and segment.source.text is not None
    # The version of a typed list is made of masked values, which may stay the same.
    if (segment.refresh == "on_upload" or is_typed) and kept != {**kept, **_lists(project, named)}:
        return None
    return _result(named, day, "not_due", mine[-1])


def _lists(project: Project, named: Named) -> dict[str, str]:
    """The hash of each file that a segment names, and of its source's list."""
    home, source = project.settings.home, named.segment.source
    if source is not None:
        return content_mark(project, source)
    return {
        f"upload:{leaf.file}": upload_hash(home, leaf)
        for _, leaf in named.segment.leaves()
        if isinstance(leaf, Upload)
    }


def _result(
    named: Named,
    day: date,
    state: Literal["new", "unchanged", "not_due", "expired"],
    snapshot: Snapshot | None,
    alert: str = "",
) -> Refreshed:
    size = (
        "" if snapshot is None or snapshot.sizes is None else f"{snapshot.sizes.matches:,} people"
    )
    name = snapshot.snapshot if snapshot is not None else ""
    said = {
        "new": f"snapshot {name} of {day} is new: {size}",
        "unchanged": f"snapshot {name} stands ({size}): nothing that it is made from has changed",
        "not_due": f"snapshot {name} stands ({size}): the segment is refreshed "
        f"{named.segment.refresh}, and is not due",
        "expired": f"NOT refreshed: it is not valid after {named.segment.valid_until}",
    }
    sentence = f"segment {named.name}: {said[state]}"
    return Refreshed(named.name, day, state, snapshot, alert, sentence)


def _fingerprint(named: Named, day: date, people: People) -> str:
    parts = [_FORM, named.segment.version, day.isoformat(), people.fingerprint]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _write(
    engine: Engine,
    project: Project,
    named: Named,
    day: date,
    people: People,
    name: str,
    mark: str,
    actor: str,
    reason: str,
) -> Snapshot:
    """Write the people, then the record; a snapshot without a record does not count."""
    scope = scope_of(named.name, name)
    columns = ", ".join(f"{literal(value)} as {key}" for key, value in scope.items())

    def rows() -> "pa.RecordBatchReader":
        return engine.stream(
            f"select date {literal(str(day))} as ds, {columns}, user_id from {people.members} "
            "order by user_id"
        )

    sizes = sizes_of(engine, project, people.members, day)
    digest = _digest(engine, people)
    project.warehouse.replace(MEMBERS, rows, days=[day], scope=scope, fingerprints={day: mark})
    made = Snapshot(
        ds=day,
        segment=named.name,
        snapshot=name,
        version=named.segment.version,
        definition=json.dumps(dict(named.segment.canonical), ensure_ascii=False, sort_keys=True),
        fingerprint=mark,
        sizes=sizes,
        sha256=digest,
        inputs=json.dumps({**people.versions, **_lists(project, named)}, sort_keys=True),
        notes=people.notes,
        made_by=actor,
        reason=reason,
        made_at=utc_now(),
        error="",
    )
    write_record(project.warehouse, made)
    return made


def _digest(engine: Engine, people: People) -> str:
    """SHA-256 of the user ids in order, each with a line end."""
    digest = hashlib.sha256()
    for batch in engine.stream(f"select user_id from {people.members} order by user_id"):
        lines = "\n".join(batch.column(0).to_pylist())
        digest.update(f"{lines}\n".encode() if batch.num_rows else b"")
    return digest.hexdigest()


def _record_failure(
    project: Project, named: Named, day: date, error: str, actor: str, reason: str
) -> None:
    """Keep that a refresh failed, so that the segment is stale in sight."""
    write_record(
        project.warehouse,
        Snapshot(
            ds=day,
            segment=named.name,
            snapshot=f"{day:%Y%m%d}-{FAILED}",
            version=named.segment.version,
            definition="{}",
            fingerprint="",
            sizes=None,
            sha256="",
            inputs="{}",
            notes=(),
            made_by=actor,
            reason=reason,
            made_at=utc_now(),
            error=error,
        ),
    )


def _end_failures(
    project: Project, known: Sequence[Snapshot], standing: Snapshot, day: date
) -> None:
    """Take back failures that came after a snapshot which stands, since they are mended."""
    for one in known:
        if not one.is_good and standing.ds <= one.ds <= day:
            remove_record(project.warehouse, one)


@dataclass(frozen=True)
class RefreshedAll:
    """What became of several segments, and a sentence for each that failed."""

    refreshed: tuple[Refreshed, ...]
    failures: tuple[str, ...]


def refresh_all(
    project: Project,
    day: date,
    *,
    actor: str,
    name: str | None = None,
    reason: str = "",
    again: bool = False,
) -> RefreshedAll:
    """Refresh every segment, or one; one that fails does not keep the others back.

    Segments that others name come first.

    Raises:
        UserError: the folder of the segments breaks a rule.
    """
    home = project.settings.home
    order, broken = in_order(home) if name is None else ([name], {})
    done, failures = [], [str(error) for error in broken.values()]
    for one in order:
        try:
            named = segment_named(home, one)
            done.append(refresh(project, named, day, actor=actor, reason=reason, again=again))
        except UserError as error:
            failures.append(str(error))
    return RefreshedAll(tuple(done), tuple(failures))
