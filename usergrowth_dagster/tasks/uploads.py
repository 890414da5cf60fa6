"""Which uploaded populations are due, decided by a pure function over what a look has found."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from usergrowth_dagster.control.tasks import (
    all_tasks,
    campaigns,
    campaigns_for_upload,
    register_task,
)
from usergrowth_dagster.data.population import Upload, complete_uploads, population_uploads
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.tasks.project import Project

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


def register_uploads(project: Project, execution_date: date) -> list[str]:
    """Register, for a date, the uploads that a campaign decides on arrival and that no task is yet.

    What the sensor does as files arrive, for a person who runs a date by hand: the uploads are
    taken to be complete.
    """
    known = {task.task_id for task in all_tasks(project.store)}
    specs = campaigns(project.store)
    registered = []
    for task_id in population_uploads(project.landing):
        wanting = campaigns_for_upload(project.store, f"population/{task_id}")
        if task_id in known or len(wanting) != 1 or not specs[wanting[0]].on_upload:
            continue
        register_task(project.store, wanting[0], task_id, execution_date, "run")
        registered.append(task_id)
    return registered


def _register(project: Project, task_id: str) -> str:
    folder = f"population/{task_id}"
    wanting = campaigns_for_upload(project.store, folder)
    if not wanting:
        raise UserError(f"{folder}: no campaign has this population; apply one that names it")
    if len(wanting) > 1:
        raise UserError(
            f"{folder}: the campaigns {', '.join(sorted(wanting))} all have this population; "
            "give each its own folder name"
        )
    spec = campaigns(project.store)[wanting[0]]
    day = spec.execution_date
    if isinstance(day, str):
        day = project.settings.current_date()
    register_task(project.store, spec.name, task_id, day, "upload sensor")
    return day.isoformat()
