"""Delivery reports: stored first, then applied to the ledger; both are safe to repeat.

A report is about the message whose row id it carries (``out_id``), else about the one with its
batch and address, else about the one with its request id and address, of the same gateway. An
``out_id`` that another installation on the same provider account gave out is known by its address
or request id, which must not contradict.

State only moves forward, whatever comes twice, late or in the wrong order:

* accepted and in_doubt become delivered or undelivered; in_doubt becomes accepted;
* planned and claimed do so as well when the row has been submitted before: the provider has it
  after all, so it must not go out again;
* a final state stays; of two contrary reports the one that came first counts, and both are kept;
* a report of a row that is still ``submitting``, or of none that is known, stays pending. It is
  applied by :func:`match_receipts`, or given up after :data:`KEEP` and kept as it is.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    case,
    exists,
    func,
    literal,
    null,
    or_,
    select,
    text,
    true,
)
from sqlalchemy.dialects import postgresql, sqlite

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MESSAGE_TRANSITIONS, MessageState
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.messaging.failures import Outcomes, Stage
from usergrowth_dagster.messaging.gateways.cleaning import clean_receipt
from usergrowth_dagster.messaging.gateways.protocol import Found, Receipt
from usergrowth_dagster.messaging.people.phones import PhoneVault
from usergrowth_dagster.messaging.policy.suppression import suppress_refused
from usergrowth_dagster.messaging.receiving.senders import given_number

KEEP = timedelta(days=7)
"""How long a report waits for its message."""

_CHUNK = 2_000
_ROUNDS = 5
_PAUSE = 0.05
_LOCK_KEY = 0x75677263  # advisory lock of matching: "ugrc"
receipt = schema.receipt
message = schema.message
batch = schema.batch
PENDING = text("receipt.pending")
"""Reports that wait. In these words SQLite finds them by their index; the column as a condition
becomes a comparison with 1, for which it reads every report that ever came."""
_FINAL_STATUS = (Found.DELIVERED, Found.UNDELIVERED, Found.REJECTED)
_FINAL_STATES = [state for state in MessageState if state not in MESSAGE_TRANSITIONS]


@dataclass(frozen=True)
class Taken:
    """What became of reports: those that came, those not seen before, messages that changed by
    them, and new ones that are pending."""

    received: int = 0
    new: int = 0
    changed: int = 0
    pending: int = 0


def take_receipts(
    store: ControlStore,
    vault: PhoneVault,
    gateway: str,
    receipts: Sequence[Receipt],
    received: datetime,
) -> Taken:
    """Store reports and apply them; what is returned for is on disk.

    Args:
        store: the control store.
        vault: makes the hashes of addresses.
        gateway: who reports.
        receipts: the reports, oldest first.
        received: the real clock.

    Returns:
        Counts of this call.
    """
    new = changed = waiting = 0
    outcomes = Outcomes()
    for start in range(0, len(receipts), _CHUNK):
        some = [clean_receipt(one) for one in receipts[start : start + _CHUNK]]
        pairs = [(_row(vault, gateway, receipt, received), receipt) for receipt in some]
        rows = {row["digest"]: row for row, _ in pairs}
        refused = {row["digest"]: r.phone for row, r in pairs if r.opted_out and r.phone}
        with store.write() as connection:
            ids = _insert(connection, list(rows.values()))
            mine = schema.receipt.c.id.in_(ids)
            if refused:  # an old report that comes again must not undo a later START
                fresh = connection.scalars(select(schema.receipt.c.digest).where(mine))
                addresses = [refused[digest] for digest in fresh if digest in refused]
                suppress_refused(connection, vault, gateway, addresses, received)
            _find(connection, mine)
            changed += _apply(connection, _same_messages(ids), outcomes)
            _finish(connection, mine)
        new += len(ids)
        for _ in range(_ROUNDS):  # rows that another transaction held for a moment
            with store.read() as connection:
                if not connection.scalar(_applicable(mine)):
                    break
            time.sleep(_PAUSE)
            with store.write() as connection:
                if not _alone(connection):
                    continue
                changed += _apply(connection, _same_messages(ids), outcomes)
                _finish(connection, mine)
        with store.read() as connection:
            count = (
                select(func.count())
                .select_from(schema.receipt)
                .where(mine, schema.receipt.c.pending)
            )
            waiting += connection.scalar(count) or 0
    outcomes.count(store)
    return Taken(len(receipts), new, changed, waiting)


def match_receipts(store: ControlStore, now: datetime | None = None) -> int:
    """Apply pending reports whose message can take them now, and give up those past KEEP.

    One process does this at a time; to another it seems that there is nothing to do.

    Returns:
        How many messages changed.
    """
    clock, outcomes = now or utc_now(), Outcomes()
    with store.read() as connection:
        if connection.scalar(select(receipt.c.id).where(PENDING).limit(1)) is None:
            return 0
    with store.write() as connection:
        if not _alone(connection):
            return 0
        _find(connection, true())
        about = and_(receipt.c.pending, receipt.c.message_id.is_not(None))
        changed = _apply(connection, about, outcomes)
        _finish(connection, true())
        connection.execute(
            receipt.update()
            .where(receipt.c.pending, receipt.c.received_time < clock - KEEP)
            .values(pending=False)
        )
    outcomes.count(store)
    return changed


def _alone(connection: Connection) -> bool:
    """Whether nobody else applies stored reports; two at once could wait for each other."""
    if connection.dialect.name == "sqlite":  # which has one writer
        return True
    got = text("select pg_try_advisory_xact_lock(:key)")
    return bool(connection.scalar(got, {"key": _LOCK_KEY}))


def _row(vault: PhoneVault, gateway: str, receipt: Receipt, received: datetime) -> dict[str, Any]:
    """A cleaned report for the table; the same one again, at whatever time, has the same digest."""
    row = {
        "gateway": gateway,
        "out_id": receipt.out_id,
        "batch_id": _own_id(receipt.batch_id),
        "request_id": receipt.request_id,
        "phone_hash": vault.digest(given_number(vault, receipt.phone)) if receipt.phone else None,
        "status": str(receipt.status),
        "code": receipt.code,
    }
    about: list[Any] = list(row.values())
    if not (receipt.out_id or row["batch_id"] or row["request_id"]):
        about.append(receipt.time)  # nothing else distinguishes two of them
    digest = hashlib.sha256(repr(about).encode()).digest()[:16]
    return {
        **row,
        "digest": digest,
        "report_time": receipt.time,
        "received_time": received,
        "row_id": _own_id(receipt.out_id),
        "message_id": None,
        "pending": True,
    }


def _own_id(given: str | None) -> int | None:
    """The id of a message or batch that a provider gives back, if it can be one of ours."""
    if given is None or len(given) > 18 or not (given.isascii() and given.isdigit()):
        return None
    return int(given) if str(int(given)) == given else None


def _insert(connection: Connection, rows: list[dict[str, Any]]) -> list[int]:
    """Store rows that are not there yet; returns their ids.

    In the order of their digests, so that two transactions with the same reports wait for each
    other and do not lock each other up.
    """
    if not rows:
        return []
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = insert(receipt).on_conflict_do_nothing().returning(receipt.c.id)
    rows.sort(key=lambda row: bytes(row["digest"]))
    return list(connection.scalars(statement, rows))


def _find(connection: Connection, which: ColumnElement[bool]) -> None:
    """Note the messages that pending reports are about."""
    sent_by = and_(batch.c.id == message.c.batch_id, batch.c.gateway == receipt.c.gateway)
    same_request = message.c.request_id == receipt.c.request_id
    same_address = message.c.phone_hash == receipt.c.phone_hash
    by_row = select(message.c.id).where(
        message.c.id == receipt.c.row_id,
        or_(receipt.c.phone_hash.is_(None), same_address, same_request),
    )
    by_batch = select(func.max(message.c.id)).where(
        message.c.batch_id == receipt.c.batch_id, same_address
    )
    # without an address only a request of one message will do
    only = case((func.count() == 1, func.max(message.c.id)))
    by_request = select(only).where(same_request, or_(receipt.c.phone_hash.is_(None), same_address))
    message_id = func.coalesce(
        *(
            query.join_from(message, batch, sent_by).correlate(receipt).scalar_subquery()
            for query in (by_row, by_batch, by_request)
        )
    )
    connection.execute(
        receipt.update()
        .where(receipt.c.pending, receipt.c.message_id.is_(None), which)
        .values(message_id=message_id)
    )


def _same_messages(ids: Sequence[int]) -> ColumnElement[bool]:
    """Pending reports about the messages that these reports are about."""
    mine = receipt.alias("mine")
    return and_(
        receipt.c.pending,
        receipt.c.message_id.in_(select(mine.c.message_id).where(mine.c.id.in_(ids))),
    )


def _can_take(final: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether a message's state moves by a report, final or not."""
    held_back = message.c.state.in_((MessageState.PLANNED, MessageState.CLAIMED))
    return or_(
        message.c.state == MessageState.IN_DOUBT,
        and_(held_back, message.c.attempts > 0),
        and_(final, message.c.state == MessageState.ACCEPTED),
    )


