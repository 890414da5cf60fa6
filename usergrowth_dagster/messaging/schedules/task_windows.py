"""The window in which a task's occurrence may go out."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, RowMapping, select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.schedules.windows import (
    Window,
    check_task_age,
    first_due,
    repeat_of,
    window_of,
)
from usergrowth_dagster.settings import Settings

occurrence = schema.occurrence


def task_window(
    connection: Connection,
    settings: Settings,
    task: Task,
    schedule: RowMapping,
    now: datetime,
) -> Window:
    """A task's window: of the first occurrence, or of the one that its date stands for."""
    if task.upload == task.task_id:
        check_task_age(settings, task.spec, task.execution_date, f"campaign {task.campaign!r}: ")
        return window_of(settings, schedule, task.spec, task.execution_date, now)
    times = repeat_of(settings, schedule, _first_due(connection, settings, task, schedule))
    number = times.on_day(task.execution_date)
    window = times.window(number, timedelta(hours=settings.send_within_hours)) if number else None
    if window is None:
        raise UserError(
            f"task {task.task_id!r}: schedule {schedule['name']!r} is not due on "
            f"{task.execution_date} any more, so this audience is not sent to",
            code="schedule.not_due",
        )
    return Window(*window, number)


def _first_due(
    connection: Connection, settings: Settings, task: Task, schedule: RowMapping
) -> datetime:
    """When the first occurrence of the upload of a task that is decided again was due."""
    due: datetime | None = connection.scalar(
        select(occurrence.c.due).where(
            occurrence.c.schedule_id == schedule["id"],
            occurrence.c.task_id == task.upload,
            occurrence.c.sequence == 0,
        )
    )
    job = schema.inference_job
    day = connection.scalar(select(job.c.execution_date).where(job.c.name == task.upload))
    if due is None:
        due = first_due(settings, schedule, task.spec, day or task.execution_date)
    return due
