"""Statements of a claim and of its write-ahead.

Those of the hot path are made once: making them takes longer than running them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import ColumnElement, Connection, Integer, bindparam, exists, func, or_, select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState, OccurrenceState
from usergrowth_dagster.control.columns import UtcTime, among

message = schema.message
occurrence = schema.occurrence
schedule = schema.schedule


class Objection(Protocol):
    """Why a message must not go out now; ``wait_until`` None: it never will."""

    @property
    def message_id(self) -> int: ...
    @property
    def reason(self) -> str: ...
    @property
    def wait_until(self) -> datetime | None: ...


@dataclass(frozen=True)
class Situation:
    """What a batch that is written ahead depends on, apart from the hour and earlier messages.

    ``open``: the occurrence is ready or sending, and its schedule not paused. ``last_refusal`` is
    the newest row of the suppression list.
    """

    open: bool = False
    last_refusal: int | None = None


_OPEN = (OccurrenceState.READY, OccurrenceState.SENDING)
_SITUATION = (
    select(
        occurrence.c.state,
        schedule.c.paused,
        occurrence.c.due,
        occurrence.c.send_by,
        select(func.max(schema.suppression.c.id)).scalar_subquery(),
    )
    .join_from(occurrence, schedule, schedule.c.id == occurrence.c.schedule_id)
    .where(occurrence.c.id == bindparam("occurrence"))
)
_SITUATION_LOCKED = _SITUATION.with_for_update(read=True)
BATCH = schema.batch.insert()
NOT_REPORTED = or_(
    message.c.attempts == 0,
    ~exists(
        select(schema.receipt.c.id).where(
            schema.receipt.c.message_id == message.c.id, schema.receipt.c.pending
        )
    ),
)
"""A report that waits for a row says that the provider has it, whatever its answer was."""

MOVE = (
    message.update()
    .where(
        among(message.c.id, "rows"),
        message.c.state == MessageState.CLAIMED,
        message.c.claimed_by == bindparam("worker"),
        # an expression has no index: statistics from when nothing was claimed would favour it, and
        # now it has all rows of the claim
        func.coalesce(message.c.lease_until, message.c.lease_until)
        > bindparam("clock", type_=UtcTime),
        NOT_REPORTED,
    )
    .values(
        state=MessageState.SUBMITTING,
        batch_id=bindparam("batch"),
        attempts=message.c.attempts + 1,
        sent_time=bindparam("now"),
        lease_until=bindparam("until"),
        updated_time=bindparam("clock"),
    )
)
MOVED = select(message.c.id).where(
    among(message.c.id, "rows"), message.c.batch_id == bindparam("batch")
)


_HANDED = (
    *(
        message.c.id,
        message.c.user_id,
        message.c.phone_number,
        message.c.template_params,
        message.c.segments,
    ),
    message.c.variant,
)


READY = (
    message.c.occurrence_id == bindparam("occurrence"),
    message.c.state == MessageState.PLANNED,
    message.c.id > bindparam("after"),
    (message.c.not_before.is_(None)) | (message.c.not_before <= bindparam("now")),
    (message.c.retry_at.is_(None)) | (message.c.retry_at <= bindparam("clock")),
    NOT_REPORTED,
)
"""Conditions of rows that can go out at ``:now`` (business clock), ``:clock`` (the real one)."""
HOW_MANY = select(func.count()).select_from(
    select(message.c.id).where(*READY).limit(bindparam("most", type_=Integer)).subquery()
)
_PICK = (
    select(message.c.id)
    .where(*READY)
    .order_by(message.c.id)
    .limit(bindparam("most", type_=Integer))
    .with_for_update(skip_locked=True)  # SQLite has one writer, and ignores it
    .cte("pick")
    .prefix_with("materialized", dialect="postgresql")  # never run, and locked, twice
)
TAKE = (
    message.update()
    .where(message.c.id.in_(select(_PICK.c.id)))
    .values(
        state=MessageState.CLAIMED,
        claimed_by=bindparam("worker"),
        lease_until=bindparam("until", type_=UtcTime),
    )
    .returning(*_HANDED)
)
"""Claims at most ``:most`` of the ready rows until a time and returns them."""


def situation(
    connection: Connection, occurrence_id: int, now: datetime | None = None, *, lock: bool = False
) -> Situation:
    """What messages of an occurrence depend on; with ``now`` it is open only in its hours.

    With ``lock``, who pauses or stops waits for this transaction. An occurrence whose plan was
    thrown away meanwhile is not open.
    """
    query = _SITUATION_LOCKED if lock else _SITUATION
    row = connection.execute(query, {"occurrence": occurrence_id}).one_or_none()
    if row is None:
        return Situation()
    state, paused, due, send_by, last_refusal = row
    inside = now is None or due <= now < send_by
    return Situation(state in _OPEN and not paused and inside, last_refusal)


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
            message.update()
            .where(message.c.id.in_(message_ids), *mine)
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
