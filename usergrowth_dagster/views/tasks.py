"""The tasks of a home: one uploaded population decided on one date."""

from dataclasses import dataclass

from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.control.tasks import TaskFailure, listed_tasks


@dataclass(frozen=True)
class TaskView:
    """A task: its campaign, its execution date as it is recorded, its status, its output folder.

    ``failure`` says why its last run failed; None unless its status is failed.
    """

    task: str
    campaign: str
    date: str
    status: str
    output: str
    failure: TaskFailure | None


def read_tasks(store: ControlStore) -> list[TaskView]:
    """Every task, also those whose records cannot be read in full."""
    return [
        TaskView(
            task.task_id,
            task.campaign,
            task.execution_date,
            task.status,
            task.output,
            task.failure,
        )
        for task in listed_tasks(store)
    ]
