"""Step 1 of a task: take its population in, an upload or the snapshot of a segment."""

from dataclasses import replace

from usergrowth_dagster.audience.output import check_output_folder
from usergrowth_dagster.control.jobs import task_running
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.intake.forgotten import forgotten_people
from usergrowth_dagster.pipeline.freshness import refresh_segment
from usergrowth_dagster.pipeline.segment_people import land_segment
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.population import (
    LandedPopulation,
    kept_population,
    land_population,
    standing_population,
)


def load_population(project: Project, task: Task) -> LandedPopulation:
    """Land a task's upload or its segment's people; its output folder is looked at first.

    A task whose send plan is made keeps the population that it was decided by. A segment that the
    campaign is for gets its snapshot of the date here, where it has none yet.

    Raises:
        UserError: the campaign's segment is stale, the output folder holds something foreign, there
            is no upload, or its files break the contract; what was there stays.
    """
    if task.frozen:
        kept = _kept(project, task)
        if kept is not None:
            return kept
    else:  # before anything can fail: a failed task can only fail again when it has been running
        task_running(project.store, task.task_id, note=f"execution date {task.execution_date}")
    check_output_folder(project.landing, task.output, task.task_id, state=project.state)
    stale = () if task.frozen else refresh_segment(project, task)
    landed = land_segment(project, task) if task.spec.of_segment else _land_upload(project, task)
    return replace(landed, warnings=(*stale, *landed.warnings))


def _kept(project: Project, task: Task) -> LandedPopulation | None:
    """The population that a planned task was decided by."""
    if task.spec.of_segment:
        return standing_population(project.warehouse, task.task_id, task.execution_date)
    return kept_population(
        project.landing, project.warehouse, task.task_id, task.execution_date, upload=task.upload
    )


def _land_upload(project: Project, task: Task) -> LandedPopulation:
    return land_population(
        project.settings,
        project.landing,
        project.warehouse,
        task.task_id,
        task.execution_date,
        upload=task.upload,
        forgotten=forgotten_people(project),
    )
