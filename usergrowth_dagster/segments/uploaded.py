"""The uploads among the rows of the population table, which say what a person's address is."""

from collections.abc import Mapping
from datetime import date

from usergrowth_dagster.control.tasks import tasks_of_segments
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.population import POPULATION
from usergrowth_dagster.warehouse.relation import Relation, bind_files


def bind_uploads(
    engine: Engine, project: Project, day: date, columns: Mapping[str, str]
) -> Relation:
    """The rows of all uploads up to a date.

    Populations that were made from segments are left out. Their addresses were copied from here, so
    an older number would come back as a newer one.

    Args:
        engine: where it is bound.
        project: the home.
        day: uploads of later execution dates are not looked at.
        columns: DuckDB type of each column that is wanted.
    """
    known = project.warehouse.exists(POPULATION)
    days = project.warehouse.files(POPULATION, last=day) if known else {}
    copies = tasks_of_segments(project.store)
    paths = [path for files in days.values() for path in files if _task_of(path) not in copies]
    return bind_files(engine, POPULATION, paths, columns)


def _task_of(path: str) -> str:
    """The task that a data file of the table belongs to."""
    return next((part[8:] for part in path.split("/") if part.startswith("task_id=")), "")
