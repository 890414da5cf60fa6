"""Features, labels and training sets for the days that a training or a scoring needs."""

from collections.abc import Iterable
from datetime import date, timedelta

from usergrowth_dagster.learning.config import TrainingConfig, snapshots
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.build import Build, Builder
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.models import load_graph


def training_days(
    project: Project, config: TrainingConfig, execution_date: date
) -> tuple[list[date], tuple[str, ...]]:
    """Snapshot days of a training that the landed days can serve, and what to warn of.

    A snapshot needs a log before it. A touch needs a log or attributes: a person without any log
    has features all the same.

    Raises:
        UserError: the training window holds no day with a closed label.
    """
    first = min(project.warehouse.days("user_day"), default=None)
    if not config.problem.by_touch:
        window = snapshots(config, execution_date, first)
        return list(window.days), window.warnings
    attributes = min(project.warehouse.days("stg_user"), default=None)
    if attributes is not None:
        known = attributes + timedelta(days=1)
        first = known if first is None else min(first, known)
    window = snapshots(config, execution_date, first)
    touched = set(project.warehouse.days("stg_operation"))
    return [day for day in window.days if day in touched], window.warnings


def build_training_set(
    project: Project, config: TrainingConfig, days: Iterable[date]
) -> list[Build]:
    """Bring the training set of some snapshot days up to date, with all that it is made of."""
    builder = Builder(project.settings, project.warehouse)
    wanted = list(days)
    return [
        builder.build(model, wanted, progress=project.progress)
        for model in load_graph().chain(config.problem.training_table())
    ]


def bind_table(engine: Engine, project: Project, table: str, days: Iterable[date]) -> list[str]:
    """Make a view over some days of a model's table; returns the files it reads."""
    wanted = set(days)
    landed = project.warehouse.files(table)
    files = [name for day, names in landed.items() if day in wanted for name in names]
    engine.bind_files(table, files, load_graph().types(table))
    return files
