"""Uploaded populations that become tasks: those that are due now, and those decided again later.

Which uploads are due is decided by a pure function over what a look has found.

A schedule with ``refresh_audience: true`` decides its upload again. Its k-th occurrence falls on a
day. On that day's execution date the same upload is scored and decided anew, by a task
``<upload>-<yyyymmdd>`` of its own, and its send plan is the occurrence. The tasks are registered
when their date is decided: by the daily schedule, by a run of a date, or by a backfill. A date that
is never decided has no occurrence, and a dispatcher records it as missed when its time is over.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from sqlalchemy import select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.tasks import (
    Task,
    all_tasks,
    campaigns,
    campaigns_for_upload,
    register_task,
    repeated_task_id,
    tasks_for,
    withdraw_task,
)
from usergrowth_dagster.data.population import FOLDER, Upload, complete_uploads, population_uploads
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.schedules.windows import first_due, repeat_of
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.population import POPULATION

UPLOADS_PER_LOOK = 20


@dataclass(frozen=True)
class Cursor:
    """What earlier looks found by task id: what handled uploads are known by, and tags of all."""

    handled: dict[str, str] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, text: str | None) -> "Cursor":
        """A cursor from its text; nothing or something unreadable begins anew."""
        try:
            stored = json.loads(text or "{}")
            return cls(dict(stored.get("handled", {})), dict(stored.get("seen", {})))
        except (ValueError, TypeError, AttributeError):
            return cls()

    def dump(self) -> str:
        """The cursor as text."""
        return json.dumps({"handled": self.handled, "seen": self.seen}, sort_keys=True)


def due_uploads(
    uploads: Mapping[str, Upload], cursor: Cursor, limit: int = UPLOADS_PER_LOOK
) -> dict[str, Upload]:
    """Uploads that are complete and not handled as they are now, at most ``limit``, by name."""
    complete = complete_uploads(uploads, cursor.seen)
    due = {
        task: upload
        for task, upload in sorted(complete.items())
        if not upload.known_by.matches(cursor.handled.get(task))
    }
    return dict(list(due.items())[:limit])


@dataclass(frozen=True)
class Request:
    """An execution date to decide, and the uploads that ask for it."""

    execution_date: str
    run_key: str
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Look:
    """What one look at the upload folder found."""

    requests: list[Request]
    notes: list[str]
    cursor: Cursor


def look_at_uploads(project: Project, cursor: Cursor) -> Look:
    """Register the tasks of new complete uploads and ask for their dates.

    An upload that no campaign wants, or that two want, is noted and looked at again next time: a
    campaign for it may be applied later. One bad upload does not hold up the others.
    """
    uploads = population_uploads(project.landing)
    handled = {t: f for t, f in cursor.handled.items() if t in uploads}
    by_day: dict[str, list[str]] = {}
    notes = []
    for task_id, upload in due_uploads(uploads, cursor).items():
        try:
            day = _register(project, task_id)
        except UserError as error:
            notes.append(str(error))
            continue
        handled[task_id] = str(upload.known_by)
        by_day.setdefault(day, []).append(task_id)
    requests = [
        Request(day, ",".join(f"{t}:{uploads[t].fingerprint}" for t in tasks), tuple(tasks))
        for day, tasks in sorted(by_day.items())
    ]
    seen = {task: upload.fingerprint for task, upload in uploads.items()}
    return Look(requests, notes, Cursor(handled, seen))


@dataclass(frozen=True)
class Arrivals:
    """Uploads that became tasks, and a sentence for each that no campaign can have."""

    registered: list[str]
    notes: list[str]


def register_uploads(
    project: Project, execution_date: date, *, campaign: str | None = None, actor: str = "run"
) -> Arrivals:
    """Register the uploads that are to be decided on a date and are no task yet.

    Those are the uploads of campaigns that decide on arrival, and the folders that match the
    population of a campaign whose date this is. It is what the sensor does as files arrive, for a
    person who runs a date by hand: the uploads are taken to be complete.

    Args:
        project: the home.
        execution_date: the date.
        campaign: register only the uploads of this one; its name.
        actor: who does it.
    """
    known = {task.upload for task in all_tasks(project.store)}
    specs = campaigns(project.store)
    registered, notes = [], []
    for task_id in population_uploads(project.landing):
        if task_id in known:
            continue
        try:
            spec = specs[_campaign_of(project, task_id)]
            if campaign not in (None, spec.name):
                continue
            if spec.on_upload or spec.execution_date == execution_date:
                register_task(project.store, spec.name, task_id, execution_date, actor)
                registered.append(task_id)
        except UserError as error:
            notes.append(str(error))
    return Arrivals(registered, notes)


def move_tasks(project: Project, campaign: str, execution_date: date, actor: str) -> list[str]:
    """Move a campaign's unplanned tasks to its new fixed date.

    Returns:
        A sentence for each task that moved, or that cannot since its send plan is made.
    """
    sentences = []
    for task in all_tasks(project.store):
        if task.campaign != campaign or task.upload != task.task_id:
            continue
        if task.execution_date == execution_date:
            continue
        try:
            register_task(project.store, campaign, task.task_id, execution_date, actor)
            sentences.append(f"changed task {task.task_id!r}: its date is {execution_date} now")
        except UserError as error:
            sentences.append(str(error))
    return sentences


def withdraw_deleted(project: Project, execution_date: date) -> list[str]:
    """Withdraw the tasks of a date whose upload was deleted before anything was planned.

    That is said once, and does not fail the date: whoever deletes an upload wants it no more. An
    upload that a fixed campaign still waits for was never there, and stays a failure.

    Returns:
        A sentence for each task that was withdrawn.
    """
    sentences: list[str] = []
    if not project.landing.exists(FOLDER):  # a store that is away deletes nothing
        return sentences
    uploads = population_uploads(project.landing)
    for task in tasks_for(project.store, execution_date):
        if task.frozen or task.spec.of_segment:
            continue
        if task.upload in uploads or not _was_there(project, task):
            continue
        reason = f"{task.population} was deleted before its send plan was made"
        with project.alone(task.task_id):
            withdraw_task(project.store, task.task_id, "run", f"withdrawn: {reason}")
        again = (
            "upload it again to have it decided"
            if task.spec.on_upload
            else "upload it and apply the campaign again to have it decided"
        )
        sentences.append(f"task {task.task_id}: withdrawn, since {reason}; {again}")
    return sentences


def _was_there(project: Project, task: Task) -> bool:
    """Whether a task's upload had ever arrived."""
    if task.spec.on_upload or task.spec.is_glob or task.upload != task.task_id:
        return True
    scope = {"task_id": task.task_id}
    return project.warehouse.fingerprint(POPULATION, task.execution_date, scope) is not None


