"""The snapshot of a segment that a decision is bound to.

A campaign names a segment; a decision is made from one snapshot of it, the newest up to the
execution date. Which one that was is kept with the decision, so a later refresh changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.segments.files import segment_named
from usergrowth_dagster.segments.snapshots import (
    Snapshot,
    bind_members_of,
    read_snapshots,
    scope_of,
)
from usergrowth_dagster.segments.standing import newest_of
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation


@dataclass(frozen=True)
class BoundSegment:
    """A snapshot in an engine.

    Attributes:
        note: segment, snapshot, its date, the version of the definition, its fingerprint and the
            SHA-256 of its user ids, as a decision keeps them.
        members: relation with ``user_id``, each once.
    """

    note: dict[str, str]
    members: Relation

    @property
    def mark(self) -> str:
        """Changes when other people are bound."""
        return "\n".join([self.note["snapshot"], *sorted(self.members.files)])


def bind_segment(engine: Engine, project: Project, task: Task) -> BoundSegment:
    """Bind the newest snapshot of the campaign's segment up to the execution date.

    Raises:
        UserError: there is no such segment, or it has no snapshot.
    """
    name = task.spec.selection.segment
    assert name is not None
    named = segment_named(project.settings.home, name)
    records = read_snapshots(engine, project.warehouse, name)
    newest = newest_of(named.segment, records, task.execution_date)
    if newest is None:
        day = task.execution_date
        raise UserError(
            f"campaign {task.campaign!r}: selection.segment: segment {name} has no snapshot up to "
            f"{day}; make one with `usergrowth segment refresh {name} --date {day}`",
            code="segment.not_ready",
        )
    return bind_snapshot(engine, project, newest)


def bind_snapshot(engine: Engine, project: Project, snapshot: Snapshot) -> BoundSegment:
    """Bind a snapshot."""
    note = {
        **scope_of(snapshot.segment, snapshot.snapshot),
        "ds": snapshot.ds.isoformat(),
        "version": snapshot.version,
        "fingerprint": snapshot.fingerprint,
        "sha256": snapshot.sha256,
    }
    return BoundSegment(note, bind_members_of(engine, project.warehouse, snapshot.ds, note))


def bind_recorded(
    engine: Engine, project: Project, note: Mapping[str, str] | None
) -> BoundSegment | None:
    """Bind the snapshot that a decision wrote down; None where it wrote down none."""
    if note is None:
        return None
    day = date.fromisoformat(note["ds"])
    return BoundSegment(dict(note), bind_members_of(engine, project.warehouse, day, note))
