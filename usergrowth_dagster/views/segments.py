"""The segments of a home as people look at them: sizes, snapshots, what is stale, what jumped."""

import json
from dataclasses import dataclass
from datetime import date, datetime

from usergrowth_dagster.control.tasks import Task, all_tasks
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.pipeline.freshness import Stale, stale_now
from usergrowth_dagster.project import Project
from usergrowth_dagster.segments.compare import Difference, compare_snapshots, why_they_differ
from usergrowth_dagster.segments.definition import Named
from usergrowth_dagster.segments.files import in_order, segment_files, segment_named
from usergrowth_dagster.segments.groups.checks import GroupCheck, read_check
from usergrowth_dagster.segments.people import bind_people, check_people, estimate_people
from usergrowth_dagster.segments.sizes import Estimate, Sizes, sizes_of
from usergrowth_dagster.segments.snapshots import (
    Snapshot,
    find_snapshot,
    good,
    read_records,
    read_snapshots,
    record_files,
)
from usergrowth_dagster.segments.standing import jump_sentence, standing_of
from usergrowth_dagster.warehouse.engine import Engine, open_engine

_LISTED_FILES = 4
"""Files of newest records that a list reads of each segment."""


@dataclass(frozen=True)
class CheckedSegment:
    """A segment that can be worked out.

    Attributes:
        segment: its name.
        form: where, select, or its source such as csv.
        conditions: leaves of its tree; 0 of a SELECT or a source.
        refresh: when it is refreshed.
        version: of its definition.
        reads: tables that it reads.
        notes: sentences about what is left out.
    """

    segment: str
    form: str
    conditions: int
    refresh: str
    version: str
    reads: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class CheckedSegments:
    """What was looked at, and a sentence for each segment that cannot be worked out."""

    looks: tuple[CheckedSegment, ...]
    failures: tuple[str, ...]


@dataclass(frozen=True)
class SnapshotLine:
    """A snapshot, or a refresh that failed, in a history; its sizes are None then.

    Attributes:
        snapshot: its name.
        execution_date: the date that it is as of.
        sizes: how many people.
        version: of the definition.
        made: when, in the business time zone.
        made_by: who refreshed.
        reason: why.
        changed: what changed since the snapshot before; empty for the first.
        alert: the jump in size since the snapshot before; empty without one.
        error: why the refresh failed; empty for a snapshot.
    """

    snapshot: str
    execution_date: date
    sizes: Sizes | None
    version: str
    made: datetime
    made_by: str
    reason: str
    changed: str
    alert: str
    error: str


@dataclass(frozen=True)
class ListedSegment:
    """A segment and how it stands.

    Attributes:
        segment: its name.
        description: for people.
        owner: who answers for it.
        refresh: once, daily or on_upload.
        valid_until: last date of use.
        snapshot: its newest snapshot; None without one.
        execution_date: the date of the snapshot.
        sizes: of the snapshot, as of when it was made.
        stale: why it must not be relied on, a sentence each.
        alert: the jump of its size; empty without one.
    """

    segment: str
    description: str
    owner: str
    refresh: str
    valid_until: date | None
    snapshot: str | None
    execution_date: date | None
    sizes: Sizes | None
    stale: tuple[str, ...]
    alert: str


@dataclass(frozen=True)
class StaleSegment:
    """A stale segment that campaigns wait for now.

    Attributes:
        segment: its name.
        campaigns: those that wait.
        tasks: their tasks.
        reasons: why it must not be relied on, a sentence each.
        remedy: what to run.
        blocks: whether the campaigns are held; else its newest snapshot is used all the same.
    """

    segment: str
    campaigns: tuple[str, ...]
    tasks: tuple[str, ...]
    reasons: tuple[str, ...]
    remedy: str
    blocks: bool


@dataclass(frozen=True)
class ListedSegments:
    """All segments that can be read, stale ones that campaigns wait for, and what failed."""

    segments: tuple[ListedSegment, ...]
    waited_for: tuple[StaleSegment, ...]
    failures: tuple[str, ...]


@dataclass(frozen=True)
class ShownSegment:
    """A segment in full: how it stands, its definition, and what its snapshot was made from.

    ``check`` is the newest check of its source; None of a segment without one.
    """

    listed: ListedSegment
    version: str
    definition: str
    sha256: str
    inputs: dict[str, int | str]
    notes: tuple[str, ...]
    made: datetime | None
    made_by: str
    reason: str
    check: GroupCheck | None = None


@dataclass(frozen=True)
class SizedSegment:
    """The exact sizes of a segment on a date, with sentences about what is left out."""

    segment: str
    execution_date: date
    sizes: Sizes
    notes: tuple[str, ...]


