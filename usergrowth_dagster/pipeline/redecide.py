"""Deciding a task again whose texts never went out."""

from usergrowth_dagster.control.tasks import task as one_task
from usergrowth_dagster.messaging.plans.discard import Discarded, discard_plan
from usergrowth_dagster.project import Project


def redecide(project: Project, task_id: str, actor: str, why: str) -> Discarded:
    """Throw a task's send plan away, so that the next run of its date decides and plans it anew.

    The reports of the earlier decision are removed, since they describe what does not stand.

    Raises:
        UserError: no such task, or as of :func:`discard_plan`.
    """
    one_task(project.store, task_id)  # a wrong name makes no lock file
    with project.alone(task_id):
        done = discard_plan(project.store, one_task(project.store, task_id), actor, why)
        for path in project.report_paths(task_id):
            path.unlink(missing_ok=True)
    return done
