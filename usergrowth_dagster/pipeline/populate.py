"""Step 1 of a task: take its uploaded population in."""

from dataclasses import replace

from usergrowth_dagster.audience.output import check_output_folder
from usergrowth_dagster.control.jobs import task_running
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.intake.forgotten import forgotten_people
from usergrowth_dagster.pipeline.freshness import refresh_segment
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.population import (
    LandedPopulation,
    kept_population,
    land_population,
)


def load_population(project: Project, task: Task) -> LandedPopulation:
    """Land a task's upload; its output folder is looked at before anything is computed.

    A task whose send plan is made keeps the population that it was decided by. A segment that the
    campaign is for gets its snapshot of the date here, where it has none yet.

    Raises:
        UserError: the campaign's segment is stale, the output folder holds something foreign, there
            is no upload, or its files break the contract; what was there stays.
    """
    if task.frozen:
        kept = kept_population(
            project.landing,
            project.warehouse,
            task.task_id,
            task.execution_date,
            upload=task.upload,
        )
        if kept is not None:
            return kept
    else:  # before anything can fail: a failed task can only fail again when it has been running
        task_running(project.store, task.task_id, note=f"execution date {task.execution_date}")
    check_output_folder(project.landing, task.output, task.task_id, state=project.state)
    stale = () if task.frozen else refresh_segment(project, task)
    landed = land_population(
        project.settings,
        project.landing,
        project.warehouse,
        task.task_id,
        task.execution_date,
        upload=task.upload,
        forgotten=forgotten_people(project),
    )
    return replace(landed, warnings=(*stale, *landed.warnings))
