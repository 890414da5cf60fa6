"""The last step of a plan: who is left out, what is paid for, and when each row may go at first.

Rows are screened by the contact policy as of the time at which the occurrence may first go out, in
chunks of short transactions, so that dispatchers of other campaigns go on. What can be sent later
inside the occurrence's window stays planned; the policy is asked again when it is sent.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, func, or_, select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState, OccurrenceState
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.messaging.policy.contact import ContactRules
from usergrowth_dagster.messaging.policy.contact_sql import Policy
from usergrowth_dagster.messaging.schedules.occurrences import Occurrence

_CHUNK = 20_000
message = schema.message
occurrence = schema.occurrence
_SHARED = {"sms": "shared_phone", "email": "shared_email"}
_UNPAID = (MessageState.SKIPPED, MessageState.REJECTED, MessageState.EXPIRED)


def segments_for(money: float | Decimal, price: float) -> int | None:
    """How many messages a sum pays for, in exact decimals: 0.3 / 0.1 is 3; None: they are free."""
    if not price:
        return None
    return max(0, int(Decimal(str(money)) / Decimal(repr(price))))


def finish_planning(
    store: ControlStore,
    opened: Occurrence,
    rules: ContactRules,
    *,
    max_segments: int | None,
    now: datetime,
) -> bool:
    """Skip who may not be contacted, shared addresses and what is over budget; then open it.

    Of several users with one address, and for the budgets, those that were inserted first win:
    insert the best first. The schedule's budget counts what its other occurrences have planned or
    sent, under a lock, so that two plans at once cannot pass it together.

    Args:
        store: the control store.
        opened: an occurrence in planning, with all its rows.
        rules: its contact rules.
        max_segments: what the campaign's own budget pays for; None: no limit.
        now: business clock.

    Returns:
        False when another process had finished it before; then nothing changes.
    """
    # a plan of the past is made as of its own time: its rows expire
    first = opened.due if now >= opened.send_by else max(now, opened.due)
    policy = Policy.of(rules, opened.channel, opened.signature, opened.template_type)
    last = 0
    while True:
        with store.write() as connection:
            if not _is_planning(connection, opened.id):
                return False
            upper = _upper(connection, opened.id, last)
            if upper is None:
                break
            rows = (
                message.c.occurrence_id == opened.id,
                message.c.state == MessageState.PLANNED,
                message.c.id > last,
                message.c.id <= upper,
            )
            for reason, condition in policy.hopeless(connection, first, opened.send_by):
                _skip(connection, reason, *rows, condition)
            _open_hours(connection, rules, opened, first, rows)
        last = upper
    with store.write() as connection:
        if not _is_planning(connection, opened.id):
            return False
        _skip_shared(connection, opened)
        _keep_budget(connection, opened, max_segments)
        connection.execute(
            occurrence.update()
            .where(occurrence.c.id == opened.id)
            .values(state=OccurrenceState.READY, updated_time=utc_now())
        )
    return True


def _is_planning(connection: Connection, occurrence_id: int) -> bool:
    state = connection.scalar(
        select(occurrence.c.state).where(occurrence.c.id == occurrence_id).with_for_update()
    )
    return state is OccurrenceState.PLANNING


def _upper(connection: Connection, occurrence_id: int, last: int) -> int | None:
    """Id of the last row of the next chunk."""
    ids = (
        select(message.c.id)
        .where(
            message.c.occurrence_id == occurrence_id,
            message.c.state == MessageState.PLANNED,
            message.c.id > last,
        )
        .order_by(message.c.id)
        .limit(_CHUNK)
        .subquery()
    )
    newest: int | None = connection.scalar(select(func.max(ids.c.id)))
    return newest


def _skip(connection: Connection, reason: str, *conditions: Any) -> None:
    connection.execute(
        message.update()
        .where(*conditions)
        .values(state=MessageState.SKIPPED, reason=reason, updated_time=utc_now())
    )


def _open_hours(
    connection: Connection, rules: ContactRules, opened: Occurrence, first: datetime, rows: Any
) -> None:
    """Put rows off to where it is day; skip those where it is not before the end."""
    for zone in connection.scalars(select(message.c.zone).where(*rows).distinct()).all():
        there = (*rows, message.c.zone.is_(None) if zone is None else message.c.zone == zone)
        opening = rules.next_open(first, zone)
        if opening is None or opening >= opened.send_by:
            _skip(connection, "quiet_hours", *there)
        elif opening > first:
            earlier = or_(message.c.not_before.is_(None), message.c.not_before < opening)
            connection.execute(message.update().where(*there, earlier).values(not_before=opening))


def _skip_shared(connection: Connection, opened: Occurrence) -> None:
    mine = (message.c.occurrence_id == opened.id, message.c.state == MessageState.PLANNED)
    place = func.row_number().over(partition_by=message.c.phone_hash, order_by=message.c.id)
    ranked = select(message.c.id, place.label("place")).where(*mine).subquery()
    shared = select(ranked.c.id).where(ranked.c.place > 1)
    _skip(connection, _SHARED[opened.channel], message.c.id.in_(shared))


def _keep_budget(connection: Connection, opened: Occurrence, max_segments: int | None) -> None:
    """Skip what neither the campaign's nor the schedule's budget pays for."""
    table = schema.schedule
    of_schedule = table.c.id == opened.schedule_id
    max_cost = connection.scalar(select(table.c.max_cost).where(of_schedule).with_for_update())
    if max_cost is not None:
        left = Decimal(repr(max_cost)) - committed(connection, opened)
        limits = (max_segments, segments_for(left, opened.price))
        max_segments = min((limit for limit in limits if limit is not None), default=None)
    if max_segments is None:
        return
    mine = (message.c.occurrence_id == opened.id, message.c.state == MessageState.PLANNED)
    running = func.sum(message.c.segments).over(order_by=message.c.id)
    summed = select(message.c.id, running.label("running")).where(*mine).subquery()
    over = select(summed.c.id).where(summed.c.running > max_segments)
    _skip(connection, "over_budget", message.c.id.in_(over))


def committed(connection: Connection, opened: Occurrence) -> Decimal:
    """Money that an occurrence's schedule has spent, or may still spend, on its other ones."""
    paid = or_(
        message.c.state.not_in(_UNPAID),
        (message.c.state == MessageState.EXPIRED)
        & message.c.sent_time.is_not(None),  # went out, unconfirmed
    )
    query = (
        select(occurrence.c.price, func.sum(message.c.segments))
        .join(message, message.c.occurrence_id == occurrence.c.id)
        .where(
            occurrence.c.schedule_id == opened.schedule_id,
            occurrence.c.id != opened.id,
            occurrence.c.state
            != OccurrenceState.PLANNING,  # cut to what is left when it is finished
            paid,
        )
        .group_by(occurrence.c.price)
    )
    sums = connection.execute(query).tuples().all()
    return sum((Decimal(repr(price)) * int(number) for price, number in sums), Decimal(0))
