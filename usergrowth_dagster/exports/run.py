"""Run an export for an execution date: work out its rows, and bring what is new to the destination.

A run is in the control store before anything goes out. So a run that was killed is found by the
next one, which finishes it or begins anew, as the destination allows; unchanged rows that the
destination still holds are not sent again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

from usergrowth_dagster.control.tasks import task as one_task
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.exports.definition import FILE_NAME, Export, read_exports
from usergrowth_dagster.exports.destinations.base import (
    Delivered,
    Delivery,
    Destination,
    destination_fingerprint,
)
from usergrowth_dagster.exports.destinations.open import open_destination
from usergrowth_dagster.exports.rows import ExportRows, bind_rows, input_fingerprint
from usergrowth_dagster.exports.runs import (
    ExportRun,
    add_progress,
    begin_run,
    change_run,
    end_run,
    get_run,
    last_run,
    runs_of,
)
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import open_engine

INTERRUPTED = "was broken off"


@dataclass(frozen=True)
class Exported:
    """What became of an export on a date.

    Attributes:
        export: its name.
        execution_date: the date.
        tasks: ids of the tasks that the rows come from.
        waiting: ids of tasks of the date that have no decision or scores yet.
        state: sent; unchanged (the destination holds these rows already); nothing (no task).
        rows: rows of the query.
        sent: rows that the destination has.
        failed: of these, rows that it refused.
        left_out: rows that stayed at home, by reason.
        columns: DuckDB type by name outside.
        destination: where they went, without secrets.
        place: the folder of the files; empty for a destination without files.
        manifest: hash of the manifest; empty without one.
        sentence: all of that in one sentence.
    """

    export: str
    execution_date: date
    tasks: tuple[str, ...]
    waiting: tuple[str, ...]
    state: Literal["sent", "unchanged", "nothing"]
    rows: int
    sent: int
    failed: int
    left_out: Mapping[str, int]
    columns: Mapping[str, str]
    destination: str
    place: str
    manifest: str
    sentence: str


def exports_of(project: Project, name: str | None = None) -> tuple[Export, ...]:
    """The exports of a home, or the one of a name.

    Raises:
        UserError: the home has no exports.yml, it breaks its format, or has no such export.
    """
    exports = read_exports(project.settings.home / FILE_NAME)
    chosen = tuple(export for export in exports if name in (None, export.name))
    if not chosen:
        known = ", ".join(export.name for export in exports)
        raise UserError(
            f"{FILE_NAME} has no export {name!r}; it has {known}", code="export.unknown"
        )
    return chosen


def default_day(project: Project, export: Export, task_id: str | None) -> date:
    """The date of an export that is run without one: its task's, else today's execution date.

    Raises:
        UserError: the task does not exist.
    """
    kind = export.audience or export.scores
    named = task_id or (kind.task if kind is not None else None)
    if named is not None:
        return one_task(project.store, named).execution_date
    return project.settings.current_date()


def run_export(
    project: Project,
    export: Export,
    day: date,
    *,
    actor: str,
    task_id: str | None = None,
    again: bool = False,
) -> Exported:
    """Bring the rows of a date to their destination, unless it holds them.

    Args:
        project: the home.
        export: the export.
        day: the execution date.
        actor: who exports, for the audit log.
        task_id: only this task.
        again: send rows that the destination holds already.

    Raises:
        UserError: the task is unknown or not decided, or the destination does not take the rows.
    """
    destination = open_destination(export, project.settings.home)
    with (
        project.alone(f"export.{export.name}"),
        open_engine(project.settings) as engine,
    ):
        rows = bind_rows(
            engine, project, export, day, task_id=task_id, keep_item=export.to.keeps_columns
        )
        if not rows.tasks:
            return _nothing(export, day, rows, destination)
        last = last_run(project.store, export.name, day, task_id or "")
        if last is not None and not again and _is_same(export, rows, last):
            if last.state == "done" and destination.holds(last):
                return _exported(export, rows, last, "unchanged")
            if last.state == "running" and (brought := destination.finished(last)):
                return _exported(export, rows, _record(project, last, brought), "sent")
        if not again:
            _refuse_older(project, export, day)
        destination.check(rows)
        goes_on = destination.resumes and not again
        run = _begin(project, export, day, rows, destination, last, goes_on, actor, task_id or "")
        before = last if last is not None and last.state in ("running", "failed") else None
        delivery = Delivery(project, export, day, rows, run, before)
        return _exported(export, rows, _deliver(delivery, destination), "sent")


def _refuse_older(project: Project, export: Export, day: date) -> None:
    """Refuse rows that would take the place of those of a later date.

    Raises:
        UserError: the table has them, and its key does not tell dates apart.
    """
    target = export.to.database
    if target is None or "ds" in {export.by_name[name] for name in target.key}:
        return
    fingerprint = destination_fingerprint(export)
    newest = max(
        (
            run.execution_date
            for run in runs_of(project.store, export.name)
            if run.state == "done" and run.destination == fingerprint
        ),
        default=day,
    )
    if newest > day:
        raise UserError(
            f"export {export.name}: {target.shown} has the rows of {newest}, and those of {day} "
            "would take their place; add ds to key, or give --again",
            code="export.refused",
        )


def _is_same(export: Export, rows: ExportRows, run: ExportRun) -> bool:
    """Whether a run brought these rows to the destination that the export names."""
    return (run.input, run.destination) == (
        input_fingerprint(export, rows),
        destination_fingerprint(export),
    )


def _begin(
    project: Project,
    export: Export,
    day: date,
    rows: ExportRows,
    destination: Destination,
    last: ExportRun | None,
    goes_on: bool,
    actor: str,
    task_id: str,
) -> ExportRun:
    """The run that goes on, else a new one; an earlier one that was killed has failed then."""
    if last is not None and last.state in ("running", "failed"):
        if goes_on and _is_same(export, rows, last):
            change_run(project.store, last.id, state="running", error="", ended_time=None)
            return get_run(project.store, last.id)
        if last.state == "running":
            end_run(project.store, last.id, "failed", INTERRUPTED)
    return begin_run(
        project.store,
        export=export.name,
        day=day,
        task_id=task_id,
        tasks=rows.tasks,
        input=input_fingerprint(export, rows),
        destination=destination_fingerprint(export),
        shown=destination.shown,
        rows=rows.rows,
        actor=actor,
        addresses=export.addresses,
    )


def _deliver(delivery: Delivery, destination: Destination) -> ExportRun:
    """Deliver, and record how it ended; a run that is killed stays ``running``."""
    store, run = delivery.project.store, delivery.run
    try:
        delivered = destination.deliver(delivery)
    except UserError as error:
        end_run(store, run.id, "failed", str(error))
        raise
    return _record(delivery.project, run, delivered)


def _record(project: Project, run: ExportRun, delivered: Delivered) -> ExportRun:
    add_progress(
        project.store,
        run.id,
        sent=delivered.sent,
        errors=delivered.errors,
        failed=delivered.failed,
    )
    change_run(project.store, run.id, manifest=delivered.manifest)
    return end_run(project.store, run.id, "done")


def _nothing(export: Export, day: date, rows: ExportRows, destination: Destination) -> Exported:
    kind = export.audience or export.scores
    missing = "scored" if export.scores is not None else "decided"
    if rows.waiting:
        sentence = f"export {export.name}: not {missing} on {day}: {', '.join(rows.waiting)}"
    else:
        sentence = f"export {export.name}: no task of its own on {day}"
    if kind is not None and kind.task is not None and rows.waiting:
        raise UserError(sentence, code="task.undecided")
    return Exported(
        export=export.name,
        execution_date=day,
        tasks=(),
        waiting=rows.waiting,
        state="nothing",
        rows=0,
        sent=0,
        failed=0,
        left_out=rows.left_out,
        columns={column.name: column.kind for column in rows.columns},
        destination=destination.shown,
        place="",
        manifest="",
        sentence=sentence,
    )


def _exported(
    export: Export, rows: ExportRows, run: ExportRun, state: Literal["sent", "unchanged"]
) -> Exported:
    place = f"{run.shown}/{run.place}" if run.place else run.shown
    if state == "unchanged":
        sentence = f"nothing new: {place} holds the {run.rows:,} rows of {run.execution_date}"
    else:
        sentence = f"{run.sent - run.failed:,} of {run.rows:,} rows of {run.execution_date} went to"
        sentence += f" {place}"
    if run.failed:
        sentence += f"; {run.failed:,} rows were refused (usergrowth exports errors {export.name})"
    stayed = [f"{count:,} {reason}" for reason, count in rows.left_out.items() if count]
    if stayed:
        sentence += f"; left out: {', '.join(stayed)}"
    if rows.waiting:
        sentence += f"; not ready: {', '.join(rows.waiting)}"
    return Exported(
        export=export.name,
        execution_date=run.execution_date,
        tasks=rows.tasks,
        waiting=rows.waiting,
        state=state,
        rows=rows.rows,
        sent=run.sent,
        failed=run.failed,
        left_out=rows.left_out,
        columns={column.name: column.kind for column in rows.columns},
        destination=run.shown,
        place=run.place,
        manifest=run.manifest,
        sentence=f"export {export.name}: {sentence}",
    )
