"""Work through the tasks of an execution date: one that fails does not hold up the others."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Generic, TypeVar

from usergrowth_dagster.control.codes import JobStatus
from usergrowth_dagster.control.jobs import task_failed
from usergrowth_dagster.control.tasks import Task, tasks_for
from usergrowth_dagster.control.tasks import task as one_task
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project

T = TypeVar("T")


class NotReadyError(Exception):
    """The step before has not been done on a task's present inputs: another run is at it."""


@dataclass
class Outcome(Generic[T]):
    """What became of each task: a result, the error it failed with, or left to another run."""

    results: dict[str, T] = field(default_factory=dict)
    failures: dict[str, UserError] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


def each_task(
    project: Project,
    execution_date: date,
    step: Callable[[Project, Task], T],
    *,
    include_failed: bool = False,
    fails_task: bool = True,
) -> Outcome[T]:
    """Run a step for every task of a date.

    A user's mistake fails its task, whose history keeps the sentence, its code and its hint, and
    the next task goes on. Later steps leave failed tasks out; the first step tries them again
    (``include_failed``). A task that is decided keeps its success when a later step fails
    (``fails_task`` false). A task that another run has begun meanwhile is left to that run. Two
    runs of one date take turns at each task, so that the second one finds done what the first one
    did.
    """
    outcome: Outcome[T] = Outcome()
    for listed in tasks_for(project.store, execution_date):
        with project.alone(listed.task_id):
            task = one_task(project.store, listed.task_id)  # as the other run has left it
            if task.status == JobStatus.FAILED and not include_failed:
                continue
            if task.execution_date != execution_date:
                outcome.left.append(task.task_id)
                continue
            try:
                outcome.results[task.task_id] = step(project, task)
            except NotReadyError:
                outcome.left.append(task.task_id)
            except UserError as error:
                outcome.failures[task.task_id] = error
                if fails_task and not task.frozen:
                    task_failed(project.store, task.task_id, error)
    return outcome
