"""Runs of exports in the control store: what went where, and which rows a destination refused."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

from sqlalchemy import RowMapping, func, select

from usergrowth_dagster.control import audit, schema
from usergrowth_dagster.control.store import ControlStore, utc_now

State = Literal["running", "done", "failed", "expired"]

KEPT_ERRORS = 1_000
"""Refused rows of a run that are kept; all are counted."""

_REASON_SIZE = 300
export_run, export_error = schema.export_run, schema.export_error


@dataclass(frozen=True)
class ExportRun:
    """One delivery; times are UTC.

    Attributes:
        id: never used twice.
        export: name of the export.
        execution_date: date of the rows.
        task_id: the task that it was limited to; empty: none.
        tasks: ids of the tasks that the rows come from.
        input: fingerprint of the rows and their form.
        destination: fingerprint of where they go.
        shown: the destination for people, without secrets.
        place: folder of its files; empty for a destination without files.
        manifest: hash of its manifest; empty without one.
        rows: rows that go out.
        sent: rows that the destination has had so far.
        failed: of these, rows that it refused.
        state: running, done, failed or expired.
        error: why it failed.
        started_time: when it began.
        ended_time: when it was done or failed.
        expires_time: when its files may be removed; None: never.
    """

    id: int
    export: str
    execution_date: date
    task_id: str
    tasks: tuple[str, ...]
    input: str
    destination: str
    shown: str
    place: str
    manifest: str
    rows: int
    sent: int
    failed: int
    state: State
    error: str
    started_time: datetime
    ended_time: datetime | None
    expires_time: datetime | None


@dataclass(frozen=True)
class RowError:
    """A row that a destination refused; the reason holds no address."""

    row: int
    task_id: str
    user_id: str = field(repr=False)
    reason: str


def runs_of(store: ControlStore, export: str | None = None) -> list[ExportRun]:
    """Runs of an export, or of all, oldest first."""
    query = select(export_run).order_by(export_run.c.id)
    if export is not None:
        query = query.where(export_run.c.export == export)
    with store.read() as connection:
        return [_run_of(row) for row in connection.execute(query).mappings()]


def last_run(store: ControlStore, export: str, day: date, task_id: str) -> ExportRun | None:
    """The newest run of an export for a date."""
    query = (
        select(export_run)
        .where(
            export_run.c.export == export,
            export_run.c.execution_date == day,
            export_run.c.task_id == task_id,
        )
        .order_by(export_run.c.id.desc())
        .limit(1)
    )
    with store.read() as connection:
        row = connection.execute(query).mappings().first()
    return None if row is None else _run_of(row)


def begin_run(
    store: ControlStore,
    *,
    export: str,
    day: date,
    task_id: str,
    tasks: Sequence[str],
    input: str,
    destination: str,
    shown: str,
    rows: int,
    actor: str,
    addresses: Sequence[str] = (),
) -> ExportRun:
    """Record a run before anything goes out; a run with addresses is in the audit log then.

    Args:
        store: the control store.
        export: its name.
        day: the execution date.
        task_id: the task that it is limited to, or empty.
        tasks: the tasks that the rows come from.
        input: fingerprint of the rows.
        destination: fingerprint of where they go.
        shown: the destination without secrets.
        rows: how many go out.
        actor: who exports.
        addresses: the columns that reach a person.
    """
    with store.write() as connection:
        made = connection.execute(
            export_run.insert().values(
                export=export,
                execution_date=day,
                task_id=task_id,
                tasks=list(tasks),
                input=input,
                destination=destination,
                shown=shown,
                place="",
                manifest="",
                rows=rows,
                sent=0,
                failed=0,
                state="running",
                error="",
                started_time=utc_now(),
            )
        )
        run_id = int(made.inserted_primary_key[0])  # type: ignore[index]
        if addresses:
            audit.record(
                connection,
                actor,
                "export-addresses",
                f"export {export}",
                f"{rows} rows of {', '.join(tasks)} on {day} with {' and '.join(addresses)} "
                f"to {shown}",
            )
    return get_run(store, run_id)


def get_run(store: ControlStore, run_id: int) -> ExportRun:
    """A run as it stands."""
    with store.read() as connection:
        row = connection.execute(select(export_run).where(export_run.c.id == run_id)).mappings()
        return _run_of(row.one())


def change_run(store: ControlStore, run_id: int, **values: Any) -> None:
    """Set columns of a run."""
    with store.write() as connection:
        connection.execute(export_run.update().where(export_run.c.id == run_id).values(**values))


def add_progress(
    store: ControlStore, run_id: int, *, sent: int, errors: Sequence[RowError], failed: int
) -> None:
    """Count rows that the destination has had since, and keep the first that it refused.

    Args:
        store: the control store.
        run_id: the run.
        sent: further rows.
        errors: refused rows, as far as they are known one by one.
        failed: how many of the further rows were refused.
    """
    with store.write() as connection:
        connection.execute(
            export_run.update()
            .where(export_run.c.id == run_id)
            .values(sent=export_run.c.sent + sent, failed=export_run.c.failed + failed)
        )
        kept = connection.scalar(
            select(func.count()).select_from(export_error).where(export_error.c.run_id == run_id)
        )
        room = max(KEPT_ERRORS - int(kept or 0), 0)
        lines = [
            {
                "run_id": run_id,
                "row": error.row,
                "task_id": error.task_id,
                "user_id": error.user_id,
                "reason": error.reason[:_REASON_SIZE],
            }
            for error in errors[:room]
        ]
        if lines:
            connection.execute(export_error.insert(), lines)


def end_run(store: ControlStore, run_id: int, state: State, error: str = "") -> ExportRun:
    """Record how a run ended."""
    change_run(store, run_id, state=state, error=error, ended_time=utc_now())
    return get_run(store, run_id)


def errors_of(store: ControlStore, run_id: int) -> list[RowError]:
    """The refused rows of a run that were kept, by row."""
    table = export_error.c
    query = (
        select(table.row, table.task_id, table.user_id, table.reason)
        .where(table.run_id == run_id)
        .order_by(table.row, table.id)
    )
    with store.read() as connection:
        return [RowError(*row) for row in connection.execute(query).tuples()]


def _run_of(row: RowMapping) -> ExportRun:
    return ExportRun(**{**row, "tasks": tuple(row["tasks"])})
