"""What the ledger has still to do, counted without a look at what is done.

Every query goes by an index to rows that are open: its cost follows the backlog and never the
history. So a monitor may ask often.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select, text

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState, OccurrenceState
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.messaging.receiving.receipts import PENDING

message = schema.message
occurrence = schema.occurrence
receipt = schema.receipt
UNFINISHED = (
    *(OccurrenceState.PLANNING, OccurrenceState.READY, OccurrenceState.SENDING),
    OccurrenceState.STOPPED,
)
PAUSED = "paused"
"""What stands for the state of an unfinished occurrence whose schedule is paused."""
UNKNOWN = "unknown"
"""What stands for the gateway of a message in doubt that this ledger has handed to none."""
STATEMENT_SECONDS = 5


@dataclass(frozen=True)
class Backlog:
    """Counts of open rows; a message is one recipient.

    Attributes:
        messages: messages planned, claimed and submitting, by state.
        due: planned messages that may go out now.
        oldest_due_seconds: how long the one of these that waits longest has waited; 0: none is due.
        in_doubt: messages in doubt, by the gateway that was given them, or :data:`UNKNOWN`.
        occurrences: unfinished occurrences by state, or :data:`PAUSED`.
        receipts: reports that wait for their message.
        oldest_receipt_seconds: how long the oldest of these has waited; 0: none waits.
    """

    messages: Mapping[str, int] = field(default_factory=dict)
    due: int = 0
    oldest_due_seconds: float = 0.0
    in_doubt: Mapping[str, int] = field(default_factory=dict)
    occurrences: Mapping[str, int] = field(default_factory=dict)
    receipts: int = 0
    oldest_receipt_seconds: float = 0.0


def read_backlog(store: ControlStore, now: datetime) -> Backlog:
    """Count what is open, in one consistent view.

    Args:
        store: the control store.
        now: the business clock.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database fails, or takes longer than
            :data:`STATEMENT_SECONDS` for a query (PostgreSQL alone ends it).
    """
    clock = utc_now()
    with store.read() as connection:
        if not store.is_sqlite:
            connection.execute(text(f"set local statement_timeout = '{STATEMENT_SECONDS}s'"))
        runs = connection.execute(_UNFINISHED).all()
        due = [
            (row.id, row.due)
            for row in runs
            if not row.paused
            and row.state in (OccurrenceState.READY, OccurrenceState.SENDING)
            and row.due <= now < row.send_by
        ]
        number, waited = _due(connection, dict(due), now, clock)
        waiting, oldest = connection.execute(_RECEIPTS).one()
        return Backlog(
            messages=_by_state(connection, [row.id for row in runs]),
            due=number,
            oldest_due_seconds=waited,
            in_doubt={row[0]: row[1] for row in connection.execute(_IN_DOUBT)},
            occurrences=_by_run(runs),
            receipts=waiting,
            oldest_receipt_seconds=_seconds(clock, oldest),
        )


_UNFINISHED = (
    select(
        occurrence.c.id,
        occurrence.c.state,
        occurrence.c.due,
        occurrence.c.send_by,
        schema.schedule.c.paused,
    )
    .join(schema.schedule, schema.schedule.c.id == occurrence.c.schedule_id)
    .where(occurrence.c.state.in_(UNFINISHED))
)


_IN_DOUBT = (
    select(func.coalesce(schema.batch.c.gateway, UNKNOWN), func.count())
    .select_from(message)
    .outerjoin(schema.batch, schema.batch.c.id == message.c.batch_id)
    .where(message.c.state == MessageState.IN_DOUBT)
    .group_by(schema.batch.c.gateway)
)
_RECEIPTS = select(func.count(), func.min(receipt.c.received_time)).where(PENDING)
_LEASED = (
    select(message.c.state, func.count())
    .where(message.c.lease_until.is_not(None))
    .group_by(message.c.state)
)


def _by_state(connection: Connection, runs: list[int]) -> dict[str, int]:
    """Messages that a dispatcher has still to move; those that one holds have a lease."""
    planned = select(func.count()).where(
        message.c.occurrence_id.in_(runs), message.c.state == MessageState.PLANNED
    )
    leased = {str(state): rows for state, rows in connection.execute(_LEASED)}
    return {
        "planned": connection.scalar(planned) or 0,
        **{str(one): leased.get(one, 0) for one in (MessageState.CLAIMED, MessageState.SUBMITTING)},
    }


def _due(
    connection: Connection, runs: Mapping[int, datetime], now: datetime, clock: datetime
) -> tuple[int, float]:
    """How many planned messages may go out now, and for how many seconds the first has waited.

    A message that was put off by the provider waits on the real clock, every other one on the
    business clock.
    """
    at_once = and_(message.c.not_before.is_(None), message.c.retry_at.is_(None))
    query = (
        select(
            message.c.occurrence_id,
            func.count(),
            func.count().filter(at_once),
            func.min(message.c.not_before).filter(message.c.retry_at.is_(None)),
            func.min(message.c.retry_at),
        )
        .where(
            message.c.occurrence_id.in_(runs),
            message.c.state == MessageState.PLANNED,
            or_(message.c.not_before.is_(None), message.c.not_before <= now),
            or_(message.c.retry_at.is_(None), message.c.retry_at <= clock),
        )
        .group_by(message.c.occurrence_id)
    )
    number, waited = 0, 0.0
    for run, rows, from_the_start, own_hour, again in connection.execute(query):
        number += rows
        begin = runs[run] if from_the_start else own_hour and max(own_hour, runs[run])
        waited = max(waited, _seconds(now, begin), _seconds(clock, again))
    return number, waited


def _by_run(runs: Any) -> dict[str, int]:
    counts = dict.fromkeys([*map(str, UNFINISHED), PAUSED], 0)
    for row in runs:
        counts[PAUSED if row.paused else str(row.state)] += 1
    return counts


def _seconds(now: datetime, since: datetime | None) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())