def check_segments(project: Project, name: str | None, day: date | None = None) -> CheckedSegments:
    """Read every segment, or one, and work out its statement without running it.

    Raises:
        UserError: the folder of the segments breaks a rule.
    """
    day = day or project.settings.current_date()
    names = [name] if name is not None else list(segment_files(project.settings.home))
    looks, failures = [], []
    for one in names:
        try:
            looks.append(_check(project, segment_named(project.settings.home, one), day))
        except UserError as error:
            failures.append(str(error))
    return CheckedSegments(tuple(looks), tuple(failures))


def _check(project: Project, named: Named, day: date) -> CheckedSegment:
    with open_engine(project.settings) as engine:
        reads, notes = check_people(engine, project, named, day)
    segment = named.segment
    return CheckedSegment(
        segment=named.name,
        form=segment.form,
        conditions=len(list(segment.leaves())),
        refresh=segment.refresh,
        version=segment.version,
        reads=reads,
        notes=notes,
    )


def estimate_segment(project: Project, name: str, day: date | None = None) -> Estimate | None:
    """The size of a segment by a hash sample; None where everybody is counted at once.

    Raises:
        UserError: there is no such segment, or it cannot be worked out.
    """
    named = segment_named(project.settings.home, name)
    with open_engine(project.settings) as engine:
        return estimate_people(engine, project, named, day or project.settings.current_date())


def size_segment(project: Project, name: str, day: date | None = None) -> SizedSegment:
    """The exact sizes of a segment; nothing is kept.

    Raises:
        UserError: there is no such segment, or it cannot be worked out.
    """
    day = day or project.settings.current_date()
    named = segment_named(project.settings.home, name)
    with open_engine(project.settings) as engine:
        people = bind_people(engine, project, named, day)
        return SizedSegment(name, day, sizes_of(engine, project, people.members, day), people.notes)


def list_segments(project: Project) -> ListedSegments:
    """Every segment with its newest snapshot.

    Raises:
        UserError: the folder of the segments breaks a rule.
    """
    home = project.settings.home
    _, broken = in_order(home)
    files, listed = record_files(project.warehouse), []
    with open_engine(project.settings) as engine:
        for name in segment_files(home):
            if name not in broken:
                records = read_records(engine, files.get(name, [])[-_LISTED_FILES:])
                listed.append(_listed(project, segment_named(home, name), records))
    failures = [str(error) for error in broken.values()]
    waited_for: tuple[StaleSegment, ...] = ()
    try:
        waited_for = stale_segments(project)
    except ValueError as error:  # settings on record that this version cannot read
        failures.append(
            "it is not known which campaigns wait for a stale segment: a task on record cannot be "
            f"read ({type(error).__name__})"
        )
    return ListedSegments(tuple(listed), waited_for, tuple(failures))


def _listed(project: Project, named: Named, records: list[Snapshot]) -> ListedSegment:
    settings, segment = project.settings, named.segment
    stands = standing_of(named, records, settings.current_date(), settings.segment_jump)
    newest = stands.newest
    return ListedSegment(
        segment=named.name,
        description=segment.description,
        owner=segment.owner,
        refresh=segment.refresh,
        valid_until=segment.valid_until,
        snapshot=newest.snapshot if newest else None,
        execution_date=newest.ds if newest else None,
        sizes=newest.sizes if newest else None,
        stale=stands.stale,
        alert=stands.alert,
    )


def show_segment(project: Project, name: str) -> ShownSegment:
    """One segment in full.

    Raises:
        UserError: there is no such segment, or its file breaks its format.
    """
    named = segment_named(project.settings.home, name)
    with open_engine(project.settings) as engine:
        records = read_snapshots(engine, project.warehouse, name)
        is_group = named.segment.source is not None
        check = read_check(engine, project.warehouse, name) if is_group else None
    listed = _listed(project, named, records)
    newest = next((one for one in reversed(records) if one.snapshot == listed.snapshot), None)
    zone = project.settings.zone
    return ShownSegment(
        listed=listed,
        version=named.segment.version,
        definition=json.dumps(dict(named.segment.canonical), ensure_ascii=False, indent=1),
        sha256=newest.sha256 if newest else "",
        inputs=json.loads(newest.inputs) if newest else {},
        notes=newest.notes if newest else (),
        made=newest.made_at.astimezone(zone) if newest else None,
        made_by=newest.made_by if newest else "",
        reason=newest.reason if newest else "",
        check=check,
    )


