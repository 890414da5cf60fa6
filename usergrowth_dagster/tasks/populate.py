"""Step 1 of a task: take its uploaded population in."""

from usergrowth_dagster.audience.output import check_output_folder
from usergrowth_dagster.control.jobs import task_running
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.tasks.project import Project
from usergrowth_dagster.warehouse.population import LandedPopulation, land_population


def load_population(project: Project, task: Task) -> LandedPopulation:
    """Land a task's upload; its output folder is looked at before anything is computed.

    Raises:
        UserError: the output folder holds something foreign, there is no upload, or its files
            break the contract; what was there stays.
    """
    check_output_folder(project.landing, task.output, task.task_id, state=project.state)
    if not task.frozen:
        task_running(project.store, task.task_id, note=f"execution date {task.execution_date}")
    return land_population(
        project.settings, project.landing, project.warehouse, task.task_id, task.execution_date
    )
