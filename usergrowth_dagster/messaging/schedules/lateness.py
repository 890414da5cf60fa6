"""Whether a task would be planned too late: every text of it would expire at once."""

from datetime import datetime

from sqlalchemy import select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.schedules.task_windows import task_window
from usergrowth_dagster.settings import Settings


def passed_send_by(
    store: ControlStore, settings: Settings, task: Task, now: datetime
) -> datetime | None:
    """The send-by (UTC) of a task without a plan, when it has passed at ``now``; else None.

    None too where no window can be reckoned: planning says why.
    """
    table = schema.schedule
    if task.frozen:
        return None
    with store.read() as connection:
        row = (
            connection.execute(select(table).where(table.c.name == task.spec.schedule.name))
            .mappings()
            .first()
        )
        if row is None:
            return None
        try:
            window = task_window(connection, settings, task, row, now)
        except UserError:
            return None
    return window.send_by if window.send_by <= now else None
