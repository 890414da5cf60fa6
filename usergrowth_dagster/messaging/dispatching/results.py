"""Writing down what a provider said of messages: the answers of a call, a look-up, a poison row."""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Update, and_, bindparam, func, or_, select
from sqlalchemy.exc import DataError, DBAPIError, ProgrammingError

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MESSAGE_TRANSITIONS, MessageState
from usergrowth_dagster.control.columns import among
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.messaging.dispatching import failpoints

message = schema.message
_TAKEN = (MessageState.ACCEPTED, MessageState.DELIVERED, MessageState.UNDELIVERED)


class Settled(NamedTuple):
    """How one submitted row ended: its new state, and what the provider said."""

    message_id: int
    state: MessageState
    reason: str | None = None
    error_code: str | None = None
    request_id: str | None = None
    retry_at: datetime | None = None


def record(store: ControlStore, batch_id: int | None, results: Sequence[Settled]) -> int:
    """Write down how submitted or doubtful rows ended; a state never moves backwards.

    Args:
        store: the control store.
        batch_id: the batch that was answered; None for a look-up or a poison row.
        results: one a row; a row whose present state does not allow its result stays.

    Returns:
        How many rows have changed.
    """
    with store.write() as connection:
        return record_in(connection, batch_id, results)


def record_in(connection: Connection, batch_id: int | None, results: Sequence[Settled]) -> int:
    """As :func:`record`, within a transaction of ``store.write``."""
    clock = utc_now()
    alike: dict[tuple[Any, ...], list[Settled]] = {}
    for one in results:
        alike.setdefault((one.state, one.reason, one.error_code, one.retry_at), []).append(one)
    if len(alike) > 1 and connection.dialect.name != "sqlite":
        # two look-ups of the same rows may sort them differently: one order of locks for all
        connection.execute(_HELD, {"rows": sorted(one.message_id for one in results)}).all()
    changed = 0
    for (state, reason, code, retry_at), group in alike.items():
        numbers = {one.request_id for one in group}
        values = {"why": reason, "code": code, "again": retry_at, "clock": clock}
        of_batch = batch_id is not None and state not in _TAKEN
        if of_batch:
            values["batch"] = batch_id
        together = len(numbers) == 1
        update = _update(state, together=together, of_batch=of_batch)
        if together:
            values |= {"rows": [one.message_id for one in group], "number": group[0].request_id}
            changed += connection.execute(update, values).rowcount
        else:
            rows = [{**values, "row": one.message_id, "number": one.request_id} for one in group]
            changed += connection.execute(update, rows).rowcount
    if batch_id is not None:
        connection.execute(_ANSWERED, {"batch": batch_id, "clock": clock})
    failpoints.reach(failpoints.RECORDING)
    return changed


def is_of_the_values(error: Exception) -> bool:
    """Whether a step failed because of the values at hand, and not because the database failed."""
    return not isinstance(error, DBAPIError) or isinstance(error, DataError | ProgrammingError)


@cache
def _update(state: MessageState, *, together: bool, of_batch: bool) -> Update:
    """The statement that ends rows alike: a list of them at once, or many times one.

    An answer to a batch ends the rows whose last batch it is: a worker that was stopped for long
    may bring it when a person has released the rows and another worker is submitting them. That
    the provider has taken a message holds for whatever batch, even for a row that is planned anew.
    """
    sources = [s for s, to in MESSAGE_TRANSITIONS.items() if state in to]
    if state is MessageState.PLANNED:
        sources.remove(MessageState.IN_DOUBT)  # only a person releases it
    elif state is MessageState.REJECTED and not of_batch:
        sources.remove(MessageState.SUBMITTING)  # a look-up was about an earlier batch
    # not as a list, which cannot be bound many times over
    moves = or_(*(message.c.state == source for source in sources))
    if state in _TAKEN:
        again = or_(
            message.c.state == MessageState.PLANNED, message.c.state == MessageState.CLAIMED
        )
        moves = or_(moves, and_(again, message.c.attempts > 0))
    elif of_batch:
        moves = and_(moves, message.c.batch_id == bindparam("batch"))
    rows = among(message.c.id, "rows") if together else message.c.id == bindparam("row")
    unsent = {"sent_time": None} if state is MessageState.PLANNED else {}
    return (
        message.update()
        .where(rows, moves)
        .values(
            state=state,
            reason=bindparam("why"),
            error_code=bindparam("code"),
            request_id=func.coalesce(bindparam("number"), message.c.request_id),
            retry_at=bindparam("again"),
            claimed_by=None,
            lease_until=None,
            updated_time=bindparam("clock"),
            **unsent,
        )
    )


_HELD = (
    select(message.c.id).where(among(message.c.id, "rows")).order_by(message.c.id).with_for_update()
)
_ANSWERED = (
    schema.batch.update()
    .where(schema.batch.c.id == bindparam("batch"))
    .values(answered_time=bindparam("clock"))
)
