"""Throwing a send plan away of which nothing was ever handed to a provider.

A plan that expired as a whole, or waits, can be made again from another decision. Once a provider
was given a single message the plan stands for good: to plan again could text a person twice.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, func, select

from usergrowth_dagster.control import audit, schema
from usergrowth_dagster.control.codes import JobStatus, Kind, MessageState
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.errors import UserError

message, occurrence, batch = schema.message, schema.occurrence, schema.batch
_NEVER_OUT = and_(
    message.c.state.in_((MessageState.PLANNED, MessageState.SKIPPED, MessageState.EXPIRED)),
    message.c.attempts == 0,
    *(message.c[name].is_(None) for name in ("sent_time", "batch_id", "request_id", "claimed_by")),
)
"""Rows that no dispatcher holds and that no provider was ever given."""


@dataclass(frozen=True)
class Discarded:
    """A plan that was thrown away.

    ``occurrences`` are the names of its runs, ``people`` counts its rows by what had become of
    them: ``planned``, ``expired: send_by_passed``, ``skipped: quiet_hours`` …
    """

    task_id: str
    occurrences: tuple[str, ...]
    people: dict[str, int]


def discard_plan(store: ControlStore, task: Task, actor: str, why: str) -> Discarded:
    """Take a task's send plan out of the ledger, so that the task can be decided again.

    What the plan held is kept in the task's history and in the audit log: its occurrences, and
    people by state and reason.

    Args:
        store: the control store.
        task: a task with a send plan.
        actor: who does it.
        why: the reason, kept with it.

    Raises:
        UserError: no reason is given, there is no plan, or a message of it is with a dispatcher or
            was ever handed to a provider; nothing changes.
    """
    if not why.strip():
        raise UserError(
            'deciding a task again needs a reason that is kept: add --why "…"',
            code="command.needs_reason",
        )
    job = schema.inference_job
    with store.write(alone=True) as connection:
        runs = connection.execute(
            select(occurrence.c.id, occurrence.c.name)
            .where(occurrence.c.task_id == task.task_id)
            .order_by(occurrence.c.id)
            .with_for_update()
        ).all()
        if not runs:
            raise UserError(
                f"task {task.task_id!r} has no send plan, so there is nothing to throw away: "
                f"usergrowth run --date {task.execution_date} decides it on its present inputs",
                code="task.undecided",
            )
        mine = message.c.occurrence_id.in_([run[0] for run in runs])
        _refuse_begun(connection, task, [run[0] for run in runs], mine)
        people = _people(connection, mine)
        deleted = connection.execute(message.delete().where(mine, _NEVER_OUT)).rowcount
        if deleted != sum(people.values()):  # a dispatcher took rows since they were counted
            raise UserError(
                _begun(task, "a dispatcher is sending it at this moment"), code="plan.begun"
            )
        connection.execute(occurrence.delete().where(occurrence.c.id.in_([run[0] for run in runs])))
        for run in runs:  # an id with a history is never given to another occurrence
            store.note(connection, Kind.OCCURRENCE, run[0], actor, note=f"thrown away: {why}")
        done = Discarded(task.task_id, tuple(run[1] for run in runs), people)
        job_id, status = connection.execute(
            select(job.c.id, job.c.status).where(job.c.name == task.task_id)
        ).one()
        note = f"send plan thrown away ({_counted(people)}): {why}"
        if status in (JobStatus.SUCCESS, JobStatus.FAILED):
            store.move(connection, Kind.INFERENCE_JOB, job_id, JobStatus.QUEUED, actor, note=note)
        else:
            store.note(connection, Kind.INFERENCE_JOB, job_id, actor, note=note)
        detail = f"{', '.join(done.occurrences)}: {_counted(people)}; {why}"
        audit.record(connection, actor, "redecide", f"task {task.task_id}", detail)
    return done


def _refuse_begun(
    connection: Connection, task: Task, runs: Sequence[int], mine: ColumnElement[bool]
) -> None:
    """Refuse a plan of which anything is on its way, or was.

    Raises:
        UserError: says what, and how many.
    """
    begun = connection.execute(
        select(message.c.state, func.count()).where(mine, ~_NEVER_OUT).group_by(message.c.state)
    ).tuples()
    counts = {str(state): int(rows) for state, rows in begun}
    if counts:
        listed = ", ".join(f"{rows:,} {state}" for state, rows in sorted(counts.items()))
        raise UserError(
            _begun(task, f"a provider was given messages of it, or may be ({listed})"),
            code="plan.begun",
        )
    if connection.scalar(select(batch.c.id).where(batch.c.occurrence_id.in_(runs)).limit(1)):
        raise UserError(_begun(task, "a provider was called for it"), code="plan.begun")


def _begun(task: Task, reason: str) -> str:
    return (
        f"task {task.task_id!r} keeps its send plan: {reason}; to plan it again could text a "
        "person twice. Upload its people into a folder of another name, or end what is still "
        f"planned with usergrowth cancel {task.spec.schedule.name}"
    )


def _people(connection: Connection, mine: ColumnElement[bool]) -> dict[str, int]:
    query = (
        select(message.c.state, message.c.reason, func.count())
        .where(mine)
        .group_by(message.c.state, message.c.reason)
    )
    counts: Counter[str] = Counter()
    for state, reason, rows in connection.execute(query):
        counts[f"{state}: {reason}" if reason else str(state)] += rows
    return dict(sorted(counts.items()))


def _counted(people: dict[str, int]) -> str:
    return ", ".join(f"{rows:,} {what}" for what, rows in people.items()) or "nobody in it"
