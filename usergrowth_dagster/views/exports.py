"""The exports of a home as people look at them: what goes out, where to, and what became of it."""

from dataclasses import dataclass
from datetime import date, datetime

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.exports.definition import Export
from usergrowth_dagster.exports.destinations.open import open_destination
from usergrowth_dagster.exports.expire import Expiry, expire
from usergrowth_dagster.exports.rows import bind_rows
from usergrowth_dagster.exports.run import Exported, default_day, exports_of, run_export
from usergrowth_dagster.exports.runs import ExportRun, errors_of, runs_of
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import open_engine


@dataclass(frozen=True)
class ExportLook:
    """An export whose rows can be worked out and whose destination takes them.

    Attributes:
        export: its name.
        what: what goes out.
        destination: where to, without secrets.
        execution_date: the date that was looked at.
        rows: rows that would go out.
        columns: DuckDB type by name outside.
    """

    export: str
    what: str
    destination: str
    execution_date: date
    rows: int
    columns: dict[str, str]


@dataclass(frozen=True)
class ListedExport:
    """An export and its newest run; without one the fields of the run are None.

    Attributes:
        export: its name.
        what: what goes out.
        destination: where to, without secrets.
        execution_date: date of the run.
        state: running, done, failed or expired.
        rows: rows of the run.
        failed: rows that the destination refused.
        ended: when the run ended.
        error: why it failed; empty when it did not.
    """

    export: str
    what: str
    destination: str
    execution_date: date | None
    state: str | None
    rows: int | None
    failed: int | None
    ended: datetime | None
    error: str


@dataclass(frozen=True)
class RefusedRow:
    """A row that the destination refused in the newest run of an export."""

    row: int
    task: str
    user: str
    reason: str


@dataclass(frozen=True)
class Refused:
    """The refused rows of the newest run: how many, and those that were kept."""

    export: str
    execution_date: date
    failed: int
    rows: tuple[RefusedRow, ...]


@dataclass(frozen=True)
class Checked:
    """What was looked at, and a sentence for each export that failed."""

    looks: tuple[ExportLook, ...]
    failures: tuple[str, ...]


@dataclass(frozen=True)
class Ran:
    """What became of several exports, and a sentence for each that failed."""

    exported: tuple[Exported, ...]
    failures: tuple[str, ...]


def check_exports(project: Project, name: str | None = None, day: date | None = None) -> Checked:
    """Work out the rows of every export and try its destination; nothing goes out.

    Raises:
        UserError: exports.yml cannot be read.
    """
    looks, failures = [], []
    for export in exports_of(project, name):
        try:
            looks.append(_look(project, export, day))
        except UserError as error:
            failures.append(str(error))
    return Checked(tuple(looks), tuple(failures))


def _look(project: Project, export: Export, day: date | None) -> ExportLook:
    destination = open_destination(export, project.settings.home)
    day = day or default_day(project, export, None)
    with open_engine(project.settings) as engine:
        rows = bind_rows(engine, project, export, day, keep_item=export.to.keeps_columns)
        destination.check(rows)
        columns = {column.name: column.kind for column in rows.columns}
        return ExportLook(export.name, export.what, destination.shown, day, rows.rows, columns)


def list_exports(project: Project) -> tuple[ListedExport, ...]:
    """Every export with its newest run.

    Raises:
        UserError: exports.yml cannot be read.
    """
    newest = {run.export: run for run in runs_of(project.store)}
    zone = project.settings.zone
    listed = []
    for export in exports_of(project):
        run = newest.get(export.name)
        shown = open_destination(export, project.settings.home).shown
        listed.append(
            ListedExport(
                export=export.name,
                what=export.what,
                destination=shown,
                execution_date=run.execution_date if run else None,
                state=run.state if run else None,
                rows=run.rows if run else None,
                failed=run.failed if run else None,
                ended=run.ended_time.astimezone(zone) if run and run.ended_time else None,
                error=run.error if run else "",
            )
        )
    return tuple(listed)


def run_exports(
    project: Project,
    name: str | None,
    *,
    actor: str,
    day: date | None = None,
    task_id: str | None = None,
    again: bool = False,
) -> Ran:
    """Run every export, or one; one that fails does not keep the others back.

    Raises:
        UserError: exports.yml cannot be read.
    """
    exported, failures = [], []
    for export in exports_of(project, name):
        try:
            on = day or default_day(project, export, task_id)
            exported.append(
                run_export(project, export, on, actor=actor, task_id=task_id, again=again)
            )
        except UserError as error:
            failures.append(str(error))
    return Ran(tuple(exported), tuple(failures))


def refused_rows(project: Project, name: str, day: date | None = None) -> Refused | None:
    """The refused rows of an export's newest run, or that of a date; None: it never ran.

    Raises:
        UserError: there is no such export.
    """
    exports_of(project, name)
    runs = [run for run in runs_of(project.store, name) if day in (None, run.execution_date)]
    if not runs:
        return None
    run: ExportRun = runs[-1]
    rows = tuple(
        RefusedRow(error.row, error.task_id, error.user_id, error.reason)
        for error in errors_of(project.store, run.id)
    )
    return Refused(name, run.execution_date, run.failed, rows)


def expire_exports(project: Project, *, actor: str, dry_run: bool) -> Expiry:
    """Remove exported files that have expired.

    Raises:
        UserError: exports.yml cannot be read.
    """
    return expire(project, exports_of(project), actor=actor, dry_run=dry_run)