def segment_check(project: Project, name: str, day: date | None = None) -> GroupCheck:
    """The newest check of a segment's source, or that of a date.

    Raises:
        UserError: there is no such segment, it has no source, or it was never checked.
    """
    named = segment_named(project.settings.home, name)
    if named.segment.source is None:
        raise UserError(
            f"{named.origin}: the segment has no source, so it has no rows to check; sources are "
            "lists, tables and algorithms",
            code="segment.unknown",
        )
    with open_engine(project.settings) as engine:
        check = read_check(engine, project.warehouse, name, day=day)
    if check is None:
        when = f" of {day}" if day else ""
        raise UserError(
            f"segment {name}: its source has no check{when}; `usergrowth segment refresh {name}` "
            "makes one",
            code="segment.unknown",
        )
    return check


def segment_checks(project: Project, day: date) -> tuple[GroupCheck, ...]:
    """The checks of a date, by segment; those of segments that are gone are left out."""
    home = project.settings.home
    with open_engine(project.settings) as engine:
        checks = [
            read_check(engine, project.warehouse, name, day=day) for name in segment_files(home)
        ]
    return tuple(check for check in checks if check is not None)


def segment_history(project: Project, name: str, last: int = 60) -> tuple[SnapshotLine, ...]:
    """The newest records of a segment, oldest first, each with what changed since the one before.

    Raises:
        UserError: nothing is known of such a segment.
    """
    known = name in record_files(project.warehouse)
    if not known:
        segment_named(project.settings.home, name)
    with open_engine(project.settings) as engine:
        records = read_snapshots(engine, project.warehouse, name, newest=last + 1)
    lines: list[SnapshotLine] = []
    before: list[Snapshot] = []
    for one in records:
        lines.append(_line(project, one, before))
        before += [one] if one.is_good else []
    return tuple(lines[-last:])


def _line(project: Project, one: Snapshot, before: list[Snapshot]) -> SnapshotLine:
    compared = bool(before) and one.is_good
    return SnapshotLine(
        snapshot=one.snapshot,
        execution_date=one.ds,
        sizes=one.sizes,
        version=one.version,
        made=one.made_at.astimezone(project.settings.zone),
        made_by=one.made_by,
        reason=one.reason,
        changed=why_they_differ(before[-1], one) if compared else "",
        alert=jump_sentence(one, before, project.settings.segment_jump) if compared else "",
        error=one.error,
    )


def size_histories(project: Project, last: int = 60) -> dict[str, list[tuple[date, int]]]:
    """By segment, the date and the people of its newest snapshots, oldest first.

    A date with several snapshots has the size of the last.
    """
    files = record_files(project.warehouse)
    histories: dict[str, list[tuple[date, int]]] = {}
    with open_engine(project.settings) as engine:
        for name in segment_files(project.settings.home):
            records = read_records(engine, files.get(name, [])[-last:])
            sizes = {one.ds: one.sizes.matches for one in records if one.sizes is not None}
            if sizes:
                histories[name] = sorted(sizes.items())
    return histories


def diff_segment(project: Project, name: str, before: str, after: str) -> Difference:
    """The difference of two snapshots of a segment.

    Args:
        project: the home.
        name: the segment.
        before: a snapshot; ``previous`` is the one before ``after``.
        after: a snapshot; ``newest`` is the last.

    Raises:
        UserError: there is no such snapshot.
    """
    with open_engine(project.settings) as engine:
        return _diff(engine, project, name, before, after)


def _diff(engine: Engine, project: Project, name: str, before: str, after: str) -> Difference:
    records = read_snapshots(engine, project.warehouse, name)
    second = find_snapshot(records, name, after)
    if before != "previous":
        first = find_snapshot(records, name, before)
        return compare_snapshots(engine, project, first, second)
    earlier = good(records[: records.index(second)])
    if not earlier:
        raise UserError(
            f"segment {name}: {second.snapshot} is its first snapshot, so there is nothing to "
            "compare it with",
            code="segment.unknown",
        )
    return compare_snapshots(engine, project, earlier[-1], second)


def stale_segments(project: Project) -> tuple[StaleSegment, ...]:
    """The stale segments of tasks that are due and not done.

    Raises:
        ValueError: a task has settings on record that this version cannot read.
    """
    by_segment: dict[str, list[tuple[Task, Stale]]] = {}
    for task in all_tasks(project.store):
        stale = stale_now(project, task)
        if stale is not None:
            by_segment.setdefault(stale.segment, []).append((task, stale))
    return tuple(
        StaleSegment(
            segment=name,
            campaigns=tuple(sorted({task.campaign for task, _ in waiting})),
            tasks=tuple(task.task_id for task, _ in waiting),
            reasons=waiting[-1][1].reasons,
            remedy=waiting[-1][1].remedy,
            blocks=project.settings.segment_stale == "block",
        )
        for name, waiting in sorted(by_segment.items())
    )
