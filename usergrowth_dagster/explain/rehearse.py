"""Planning and sending a task for show: in a throw-away copy of the database, to files alone.

The ledger, the caps and the schedules of the home are only read. So a rehearsal never blocks or
counts as the real sending, and may be repeated as often as one likes.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from sqlalchemy import select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
from usergrowth_dagster.messaging.gateways.file import FileGateway
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.plans.plan import SendPlan, read_plan
from usergrowth_dagster.messaging.plans.rehearsal import (
    as_of_morning,
    copy_for_planning,
    with_example_links,
)
from usergrowth_dagster.messaging.policy.contact import NUMBER_CAP_WINDOW
from usergrowth_dagster.messaging.schedules.occurrences import Occurrence, business_now
from usergrowth_dagster.pipeline.exclusions import contact_moment, rules_of
from usergrowth_dagster.pipeline.send import plan_task
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings.places import sqlite_url

FOLDER = "rehearsals"
"""Below the outbox, so that forgetting a person reaches these files too."""


@dataclass(frozen=True)
class Rehearsed:
    """A task that was planned and sent for show.

    ``plan`` is how its rows ended; ``file`` holds the texts with real numbers, as the dry run
    writes them (None: nobody would be texted).
    """

    task: Task
    plan: SendPlan
    file: Path | None


@contextmanager
def rehearsal(project: Project, task: Task, as_of: date | None = None) -> Iterator[Project]:
    """The project with a throw-away control store, in which the task may be planned.

    Args:
        project: the home.
        task: the task.
        as_of: pins the business clock to the morning of that day, and leaves out what was sent
            since; default: now.
    """
    real = project.settings
    settings = real if as_of is None else real.model_copy(update={"today": as_of})
    rules = rules_of(settings, task)
    span = max(rules.cap_window, rules.min_gap, NUMBER_CAP_WINDOW) + timedelta(days=1)
    first = min(contact_moment(settings, task), business_now(settings))
    with tempfile.TemporaryDirectory(prefix="usergrowth-preview-") as folder:
        database = sqlite_url(Path(folder) / "rehearsal.db")
        changes = {"database_url": database, "failure_webhook": None}
        rehearsed = Project(settings.model_copy(update=changes), project.progress)
        try:
            # numbers that an earlier version kept are read anew, for the copy has none
            Ledger(project.store, open_vault(real.home, real.default_country))
            copy_for_planning(project.store, rehearsed.store, task, first - span)
            yield rehearsed
        finally:
            rehearsed.store.close()


def rehearse_task(project: Project, task: Task, as_of: date) -> Rehearsed:
    """Plan a decided task as of the morning of a day and send it to a file.

    Raises:
        UserError: it cannot be planned; the sentence says why.
        NotReadyError: it is not decided on its present inputs.
    """
    with rehearsal(project, task, as_of) as rehearsed:
        as_of_morning(rehearsed.store, task, business_now(rehearsed.settings))
        opened = plan_task(rehearsed, task).occurrence
        with_example_links(rehearsed.store, opened.id)
        place = Path(FOLDER) / f"{as_of:%Y%m%d}"
        gateway = FileGateway(project.settings.home, place)
        path = gateway.path(opened.schedule, opened.name)
        path.unlink(missing_ok=True)  # of an earlier rehearsal
        for moment in _moments(rehearsed, opened):
            dispatch(rehearsed.store, rehearsed.settings, gateway, moment)
        ledger = Ledger(
            rehearsed.store, open_vault(project.settings.home, project.settings.default_country)
        )
        return Rehearsed(task, read_plan(ledger, opened), path if path.exists() else None)


def _moments(rehearsed: Project, opened: Occurrence) -> list[datetime]:
    """When rows may go, to the hour, so that a window of days is sent in so many rounds."""
    table = schema.message
    query = (
        select(table.c.not_before)
        .where(table.c.occurrence_id == opened.id, table.c.state == MessageState.PLANNED)
        .distinct()
    )
    with rehearsed.store.read() as connection:
        planned = [moment for moment in connection.scalars(query) if moment is not None]
    now = max(opened.due, business_now(rehearsed.settings))
    hours = {
        moment.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1) for moment in planned
    }
    last = opened.send_by - timedelta(seconds=1)
    return sorted({max(now, min(moment, last)) for moment in (now, *hours)})
