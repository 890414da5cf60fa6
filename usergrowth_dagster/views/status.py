"""Everything of a home at a glance."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.views.deliveries import DeliveriesView, read_deliveries
from usergrowth_dagster.views.models import ModelView, WaitingView, read_models, read_waiting
from usergrowth_dagster.views.segments import StaleSegment, stale_segments
from usergrowth_dagster.views.tables import TableView, read_tables
from usergrowth_dagster.views.tasks import TaskView, read_tasks

T = TypeVar("T")


@dataclass(frozen=True)
class Status:
    """A home's tables, models, tasks and messages; None where a part cannot be read.

    Attributes:
        tables: those that have rows.
        models: every version.
        waiting: campaigns whose newest version waits for a person's approval.
        tasks: every task.
        stale: stale segments that campaigns wait for.
        deliveries: what is under way.
        failures: a sentence for each part that cannot be read.
    """

    tables: list[TableView] | None
    models: list[ModelView] | None
    waiting: list[WaitingView] | None
    tasks: list[TaskView] | None
    stale: tuple[StaleSegment, ...] | None
    deliveries: DeliveriesView | None
    failures: tuple[str, ...]


def read_status(project: Project) -> Status:
    """Every part of a home; what cannot be read is a failure and hides nothing else."""
    failures: list[str] = []
    tables = _part(failures, "Tables", lambda: read_tables(project))
    models = _part(failures, "Models", lambda: read_models(project))
    waiting = _part(failures, "Models that wait for review", lambda: read_waiting(project))
    tasks = _part(failures, "Tasks", lambda: read_tasks(project.store))
    stale = _part(failures, "Stale segments", lambda: stale_segments(project))
    deliveries = _part(
        failures, "Deliveries", lambda: read_deliveries(project.store, project.settings)
    )
    if deliveries is not None:
        failures += deliveries.unreadable
    said = tuple(dict.fromkeys(failures))
    return Status(tables, models, waiting, tasks, stale, deliveries, said)


def _part(failures: list[str], title: str, read: Callable[[], T]) -> T | None:
    try:
        return read()
    except UserError as error:
        failures.append(str(error))
    except (ValueError, ArithmeticError, LookupError, TypeError) as error:
        failures.append(
            f"{title}: a record holds what cannot be shown "
            f"({type(error).__name__}: {' '.join(str(error).split())})"
        )
    return None
