"""A campaign's segment is fresh, or nothing of the campaign is decided, planned or begun.

A segment is stale when its refresh failed, its definition has changed since its newest snapshot, it
is not valid any more, or it is daily and has no snapshot of the execution date; or when one of
those whose newest snapshot it reads is. The setting ``segment_stale`` says what that does.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date

from usergrowth_dagster.control.codes import OccurrenceState
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.control.tasks import task as one_task
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.dispatching.dispatch import Held
from usergrowth_dagster.messaging.schedules.occurrences import Occurrence, occurrences_of
from usergrowth_dagster.project import Project
from usergrowth_dagster.segments.compile import AIPL, RFM, TAGS
from usergrowth_dagster.segments.definition import Named
from usergrowth_dagster.segments.files import read_by
from usergrowth_dagster.segments.leaves import Aipl, Rfm, Tagged
from usergrowth_dagster.segments.refresh import refresh
from usergrowth_dagster.segments.snapshots import read_snapshots
from usergrowth_dagster.segments.standing import newest_of, standing_of
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.tags.run import run_tags
from usergrowth_dagster.warehouse.engine import open_engine

_TAG_TABLES: dict[type[object], str] = {Tagged: TAGS, Rfm: RFM, Aipl: AIPL}
"""By condition, the table that `usergrowth tags run` makes for it."""


def refresh_segment(project: Project, task: Task) -> tuple[str, ...]:
    """Make the snapshots that a task's segment lacks on the task's date, and tags that they read.

    A refresh that fails is on record, and so among the reasons of what follows.

    Returns:
        Sentences about what is stale all the same, where the setting lets that pass.

    Raises:
        UserError: the segment is stale, and the setting says that this blocks.
    """
    name = task.spec.selection.segment
    if name is None:
        return ()
    with suppress(UserError):  # a file that is broken is a reason of what follows
        _refresh_all(project, task, read_by(project.settings.home, name))
    return require_fresh(project, task)


def _refresh_all(project: Project, task: Task, segments: Sequence[Named]) -> None:
    """Refresh those that are due; a failure does not keep the others back."""
    day = task.execution_date
    for named in segments:
        if _is_due(project, named, day):
            if _lacks_tags(project, named, day):
                with suppress(UserError):  # the refresh says which table it lacks
                    run_tags(project, day)
            with suppress(UserError):
                refresh(project, named, day, actor="run", reason=f"task {task.task_id}")


def _is_due(project: Project, named: Named, day: date) -> bool:
    """Whether a segment may lack its snapshot of a date."""
    with open_engine(project.settings) as engine:
        records = read_snapshots(engine, project.warehouse, named.name)
    newest = newest_of(named.segment, records, day)
    if newest is None or newest.version != named.segment.version:
        return True
    refreshed = named.segment.refresh
    return refreshed == "on_upload" or (refreshed == "daily" and newest.ds < day)


def _lacks_tags(project: Project, named: Named, day: date) -> bool:
    """Whether a segment reads a table of tags that has nothing of a date."""
    read = {_TAG_TABLES.get(type(leaf)) for _, leaf in named.segment.leaves()} - {None}
    return any(
        not project.warehouse.exists(table)
        or not project.warehouse.files(table, first=day, last=day)
        for table in read
        if table is not None
    )


@dataclass(frozen=True)
class Stale:
    """Why a campaign's segment must not be relied on.

    Attributes:
        segment: the segment that the campaign names.
        reasons: a sentence each; none when it is fresh.
        refreshes: commands that make the snapshots that are lacking, in order.
    """

    segment: str
    reasons: tuple[str, ...]
    refreshes: tuple[str, ...]

    def __str__(self) -> str:
        return f"segment {self.segment} is stale: {'; '.join(self.reasons)}"

    @property
    def remedy(self) -> str:
        """What to run."""
        if not self.refreshes:
            return "mend that"
        return f"mend that and run {' and '.join(f'`{one}`' for one in self.refreshes)}"


def stale_on(project: Project, task: Task, day: date) -> Stale | None:
    """How a task's segment stands on a day; None when it is fresh.

    A daily segment needs a snapshot of the task's execution date, also on later days: its plan is
    bound to that one.
    """
    name = task.spec.selection.segment
    if name is None:
        return None
    settings, reasons, refreshes = project.settings, [], []
    try:
        segments = read_by(settings.home, name)
    except UserError as error:  # its file is gone, or broken
        return Stale(name, (str(error),), ())
    with open_engine(settings) as engine:
        for named in segments:
            records = read_snapshots(engine, project.warehouse, named.name)
            stands = standing_of(
                named, records, day, settings.segment_jump, due=task.execution_date
            )
            which = "" if named.name == name else f"of segment {named.name}, which it reads: "
            reasons += [f"{which}{reason}" for reason in stands.stale]
            if stands.stale:
                refreshes.append(f"usergrowth segment refresh {named.name} --date {day}")
    return Stale(name, tuple(reasons), tuple(refreshes)) if reasons else None


def require_fresh(project: Project, task: Task) -> tuple[str, ...]:
    """Refuse to work with a stale segment; a task whose plan is made is not looked at again.

    Returns:
        Sentences about what is stale, where the setting lets that pass.

    Raises:
        UserError: the segment is stale, and the setting says that this blocks.
    """
    day = task.execution_date
    stale = None if task.frozen else stale_on(project, task, day)
    if stale is None:
        return ()
    sentence = f"campaign {task.campaign!r}: selection.segment: {stale}"
    if project.settings.segment_stale == "warn":
        return (f"{sentence}; its newest snapshot is used (setting segment_stale)",)
    raise UserError(
        f"{sentence}; nothing of task {task.task_id!r} is decided, planned or sent: "
        f"{stale.remedy}, then `usergrowth run --date {day}`",
        code="segment.stale",
    )


def held_by_segments(store: ControlStore, settings: Settings) -> Held:
    """A check of which occurrences a stale segment holds: none while the setting is ``warn``.

    Args:
        store: the control store with the occurrences.
        settings: of the home with the segments.
    """

    def held(due: Sequence[Occurrence]) -> dict[int, str]:
        if settings.segment_stale == "warn" or not due:
            return {}
        sentences = ((one.id, _why_held(store, settings, one)) for one in due)
        return {number: sentence for number, sentence in sentences if sentence}

    return held


def _why_held(store: ControlStore, settings: Settings, occurrence: Occurrence) -> str:
    """Why an occurrence must not begin; empty when it may."""
    try:
        task = one_task(store, occurrence.task_id)
    except (UserError, ValueError):  # an occurrence holds all that its texts need
        return ""
    day = max(settings.current_date(), task.execution_date)
    stale = stale_on(Project(settings), task, day)
    if stale is None:
        return ""
    return (
        f"campaign {task.campaign!r}: occurrence {occurrence.name} is held, and none of its texts "
        f"has gone out: {stale}; {stale.remedy}"
    )


def stale_now(project: Project, task: Task) -> Stale | None:
    """How the segment of a task stands; None when it is fresh, or the task is not due or done."""
    today, day = project.settings.current_date(), task.execution_date
    if task.spec.selection.segment is None or day > today:
        return None
    if task.frozen:
        waits = (OccurrenceState.PLANNING, OccurrenceState.READY)
        begun = occurrences_of(project.store, task.task_id)
        is_due = any(one.state in waits for one in begun)
    else:
        is_due = day == today
    return stale_on(project, task, today) if is_due else None
