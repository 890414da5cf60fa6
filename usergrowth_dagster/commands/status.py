"""What a home holds: tables, models, campaigns, tasks and messages."""

from dataclasses import dataclass, field
from typing import Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.tasks.project import Project

Section = tuple[str, tuple[str, ...], list[tuple[Any, ...]]]


@dataclass
class Status:
    """Rows for people, section by section: a title, a header, and lines.

    ``failures`` are sentences about what could not be asked.
    """

    sections: list[Section] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def read_status(project: Project) -> Status:
    """Everything of a home at a glance; without MLflow everything but its models."""
    from usergrowth_dagster.commands.delivery import delivery_sections

    found = Status([_tables(project)])
    try:
        found.sections += [_models(project), *_reviews(project)]
    except UserError as error:
        found.failures.append(str(error))
    found.sections += [_tasks(project), *delivery_sections(project.store, project.settings)]
    return found


def _tables(project: Project) -> Section:
    lines = []
    for table in project.warehouse.tables():
        counts = project.warehouse.row_counts(table)
        if counts:
            lines.append(
                (
                    table,
                    f"{sum(counts.values()):,}",
                    len(counts),
                    min(counts),
                    max(counts),
                    project.warehouse.version(table),
                )
            )
    return "Tables", ("table", "rows", "days", "first", "last", "version"), lines


def _models(project: Project) -> Section:
    from usergrowth_dagster.learning.store import NAMES, versions
    from usergrowth_dagster.tasks.models import settle_models

    for name in NAMES:
        settle_models(project, name)
    lines = [
        (m.name, m.version, m.champion, m.status, m.execution_date, m.last_label_day)
        for name in NAMES
        for m in versions(project.settings, name)
    ]
    header = ("model", "version", "champion", "status", "trained at", "last label day")
    return "Models", header, lines


def _reviews(project: Project) -> list[Section]:
    """Campaigns that a version waits for, with the command to approve it; nothing when none."""
    from usergrowth_dagster.tasks.models import waiting_campaigns

    lines = [
        (name, ref.name, ref.version, f"usergrowth models approve {ref.name} {ref.version}")
        for name, ref in waiting_campaigns(project, project.settings.current_date())
    ]
    header = ("campaign", "model", "version", "to approve it")
    return [("Models that wait for review", header, lines)] if lines else []


def _tasks(project: Project) -> Section:
    from usergrowth_dagster.control.tasks import all_tasks

    lines = [
        (task.task_id, task.campaign, task.execution_date, task.status.name.lower(), task.output)
        for task in all_tasks(project.store)
    ]
    return "Tasks", ("task", "campaign", "date", "status", "output"), lines
