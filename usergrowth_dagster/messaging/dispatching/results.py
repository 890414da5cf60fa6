"""What a provider said of messages: what it means for each row of the ledger, and writing it down.

It is the answers of a call, a look-up or a poison row; :class:`DispatchCounts` sums up a round.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Update, and_, bindparam, func, or_, select
from sqlalchemy.exc import DataError, DBAPIError, ProgrammingError

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MESSAGE_TRANSITIONS, MessageState
from usergrowth_dagster.control.columns import among
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.messaging.dispatching import failpoints
from usergrowth_dagster.messaging.gateways.protocol import Answer, OutMessage, Result

message = schema.message
_TAKEN = (MessageState.ACCEPTED, MessageState.DELIVERED, MessageState.UNDELIVERED)

RETRY_AFTER = 60.0
"""Seconds until a deferred message is tried again, where the provider does not say."""


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
        connection.execute(_LOCKED_ROWS, {"rows": sorted(one.message_id for one in results)}).all()
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


_LOCKED_ROWS = (
    select(message.c.id).where(among(message.c.id, "rows")).order_by(message.c.id).with_for_update()
)


_ANSWERED = (
    schema.batch.update()
    .where(schema.batch.c.id == bindparam("batch"))
    .values(answered_time=bindparam("clock"))
)


@dataclass
class DispatchCounts:
    """What one call of ``dispatch`` did, in recipients; ``batches`` in provider calls.

    ``lost`` rows were found submitting with nobody at work on them and are in doubt now;
    ``settled`` doubtful rows got their answer by look-up, ``matched`` rows by a receipt that had
    come before; ``waiting`` rows may not go out yet by the contact rules. ``stopped`` has a
    sentence for each campaign that was stopped, ``held`` one for each occurrence that was not begun
    and may be later, ``failed`` one for each gateway that did not work.
    """

    accepted: int = 0
    rejected: int = 0
    deferred: int = 0
    in_doubt: int = 0
    skipped: int = 0
    waiting: int = 0
    expired: int = 0
    lost: int = 0
    settled: int = 0
    matched: int = 0
    batches: int = 0
    stopped: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def add(self, answer: Answer, number: int) -> None:
        """Count the answer of so many messages."""
        if answer is Answer.ACCEPTED:
            self.accepted += number
        elif answer is Answer.REJECTED:
            self.rejected += number
        elif answer is Answer.IN_DOUBT:
            self.in_doubt += number
        else:
            self.deferred += number

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def sort_answers(
    messages: Sequence[OutMessage], answers: Mapping[str, Result], counts: DispatchCounts
) -> tuple[list[Settled], str]:
    """How each message of a batch ended, and the code of a stop, if any.

    Messages with equal answers are counted together. All that are deferred alike are due again at
    one time, so that one statement records them.

    Args:
        messages: those of the batch.
        answers: what :func:`one_answer_each` made of the provider's answers.
        counts: added to.
    """
    alike: dict[tuple[Any, ...], list[Result]] = {}
    for message in messages:
        one = answers[message.out_id]
        alike.setdefault((one.answer, one.code, one.request_id, one.retry_after), []).append(one)
    settled: list[Settled] = []
    stop = ""
    for group in alike.values():
        first = group[0]
        end = _settled(first)
        settled += (Settled(int(one.out_id), *end[1:]) for one in group)
        counts.add(first.answer, len(group))
        if first.answer is Answer.STOP:
            stop = stop or first.code or "unknown"
    return settled, stop


def _settled(result: Result) -> Settled:
    """The ledger's form of an answer."""
    row, code = int(result.out_id), result.code or None
    if result.answer in (Answer.DEFERRED, Answer.STOP):
        wait = timedelta(seconds=result.retry_after or RETRY_AFTER)
        retry_at = utc_now() + wait if result.answer is Answer.DEFERRED else None
        return Settled(row, MessageState.PLANNED, result.answer.value, code, None, retry_at)
    if result.answer is Answer.ACCEPTED:
        return Settled(row, MessageState.ACCEPTED, None, code, result.request_id)
    reason = f"provider_{result.answer.value}"
    return Settled(row, MessageState(result.answer.value), reason, code, result.request_id)
