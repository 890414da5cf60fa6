"""Everything of a home at a glance."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.views.deliveries import DeliveriesView, read_deliveries
from usergrowth_dagster.views.models import ModelView, WaitingView, read_models, read_waiting
from usergrowth_dagster.views.tables import TableView, read_tables
from usergrowth_dagster.views.tasks import TaskView, read_tasks

T = TypeVar("T")


@dataclass
class Status:
    """A home's tables, models, tasks and messages; None where a part cannot be read.

    Attributes:
        failures: a sentence for each part that cannot be read.
    """

    tables: list[TableView] | None = None
    models: list[ModelView] | None = None
    waiting: list[WaitingView] | None = None
    tasks: list[TaskView] | None = None
    deliveries: DeliveriesView | None = None
    failures: list[str] = field(default_factory=list)


def read_status(project: Project) -> Status:
    """Every part of a home; what cannot be read is a failure and hides nothing else."""
    status = Status()
    status.tables = _part(status, "Tables", lambda: read_tables(project))
    status.models = _part(status, "Models", lambda: read_models(project))
    status.waiting = _part(status, "Models that wait for review", lambda: read_waiting(project))
    status.tasks = _part(status, "Tasks", lambda: read_tasks(project.store))
    status.deliveries = _part(
        status, "Deliveries", lambda: read_deliveries(project.store, project.settings)
    )
    if status.deliveries is not None:
        status.failures += status.deliveries.unreadable
    status.failures = list(dict.fromkeys(status.failures))
    return status


def _part(status: Status, title: str, read: Callable[[], T]) -> T | None:
    try:
        return read()
    except UserError as error:
        status.failures.append(str(error))
    except (ValueError, ArithmeticError, LookupError, TypeError) as error:
        status.failures.append(
            f"{title}: a record holds what cannot be shown "
            f"({type(error).__name__}: {' '.join(str(error).split())})"
        )
    return None
