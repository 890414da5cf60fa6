"""Deciding a task again whose texts never went out."""

from dataclasses import dataclass
from datetime import date

from usergrowth_dagster.control.tasks import task as one_task
from usergrowth_dagster.messaging.plans.discard import discard_plan
from usergrowth_dagster.project import Project


@dataclass(frozen=True)
class Redecided:
    """A task whose send plan was thrown away.

    ``people`` counts the plan's rows by what had become of them; ``passed`` is whether the
    execution date lies before the business date.
    """

    task_id: str
    execution_date: date
    people: dict[str, int]
    passed: bool


def redecide(project: Project, task_id: str, actor: str, why: str) -> Redecided:
    """Throw a task's send plan away, so that the next run of its date decides and plans it anew.

    The reports of the earlier decision are removed, since they describe what does not stand.

    Raises:
        UserError: no such task, or as of :func:`discard_plan`.
    """
    one_task(project.store, task_id)  # a wrong name makes no lock file
    with project.alone(task_id):
        task = one_task(project.store, task_id)
        discarded = discard_plan(project.store, task, actor, why)
        for path in project.report_paths(task_id):
            path.unlink(missing_ok=True)
    day = task.execution_date
    return Redecided(task_id, day, discarded.people, day < project.settings.current_date())
