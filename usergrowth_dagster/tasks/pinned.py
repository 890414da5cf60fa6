"""A home and a task as a decision saw them, whatever has landed or been set since."""

from usergrowth_dagster.control.codes import JobStatus
from usergrowth_dagster.control.tasks import Task, load_spec
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.tasks.people import bind_attributes
from usergrowth_dagster.tasks.pins import BARRED, BARRED_COLUMNS, Pins
from usergrowth_dagster.tasks.project import Project
from usergrowth_dagster.tasks.score import bind_population, bind_scores
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.pinned import PinnedWarehouse


def pinned_project(project: Project, pins: Pins, *, as_scored: bool = False) -> Project:
    """The home with the data files and the settings that a decision was made from.

    Args:
        project: the home as it is.
        pins: what the decision was made from.
        as_scored: with the files that its scores were made from instead.
    """
    values = project.settings.model_dump() | {
        name: value for name, value in pins.settings.items() if name in Settings.model_fields
    }
    then = Project(type(project.settings)(**values), project.progress)
    read = pins.scored if as_scored and pins.scored else pins
    then.warehouse = PinnedWarehouse(project.warehouse.storage, read.files, read.versions)
    return then


def pinned_task(pins: Pins) -> Task:
    """The task as it was decided."""
    return Task(
        task_id=pins.task_id,
        campaign=pins.campaign,
        execution_date=pins.execution_date,
        population=pins.population,
        output=pins.output,
        spec=load_spec(pins.spec),
        status=JobStatus.SUCCESS,
        frozen=True,
    )


def bind_pinned(engine: Engine, then: Project, task: Task) -> None:
    """Bind what a decision reads: population, scores, attributes, and who was barred then."""
    bind_population(engine, then, task)
    bind_scores(engine, then, task)
    bind_attributes(engine, then, task)
    landed = then.warehouse.files(BARRED).get(task.execution_date, [])
    engine.bind_files(BARRED, landed, BARRED_COLUMNS)
