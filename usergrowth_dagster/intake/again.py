"""Tasks that decide an upload again: later occurrences with ``schedule.refresh_audience: true``.

The k-th occurrence of such a schedule falls on a day. On that day's execution date the same upload
is scored and decided anew, by a task ``<upload>-<yyyymmdd>`` of its own, and its send plan is the
occurrence. The tasks are registered when their date is decided: by the daily schedule, by a run of
a date, or by a backfill. A date that is never decided has no occurrence, and a dispatcher records
it as missed when its time is over.
"""

from datetime import date, datetime

from sqlalchemy import select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.tasks import Task, all_tasks, register_task, repeated_task_id
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.schedules.windows import first_due, repeat_of
from usergrowth_dagster.project import Project


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
