"""Remove exported files that have expired."""

from dataclasses import dataclass
from datetime import date, datetime

from usergrowth_dagster.control import audit
from usergrowth_dagster.control.store import utc_now
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.exports.definition import Export
from usergrowth_dagster.exports.destinations.base import destination_fingerprint
from usergrowth_dagster.exports.destinations.open import open_destination
from usergrowth_dagster.exports.runs import ExportRun, change_run, runs_of
from usergrowth_dagster.project import Project


@dataclass(frozen=True)
class ExpiredVersion:
    """Files that were removed, or would be: of which export and date, where, and since when."""

    export: str
    execution_date: date
    place: str
    rows: int
    expired_at: datetime


@dataclass(frozen=True)
class Expiry:
    """What was removed, and a sentence for each that could not be."""

    removed: tuple[ExpiredVersion, ...]
    failures: tuple[str, ...]


def expire(
    project: Project, exports: tuple[Export, ...], *, actor: str, dry_run: bool = False
) -> Expiry:
    """Remove the files whose time is over; what a version holds goes as a whole.

    Args:
        project: the home.
        exports: the exports whose destinations are known.
        actor: who removes them, for the audit log.
        dry_run: remove nothing.
    """
    by_destination = {(export.name, destination_fingerprint(export)): export for export in exports}
    removed, failures = [], []
    for run in runs_of(project.store):
        if run.expires_time is None or run.expires_time > utc_now() or run.state == "expired":
            continue
        place = f"{run.shown}/{run.place}"
        export = by_destination.get((run.export, run.destination))
        if export is None:
            failures.append(
                f"export {run.export}: {place} has expired, and exports.yml names that place no "
                "more; remove the folder by hand"
            )
            continue
        try:
            if not dry_run and not _remove(project, export, run, actor):
                continue
        except UserError as error:
            failures.append(str(error))
            continue
        removed.append(
            ExpiredVersion(run.export, run.execution_date, place, run.rows, run.expires_time)
        )
    return Expiry(tuple(removed), tuple(failures))


def _remove(project: Project, export: Export, run: ExportRun, actor: str) -> bool:
    """Remove the files of a run; False when somebody has done so before."""
    was_there = open_destination(export, project.settings.home).remove(run)
    change_run(project.store, run.id, state="expired")
    if not was_there:
        return False
    with project.store.write() as connection:
        audit.record(
            connection,
            actor,
            "export-expired",
            f"export {run.export}",
            f"{run.rows} rows of {run.execution_date} removed from {run.shown}/{run.place}",
        )
    return True
