"""Statements of a claim and of its write-ahead.

Those of the hot path are made once: making them takes longer than running them.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Connection, bindparam, exists, func, or_, select
from sqlalchemy.sql.dml import ReturningUpdate

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState, OccurrenceState

_M = schema.message
_O = schema.occurrence
_S = schema.schedule


class Objection(Protocol):
    """Why a message must not go out now; ``wait_until`` None: it never will."""

    @property
    def message_id(self) -> int: ...
    @property
    def reason(self) -> str: ...
    @property
    def wait_until(self) -> datetime | None: ...


OPEN = (OccurrenceState.READY, OccurrenceState.SENDING)
LAST_REFUSAL = select(func.max(schema.suppression.c.id))
RUN = select(_O.c.state, _O.c.due, _O.c.send_by, _O.c.schedule_id).where(
    _O.c.id == bindparam("one")
)
PAUSED = select(_S.c.paused).where(_S.c.id == bindparam("one"))
RUN_LOCKED, PAUSED_LOCKED = RUN.with_for_update(read=True), PAUSED.with_for_update(read=True)
BATCH = schema.batch.insert()
NOT_REPORTED = or_(
    _M.c.attempts == 0,
    ~exists(
        select(schema.receipt.c.id).where(
            schema.receipt.c.message_id == _M.c.id, schema.receipt.c.pending
        )
    ),
)
"""A report that waits for a row says that the provider has it, whatever its answer was."""

MOVE = (
    _M.update()
    .where(
        _M.c.id.in_(bindparam("rows", expanding=True)),
        _M.c.state == MessageState.CLAIMED,
        _M.c.claimed_by == bindparam("worker"),
        _M.c.lease_until > bindparam("clock"),
        NOT_REPORTED,
    )
    .values(
        state=MessageState.SUBMITTING,
        batch_id=bindparam("batch"),
        attempts=_M.c.attempts + 1,
        sent_time=bindparam("now"),
        lease_until=bindparam("until"),
        updated_time=bindparam("clock"),
    )
    .returning(_M.c.id)
)


_HANDED = (
    *(_M.c.id, _M.c.user_id, _M.c.phone_number, _M.c.template_params, _M.c.segments),
    _M.c.variant,
)


def ready(
    occurrence_id: int, after: int, now: datetime, clock: datetime
) -> tuple[ColumnElement[bool], ...]:
    """Conditions of rows that can go out at ``now`` (business clock), ``clock`` (the real one)."""
    return (
        _M.c.occurrence_id == occurrence_id,
        _M.c.state == MessageState.PLANNED,
        _M.c.id > after,
        (_M.c.not_before.is_(None)) | (_M.c.not_before <= now),
        (_M.c.retry_at.is_(None)) | (_M.c.retry_at <= clock),
        NOT_REPORTED,
    )


def is_open(
    connection: Connection, occurrence_id: int, now: datetime, *, lock: bool = False
) -> bool:
    """Whether rows may go out; with ``lock``, who pauses or stops waits for this transaction.

    An occurrence whose plan was thrown away meanwhile is not open.
    """
    run, schedule = (RUN_LOCKED, PAUSED_LOCKED) if lock else (RUN, PAUSED)
    row = connection.execute(run, {"one": occurrence_id}).one_or_none()
    if row is None or row[0] not in OPEN:
        return False
    held = connection.scalar(schedule, {"one": row[3]})
    return bool(row[1] <= now < row[2] and not held)


def take(
    can_go: Sequence[ColumnElement[bool]], limit: int, worker: str, until: datetime
) -> ReturningUpdate[Any]:
    """The statement that claims rows until a time and returns them."""
    pick = (
        select(_M.c.id)
        .where(*can_go)
        .order_by(_M.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)  # SQLite has one writer, and ignores it
        .cte("pick")
        .prefix_with("materialized", dialect="postgresql")  # never run, and locked, twice
    )
    return (
        _M.update()
        .where(_M.c.id.in_(select(pick.c.id)))
        .values(state=MessageState.CLAIMED, claimed_by=worker, lease_until=until)
        .returning(*_HANDED)
    )


def hold_back(
    connection: Connection,
    objections: Sequence[Objection],
    mine: Sequence[ColumnElement[bool]],
    clock: datetime,
) -> tuple[int, int]:
    """Skip the rows that must never go out, and put off those that must wait."""
    alike: dict[tuple[str, datetime | None], list[int]] = {}
    for one in objections:
        alike.setdefault((one.reason, one.wait_until), []).append(one.message_id)
    skipped = waiting = 0
    for (reason, wait_until), message_ids in alike.items():
        state = MessageState.PLANNED if wait_until else MessageState.SKIPPED
        values = {"not_before": wait_until} if wait_until else {}
        done = connection.execute(
            _M.update()
            .where(_M.c.id.in_(message_ids), *mine)
            .values(
                state=state,
                reason=reason,
                claimed_by=None,
                lease_until=None,
                updated_time=clock,
                **values,
            )
        ).rowcount
        skipped, waiting = (skipped, waiting + done) if wait_until else (skipped + done, waiting)
    return skipped, waiting