def _campaign_of(project: Project, task_id: str) -> str:
    """Name of the one campaign whose population an upload is.

    Raises:
        UserError: none has it, or several have.
    """
    folder = f"population/{task_id}"
    wanting = campaigns_for_upload(project.store, folder)
    if not wanting:
        raise UserError(
            f"{folder}: no campaign has this population; apply one that names it",
            code="population.no_campaign",
        )
    if len(wanting) > 1:
        raise UserError(
            f"{folder}: the campaigns {', '.join(sorted(wanting))} all have this population; "
            "give each its own folder name",
            code="population.no_campaign",
        )
    return wanting[0]


def _register(project: Project, task_id: str) -> str:
    spec = campaigns(project.store)[_campaign_of(project, task_id)]
    day = spec.execution_date
    if isinstance(day, str):
        day = project.settings.current_date()
    register_task(project.store, spec.name, task_id, day, "upload sensor")
    return day.isoformat()


def register_repeats(project: Project, execution_date: date) -> list[str]:
    """Register the tasks that decide an upload again on a date.

    Returns:
        A sentence for each that could not be: its name is too long, or belongs to another upload.
    """
    tasks = all_tasks(project.store)
    known = {task.task_id for task in tasks}
    problems = []
    for task in tasks:
        if task.upload != task.task_id or not task.spec.schedule.refresh_audience:
            continue
        name = repeated_task_id(task.task_id, execution_date)
        if name in known or not _is_due(project, task, execution_date):
            continue
        try:
            register_task(
                project.store, task.campaign, name, execution_date, "run", upload=task.upload
            )
        except UserError as error:
            problems.append(str(error))
    return problems


def _is_due(project: Project, task: Task, execution_date: date) -> bool:
    """Whether a later occurrence of a task's schedule falls on a day."""
    if execution_date <= task.execution_date:
        return False
    schedule, made = schema.schedule, schema.occurrence
    with project.store.read() as connection:
        row = (
            connection.execute(select(schedule).where(schedule.c.name == task.spec.schedule.name))
            .mappings()
            .first()
        )
        if row is None:
            return False
        first: datetime | None = connection.scalar(
            select(made.c.due).where(
                made.c.schedule_id == row["id"],
                made.c.task_id == task.task_id,
                made.c.sequence == 0,
            )
        )
    if first is None:
        first = first_due(project.settings, row, task.spec, task.execution_date)
    return bool(repeat_of(project.settings, row, first).on_day(execution_date))
