"""What a home holds: tables, models, campaigns, tasks and messages."""

from usergrowth_dagster.commands.cells import Count
from usergrowth_dagster.commands.delivery import Overview
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.tasks.project import Project


def read_status(project: Project) -> Overview:
    """Everything of a home at a glance; what cannot be read is a failure and hides nothing else."""
    overview = Overview()
    for title, read in (
        ("Tables", _tables),
        ("Models", _models),
        ("Models that wait for review", _reviews),
        ("Tasks", _tasks),
        ("Deliveries", _deliveries),
    ):
        try:
            part = read(project)
        except UserError as error:
            overview.failures.append(str(error))
        except (ValueError, ArithmeticError, LookupError, TypeError) as error:
            overview.failures.append(
                f"{title}: a record holds what cannot be shown "
                f"({type(error).__name__}: {' '.join(str(error).split())})"
            )
        else:
            overview.sections += part.sections
            overview.failures += part.failures
    overview.failures = list(dict.fromkeys(overview.failures))
    return overview


def _deliveries(project: Project) -> Overview:
    from usergrowth_dagster.commands.delivery import read_deliveries

    return read_deliveries(project.store, project.settings)


def _tables(project: Project) -> Overview:
    lines = []
    for table in project.warehouse.tables():
        counts = project.warehouse.row_counts(table)
        if counts:
            lines.append(
                (
                    table,
                    Count(sum(counts.values())),
                    len(counts),
                    min(counts),
                    max(counts),
                    project.warehouse.version(table),
                )
            )
    header = ("table", "rows", "days", "first", "last", "version")
    return Overview([("Tables", header, lines)])


def _models(project: Project) -> Overview:
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
    return Overview([("Models", header, lines)])


def _reviews(project: Project) -> Overview:
    """Campaigns that a version waits for, with the command to approve it; nothing when none."""
    from usergrowth_dagster.tasks.models import waiting_campaigns

    lines = [
        (name, ref.name, ref.version, f"usergrowth models approve {ref.name} {ref.version}")
        for name, ref in waiting_campaigns(project, project.settings.current_date())
    ]
    header = ("campaign", "model", "version", "to approve it")
    return Overview([("Models that wait for review", header, lines)] if lines else [])


def _tasks(project: Project) -> Overview:
    from usergrowth_dagster.control.tasks import listed_tasks

    lines = [
        (task.task_id, task.campaign, task.execution_date, task.status, task.output)
        for task in listed_tasks(project.store)
    ]
    return Overview([("Tasks", ("task", "campaign", "date", "status", "output"), lines)])
