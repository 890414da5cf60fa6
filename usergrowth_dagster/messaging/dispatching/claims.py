"""How one worker takes rows of the ledger and writes down that it submits them.

Statements of the hot path are made once: making them takes longer than running them.
"""

import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, Protocol

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Select,
    bindparam,
    exists,
    func,
    or_,
    select,
    text,
)
from sqlalchemy.sql.dml import ReturningUpdate

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState, OccurrenceState
from usergrowth_dagster.control.columns import UtcTime, among
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.messaging.dispatching import failpoints
from usergrowth_dagster.messaging.dispatching.throttle import Bucket

message = schema.message
occurrence = schema.occurrence
schedule = schema.schedule

LEASE = timedelta(minutes=2)


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


_BATCH = schema.batch.insert()


NOT_REPORTED = or_(
    message.c.attempts == 0,
    ~exists(
        select(schema.receipt.c.id).where(
            schema.receipt.c.message_id == message.c.id, schema.receipt.c.pending
        )
    ),
)
"""A report that waits for a row says that the provider has it, whatever its answer was."""


_MOVE = (
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


_MOVED = select(message.c.id).where(
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


def _how_many(*ready: ColumnElement[bool]) -> Select[int]:
    """How many rows are ready, at most ``:most``."""
    rows = select(message.c.id).where(*ready).limit(bindparam("most", type_=Integer))
    return select(func.count()).select_from(rows.subquery())


def _take(*ready: ColumnElement[bool]) -> ReturningUpdate[Any]:
    """Claims at most ``:most`` of the ready rows until a time and returns them."""
    pick = (
        select(message.c.id)
        .where(*ready)
        .order_by(message.c.id)
        .limit(bindparam("most", type_=Integer))
        .with_for_update(skip_locked=True)  # SQLite has one writer, and ignores it
        .cte("pick")
        .prefix_with("materialized", dialect="postgresql")  # never run, and locked, twice
    )
    return (
        message.update()
        .where(message.c.id.in_(select(pick.c.id)))
        .values(
            state=MessageState.CLAIMED,
            claimed_by=bindparam("worker"),
            lease_until=bindparam("until", type_=UtcTime),
        )
        .returning(*_HANDED)
    )


_OF_CHANNEL = message.c.channel == bindparam("of_channel")
_HOW_MANY, _TAKE = _how_many(*READY), _take(*READY)
_HOW_MANY_OF_CHANNEL, _TAKE_OF_CHANNEL = _how_many(*READY, _OF_CHANNEL), _take(*READY, _OF_CHANNEL)


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


def _hold_back(
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


Screen = Callable[[Connection, Sequence[int]], Sequence[Objection]]
"""Asked in the transaction that lets messages out, with their ids."""


@dataclass(frozen=True)
class Claimed:
    """Rows that are this worker's now; without any, ``wait`` seconds until tokens are there."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    wait: float = 0.0


@dataclass(frozen=True)
class Cleared:
    """The rows of a batch that may be submitted, and how many were skipped or must wait.

    ``situation`` is what that depends on; not open, the occurrence was paused, stopped or ended
    meanwhile. ``since`` is when the lease began, in seconds of ``time.monotonic``.
    """

    situation: Situation
    batch_id: int = 0
    mine: frozenset[int] = frozenset()
    skipped: int = 0
    waiting: int = 0
    since: float = 0.0


class Claims:
    """The claims of one worker.

    Args:
        store: an opened, migrated control store.
        lease: how long (on the real clock) a claim or a submission is this worker's alone; longer
            than a provider's call can take.
    """

    def __init__(self, store: ControlStore, lease: timedelta = LEASE) -> None:
        self.store = store
        self.lease = lease
        self.worker = f"{socket.gethostname()[:40]}:{os.getpid()}:{secrets.token_hex(4)}"

    def claim(
        self,
        occurrence_id: int,
        limit: int,
        now: datetime,
        *,
        after: int = 0,
        bucket: Bucket | None = None,
        full: int = 1,
        channel: str | None = None,
    ) -> Claimed:
        """Take at most ``limit`` planned rows that are due; no other worker gets them.

        Nothing is claimed when the occurrence is paused, stopped, done or past its send-by.

        Args:
            occurrence_id: whose rows.
            limit: most rows.
            now: the business clock.
            after: only rows with larger ids: what a worker has passed already need not be read
                again each time.
            bucket: the tokens that rows take.
            full: how many rows a call of the provider takes.
            channel: only rows that go by it; None: all.
        """
        clock = utc_now()
        how_many, take = _HOW_MANY, _TAKE
        if channel is not None:
            how_many, take = _HOW_MANY_OF_CHANNEL, _TAKE_OF_CHANNEL
        with self.store.write() as connection:
            if not situation(connection, occurrence_id, now).open:
                return Claimed()
            rows = {"occurrence": occurrence_id, "after": after, "now": now, "clock": clock}
            rows |= {} if channel is None else {"of_channel": channel}
            if bucket is not None and bucket.rate is not None:
                number = connection.scalar(how_many, {**rows, "most": limit}) or 0
                limit, wait = bucket.grant(connection, number, full)
                if not limit:
                    return Claimed(wait=wait)
            taken = connection.execute(
                take,
                {**rows, "most": limit, "worker": self.worker, "until": clock + self.lease},
            )
            names = tuple(taken.keys())
            claimed = [dict(zip(names, row, strict=True)) for row in taken.all()]
            if bucket is not None:
                bucket.spend(connection, len(claimed))
            failpoints.reach(failpoints.CLAIMING)
        return Claimed(sorted(claimed, key=itemgetter("id")))

    def submitting(
        self,
        occurrence_id: int,
        message_ids: Sequence[int],
        gateway: str,
        now: datetime,
        *,
        screen: Screen | None = None,
        bucket: Bucket | None = None,
        first: Callable[[Connection], object] | None = None,
    ) -> Cleared:
        """Write down that a batch is about to be submitted; commit before calling the provider.

        Whether each person may be contacted is asked in the same transaction, which holds off
        changes of the suppression list: a refusal that was committed before it is obeyed.

        Args:
            occurrence_id: the rows' occurrence.
            message_ids: rows that this worker has claimed.
            gateway: who is going to be called.
            now: the business clock, kept as the rows' ``sent_time``.
            screen: names the rows that must not go out now.
            bucket: gets back the tokens of rows that do not go out.
            first: done in the same transaction before all else, and committed whatever comes:
                how the last batch ended.

        Returns:
            The rows that may be submitted: those that the screen lets pass and whose lease had not
            run out, and none when the occurrence was paused or stopped meanwhile.
        """
        with self.store.write() as connection:
            if not self.store.is_sqlite:  # which has one writer
                connection.execute(text("lock table suppression in share mode"))
            if first is not None:
                first(connection)
            present = situation(connection, occurrence_id, now, lock=True)
            if not present.open:
                return Cleared(present)
            objections = screen(connection, message_ids) if screen else ()
            clock, since = utc_now(), time.monotonic()  # after any wait for rivals
            mine = (
                message.c.state == MessageState.CLAIMED,
                message.c.claimed_by == self.worker,
                message.c.lease_until > clock,
            )
            skipped, waiting = _hold_back(connection, objections, mine, clock)
            barred = {one.message_id for one in objections}
            rest = [one for one in message_ids if one not in barred]
            batch_id, moved = 0, frozenset[int]()
            if rest:
                batch_id, moved = self._move(connection, occurrence_id, rest, gateway, now, clock)
            if bucket is not None:
                bucket.spend(connection, len(moved) - len(message_ids))
            failpoints.reach(failpoints.WRITING)
        return Cleared(present, batch_id, moved, skipped, waiting, since)

    def _move(
        self,
        connection: Connection,
        occurrence_id: int,
        message_ids: Sequence[int],
        gateway: str,
        now: datetime,
        clock: datetime,
    ) -> tuple[int, frozenset[int]]:
        made = connection.execute(
            _BATCH,
            {
                "occurrence_id": occurrence_id,
                "gateway": gateway,
                "worker": self.worker,
                "size": len(message_ids),
                "submitted_time": clock,
            },
        )
        batch_id = int(made.inserted_primary_key[0])  # type: ignore[index]
        values = {"batch": batch_id, "now": now, "until": clock + self.lease, "clock": clock}
        done = connection.execute(_MOVE, {"rows": message_ids, "worker": self.worker, **values})
        if done.rowcount == len(message_ids):  # nearly always; then nobody has to read them
            return batch_id, frozenset(message_ids)
        moved = connection.scalars(_MOVED, {"rows": message_ids, "batch": batch_id}).all()
        table = schema.batch
        this = table.c.id == batch_id
        if moved:
            connection.execute(table.update().where(this).values(size=len(moved)))
        else:
            connection.execute(table.delete().where(this))
        return batch_id, frozenset(moved)

    def situation(self, occurrence_id: int) -> Situation:
        """What a batch that is written ahead depends on; it is taken back when that changes."""
        with self.store.read() as connection:
            return situation(connection, occurrence_id)

    def take_back(
        self, ahead: Cleared, bucket: Bucket | None = None, *, keep: bool = False
    ) -> None:
        """Undo the write-ahead of a batch that was certainly not handed over.

        Args:
            ahead: what :meth:`submitting` returned to this worker.
            bucket: gets the tokens back.
            keep: the rows stay claimed by this worker, to be written ahead anew; otherwise they
                are planned again.
        """
        clock = utc_now()
        state = MessageState.CLAIMED if keep else MessageState.PLANNED
        with self.store.write() as connection:
            done = connection.execute(
                message.update()
                .where(
                    message.c.id.in_(ahead.mine),
                    message.c.batch_id == ahead.batch_id,
                    message.c.state == MessageState.SUBMITTING,
                    message.c.claimed_by == self.worker,
                )
                .values(
                    state=state,
                    batch_id=None,
                    attempts=message.c.attempts - 1,
                    sent_time=None,
                    claimed_by=self.worker if keep else None,
                    lease_until=clock + self.lease if keep else None,
                )
            ).rowcount
            if done == len(ahead.mine):
                connection.execute(schema.batch.delete().where(schema.batch.c.id == ahead.batch_id))
            if bucket is not None:
                bucket.spend(connection, -done)

    def give_back(self) -> None:
        """Return rows that this worker has claimed but not begun to submit."""
        with self.store.write() as connection:
            connection.execute(
                message.update()
                .where(
                    message.c.lease_until.is_not(None),  # has an index, unlike the worker
                    message.c.claimed_by == self.worker,
                    message.c.state == MessageState.CLAIMED,
                )
                .values(state=MessageState.PLANNED, claimed_by=None, lease_until=None)
            )

    def recover(self) -> int:
        """Take rows from workers whose lease has run out; returns how many are in doubt now."""
        clock = utc_now()

        def lapsed(state: MessageState) -> Any:
            lapsed_rows = select(message.c.id).where(
                message.c.state == state, message.c.lease_until <= clock
            )
            return lapsed_rows.with_for_update(skip_locked=True)  # else somebody is at work on it

        free = {"claimed_by": None, "lease_until": None}
        with self.store.write() as connection:
            connection.execute(
                message.update()
                .where(message.c.id.in_(lapsed(MessageState.CLAIMED)))
                .values(state=MessageState.PLANNED, **free)
            )
            done = connection.execute(
                message.update()
                .where(message.c.id.in_(lapsed(MessageState.SUBMITTING)))
                .values(
                    state=MessageState.IN_DOUBT, reason="worker_lost", updated_time=clock, **free
                )
            )
        return int(done.rowcount)