def _counting(which: ColumnElement[bool]) -> Select[Any]:
    """The report that counts for each message: the first final one, else the first."""
    moment = func.coalesce(receipt.c.report_time, receipt.c.received_time)
    final = receipt.c.status.in_(_FINAL_STATUS)
    order = (case((final, 0), else_=1), receipt.c.received_time, moment, receipt.c.id)
    return select(
        receipt.c.message_id,
        receipt.c.status,
        receipt.c.code,
        receipt.c.request_id,
        moment.label("moment"),
        func.row_number().over(partition_by=receipt.c.message_id, order_by=order).label("place"),
    ).where(which, receipt.c.status != Found.NOT_FOUND)


def _apply(connection: Connection, which: ColumnElement[bool], outcomes: Outcomes) -> int:
    """Move the messages of reports on, and note how they ended; returns how many moved.

    Rows that another transaction holds are passed over, so that nobody can be waited for in a
    circle; their reports stay pending.
    """
    report = _counting(which).subquery("report")
    final = report.c.status.in_(_FINAL_STATUS)
    failed = report.c.status.in_((Found.UNDELIVERED, Found.REJECTED))
    word = message.c.state.type
    states = [
        (report.c.status == Found.DELIVERED, literal(MessageState.DELIVERED, word)),
        (failed, literal(MessageState.UNDELIVERED, word)),
    ]
    moves = and_(message.c.id == report.c.message_id, report.c.place == 1, _can_take(final))
    update = message.update().where(moves)
    if connection.dialect.name != "sqlite":
        free = (
            select(message.c.id)
            .where(message.c.id.in_(select(report.c.message_id)))
            .with_for_update(skip_locked=True)
            .cte("free")
            .prefix_with("materialized", dialect="postgresql")
        )
        update = update.where(message.c.id.in_(select(free.c.id)))
    accepted_before = message.c.state == MessageState.ACCEPTED
    done = connection.execute(
        update.values(
            state=case(*states, else_=literal(MessageState.ACCEPTED, word)),
            reason=case(
                (failed, "provider_undelivered"),
                (accepted_before, null()),
                else_="settled_by_receipt",
            ),
            error_code=case((failed, func.nullif(report.c.code, ""))),
            request_id=func.coalesce(message.c.request_id, report.c.request_id),
            sent_time=func.coalesce(message.c.sent_time, report.c.moment),
            final_time=case((final, report.c.moment)),
            retry_at=None,
            claimed_by=None,
            lease_until=None,
            updated_time=utc_now(),
        ).returning(message.c.occurrence_id, message.c.state, message.c.error_code)
    )
    ended = Counter(tuple(row) for row in done)
    for (occurrence_id, state, cause), number in ended.items():
        outcomes.add(occurrence_id, Stage.REPORT, state, cause, number)
    return ended.total()


def _finish(connection: Connection, which: ColumnElement[bool]) -> None:
    """Reports that have nothing more to say are not pending any longer."""
    final = receipt.c.status.in_(_FINAL_STATUS)
    said = exists(
        select(message.c.id).where(
            message.c.id == receipt.c.message_id,
            or_(
                message.c.state.in_(_FINAL_STATES),
                and_(~final, message.c.state == MessageState.ACCEPTED),
                receipt.c.status == Found.NOT_FOUND,
            ),
        )
    )
    connection.execute(receipt.update().where(receipt.c.pending, which, said).values(pending=False))


def _applicable(which: ColumnElement[bool]) -> Select[Any]:
    """A pending report whose message could take it now, if there is one."""
    final = receipt.c.status.in_(_FINAL_STATUS)
    return (
        select(receipt.c.id)
        .join(message, message.c.id == receipt.c.message_id)
        .where(which, receipt.c.pending, _can_take(final))
        .limit(1)
    )
