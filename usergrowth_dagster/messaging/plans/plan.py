"""From decided people to ledger rows: the send plan.

A row has the address of its channel: the phone number of a text, or the e-mail address.

The last step says who is left out, what is paid for, and when each row may go at first. Rows are
screened by the contact policy as of the time at which the occurrence may first go out, in chunks of
short transactions, so that dispatchers of other campaigns go on. What can be sent later inside the
occurrence's window stays planned; the policy is asked again when it is sent.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Connection, case, cast, func, or_, select

from usergrowth_dagster.addresses.emails import BAD_EMAIL, BLANKS, read_email
from usergrowth_dagster.addresses.numbers import Problem, parse
from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState, OccurrenceState
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.control.values import NOW
from usergrowth_dagster.control.wall_clock import moment_of
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.ledger import PRICE, Count, Ledger
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.policy.contact import ContactRules, Policy, contact_rules
from usergrowth_dagster.messaging.policy.zones import UNKNOWN_ZONE, is_unknown, recipient_zone
from usergrowth_dagster.messaging.restored import hold_planned
from usergrowth_dagster.messaging.schedules.occurrences import (
    Occurrence,
    business_now,
    occurrence,
    open_occurrence,
)
from usergrowth_dagster.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

_CHUNK = 20_000
_DECIMALS = 9
message = schema.message
_SHARED = {"sms": "shared_phone", "email": "shared_email"}
_UNPAID = (MessageState.SKIPPED, MessageState.REJECTED, MessageState.EXPIRED)

COLUMNS = ("user_id", "item_id", "phone", "params", "segments", "reason")
"""Columns of the rows that a plan reads; the last three by ``content.message_columns_sql``.

``email`` is read too when a text is one, ``variant`` (the name of the row's text) when the
campaign has several, and if they are there ``zone`` (the time zone attribute, as it was given) and
``not_before`` (a row's own time, UTC).
"""


@dataclass(frozen=True)
class SendPlan:
    """What a task's occurrence holds.

    ``states`` counts people by ledger state, ``reasons`` the people who get nothing by reason;
    ``messages`` are billed segments of those who are not skipped, ``cost`` their price.
    ``standing`` counts people by how they stand now, in words: waiting, sent, expired unsent …
    """

    occurrence: Occurrence
    states: dict[str, int]
    reasons: dict[str, int]
    messages: int
    cost: float
    currency: str
    created: bool = field(compare=False, default=False)
    standing: dict[str, int] = field(compare=False, default_factory=dict)

    @property
    def people(self) -> int:
        """Recipients who are not skipped."""
        return sum(self.states.values()) - self.states.get(MessageState.SKIPPED, 0)


def plan_send(
    store: ControlStore,
    settings: Settings,
    task: Task,
    rows: "Iterable[pa.RecordBatch | pa.Table]",
    *,
    progress: Callable[[int], None] | None = None,
    now: datetime | None = None,
) -> SendPlan:
    """Write a task's recipients into the ledger, once, and open them for dispatch.

    A plan that is made is read, not remade, so a second call adds nothing; one that was
    interrupted goes on where it stopped. A plan for a past date is made too, but its send-by has
    passed, so its rows expire and are never sent.

    Args:
        store: the control store.
        settings: prices, contact rules, time zone and home folder.
        task: a decided task.
        rows: batches with the columns :data:`COLUMNS`, the best people first (they win a shared
            address and the budgets): the users of the treatment arm.
        progress: called with the rows read so far.
        now: business clock; default :func:`business_now`.

    Raises:
        UserError: audience not decided or too old, signature or template not approved, a promotion
            that does not say how to refuse, column missing.
    """
    now = now or business_now(settings)
    opened = open_occurrence(store, settings, task, now)
    ledger = Ledger(store, open_vault(settings.home, settings.default_country))
    created = opened.state is OccurrenceState.PLANNING
    if created and ledger.insert(opened.id, _recipients(settings, opened, rows, progress)):
        finish_planning(
            store,
            opened,
            contact_rules(settings, opened.contact),
            budget=task.spec.selection.spending_limit,
            now=now,
            last=lambda connection: hold_planned(
                connection, settings, opened.id, _earliest(settings, task, opened), task.upload
            ),
        )
    return read_plan(ledger, occurrence(store, opened.id), created=created)


def _earliest(settings: Settings, task: Task, opened: Occurrence) -> datetime:
    """When another home can have sent the same plan: it may have planned on the same day earlier.

    What goes out at once is due at the moment of planning.
    """
    at_once = task.spec.schedule.execute_time == NOW or task.spec.on_upload
    if not at_once:
        return opened.due
    begin = moment_of(datetime.combine(task.execution_date, time()), settings.zone)
    return min(opened.due, begin)


def read_plan(ledger: Ledger, opened: Occurrence, *, created: bool = False) -> SendPlan:
    """The plan as the ledger holds it now."""
    states: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    standing: Counter[str] = Counter()
    messages, cost = 0, 0.0
    for count in ledger.counts(opened.id):
        standing[_standing(count)] += count.rows
        states[str(count.state)] += count.rows
        if count.state is MessageState.SKIPPED:
            reasons[count.reason or "unknown"] += count.rows
        else:
            messages += count.segments
            cost += count.segments * opened.price_of(count.channel)
    return SendPlan(
        occurrence=opened,
        states=dict(states),
        reasons=dict(reasons),
        messages=messages,
        cost=round(cost, 6),
        currency=opened.currency,
        created=created,
        standing={word: standing[word] for word in _WORDS_IN_ORDER if standing[word]},
    )


_WORDS = {
    MessageState.PLANNED: "waiting",
    MessageState.CLAIMED: "waiting",
    MessageState.SUBMITTING: "being sent",
    MessageState.IN_DOUBT: "in doubt",
    MessageState.REJECTED: "rejected",
    MessageState.SKIPPED: "skipped",
}


_WORDS_IN_ORDER = (
    "waiting",
    "being sent",
    "sent",
    "in doubt",
    "rejected",
    "expired unsent",
    "skipped",
)


def _standing(count: Count) -> str:
    """How people stand; an expired row that a provider took is one that nobody reported."""
    if count.state is MessageState.EXPIRED and count.reason == "send_by_passed":
        return "expired unsent"
    return _WORDS.get(count.state, "sent")


def _recipients(
    settings: Settings,
    opened: Occurrence,
    batches: "Iterable[pa.RecordBatch | pa.Table]",
    progress: Callable[[int], None] | None,
) -> Iterator[dict[str, Any]]:
    read = 0
    needed = [*COLUMNS]
    needed += ["email"] if "email" in opened.channels else []
    needed += ["variant"] if opened.variants else []
    for batch in batches:
        if lacking := [name for name in needed if name not in batch.schema.names]:
            raise UserError(
                f"the send plan's rows lack the column {', '.join(lacking)}", code="plan.begun"
            )
        present = [*needed, *({"zone", "not_before"} & set(batch.schema.names))]
        for start in range(0, batch.num_rows, 10_000):  # Python objects of a slice at a time
            for row in batch.select(present).slice(start, 10_000).to_pylist():
                yield _recipient(settings, opened, row)
        read += batch.num_rows
        if progress:
            progress(read)


def _recipient(settings: Settings, opened: Occurrence, row: Mapping[str, Any]) -> dict[str, Any]:
    """A ledger row; an address is kept only where it can be sent to."""
    variant = row["variant"] if opened.variants else None
    if opened.variants and variant not in opened.variants:
        raise UserError(
            f"occurrence {opened.name!r} has no text {variant!r}, but somebody was decided to get "
            f"it; it has {', '.join(map(repr, opened.variants))}: decide the task anew",
            code="plan.begun",
        )
    channel = opened.channel_of(variant)
    number, problem = _number(settings, row["phone"])
    address, problem = _email(row["email"]) if channel == "email" else (number, problem)
    local_time = row.get("not_before")
    no_text = "missing_variable" if row["segments"] is None else None
    why = problem or row["reason"] or no_text
    why = why or (UNKNOWN_ZONE if is_unknown(row.get("zone")) else None)
    return {
        "channel": channel,
        "user_id": row["user_id"],
        "item_id": row["item_id"],
        "phone": address,
        "zone": None if why else recipient_zone(row.get("zone"), number),
        "not_before": local_time.replace(tzinfo=UTC) if local_time else None,
        "template_params": row["params"] or "{}",
        "variant": variant,
        "segments": row["segments"] or 0,
        "state": MessageState.SKIPPED if why else MessageState.PLANNED,
        "reason": why,
    }


def _number(settings: Settings, text: str | None) -> tuple[str | None, str | None]:
    """A phone number in E.164, or the reason code of a text that is none."""
    if not text or not text.strip():
        return None, "no_phone"
    number = parse(text, settings.default_country, fictional=settings.reads_fictional)
    return (None, str(number)) if isinstance(number, Problem) else (number, None)


def _email(text: str | None) -> tuple[str | None, str | None]:
    """An e-mail address, or the reason code of a text that is none."""
    if not text or not text.strip(BLANKS):
        return None, "no_email"
    address = read_email(text)
    return (address, None) if address else (None, BAD_EMAIL)


def in_units(prices: Iterable[float], money: Decimal) -> tuple[list[int], int]:
    """Prices and a sum as whole numbers of one unit, so that sums are exact.

    Prices have at most nine decimals; what of the sum is less than a unit is left out.

    >>> in_units([0.1, 0.05], Decimal("0.3"))
    ([10, 5], 30)
    """
    exact = [round(Decimal(repr(price)), _DECIMALS).normalize() for price in prices]
    exponents = [int(price.as_tuple().exponent) for price in exact]
    unit = Decimal(1).scaleb(min(0, *exponents))
    return [int(price / unit) for price in exact], max(0, int(money / unit))


def finish_planning(
    store: ControlStore,
    opened: Occurrence,
    rules: ContactRules,
    *,
    budget: float | None,
    now: datetime,
    last: Callable[[Connection], object] = lambda _connection: None,
) -> bool:
    """Skip who may not be contacted, shared addresses and what is over budget; then open it.

    Of several users with one address, and for the budgets, those that were inserted first win:
    insert the best first. The schedule's budget counts what its other occurrences have planned or
    sent, under a lock, so that two plans at once cannot pass it together.

    Args:
        store: the control store.
        opened: an occurrence in planning, with all its rows.
        rules: its contact rules.
        budget: of the campaign, in currency; None: no limit.
        now: business clock.
        last: done in the transaction that opens it, after all else.

    Returns:
        False when another process had finished it before; then nothing changes.
    """
    # a plan of the past is made as of its own time: its rows expire
    first = opened.due if now >= opened.send_by else max(now, opened.due)
    done = 0
    while True:
        with store.write() as connection:
            if not _is_planning(connection, opened.id):
                return False
            upper = _upper(connection, opened.id, done)
            if upper is None:
                break
            rows = (
                message.c.occurrence_id == opened.id,
                message.c.state == MessageState.PLANNED,
                message.c.id > done,
                message.c.id <= upper,
            )
            _skip_hopeless(connection, rules, opened, first, rows)
            _open_hours(connection, rules, opened, first, rows)
        done = upper
    with store.write() as connection:
        if not _is_planning(connection, opened.id):
            return False
        _skip_shared(connection, opened)
        _keep_budget(connection, opened, budget)
        connection.execute(
            schema.occurrence.update()
            .where(schema.occurrence.c.id == opened.id)
            .values(state=OccurrenceState.READY, updated_time=utc_now())
        )
        last(connection)
    return True


def _skip_hopeless(
    connection: Connection, rules: ContactRules, opened: Occurrence, first: datetime, rows: Any
) -> None:
    """Skip who may not be contacted until the occurrence ends, each by the channel of the row."""
    for channel in opened.channels:
        policy = Policy.of(rules, channel, opened.signature, opened.template_type)
        for reason, condition in policy.hopeless(connection, first, opened.send_by):
            _skip(connection, reason, *rows, message.c.channel == channel, condition)


def _is_planning(connection: Connection, occurrence_id: int) -> bool:
    state = connection.scalar(
        select(schema.occurrence.c.state)
        .where(schema.occurrence.c.id == occurrence_id)
        .with_for_update()
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
    for channel in opened.channels:
        of_channel = (message.c.id.in_(shared), message.c.channel == channel)
        _skip(connection, _SHARED[channel], *of_channel)


def _keep_budget(connection: Connection, opened: Occurrence, budget: float | None) -> None:
    """Skip what neither the campaign's nor the schedule's budget pays for."""
    table = schema.schedule
    of_schedule = table.c.id == opened.schedule_id
    max_cost = connection.scalar(select(table.c.max_cost).where(of_schedule).with_for_update())
    limits = [] if budget is None else [Decimal(str(budget))]
    if max_cost is not None:
        limits.append(Decimal(repr(max_cost)) - committed(connection, opened))
    prices = {channel: opened.price_of(channel) for channel in opened.channels}
    if not limits or not any(prices.values()):
        return
    units, most = in_units(prices.values(), min(limits))
    price = case(dict(zip(prices, units, strict=True)), value=message.c.channel)
    mine = (message.c.occurrence_id == opened.id, message.c.state == MessageState.PLANNED)
    spent = cast(message.c.segments, BigInteger) * price  # a small number times many units
    running = func.sum(spent).over(order_by=message.c.id)
    summed = select(message.c.id, running.label("running")).where(*mine).subquery()
    over = select(summed.c.id).where(summed.c.running > most)
    _skip(connection, "over_budget", message.c.id.in_(over))


def committed(connection: Connection, opened: Occurrence) -> Decimal:
    """Money that an occurrence's schedule has spent, or may still spend, on its other ones."""
    paid = or_(
        message.c.state.not_in(_UNPAID),
        (message.c.state == MessageState.EXPIRED)
        & message.c.sent_time.is_not(None),  # went out, unconfirmed
    )
    query = (
        select(PRICE, func.sum(message.c.segments))
        .join(message, message.c.occurrence_id == schema.occurrence.c.id)
        .where(
            schema.occurrence.c.schedule_id == opened.schedule_id,
            schema.occurrence.c.id != opened.id,
            schema.occurrence.c.state
            != OccurrenceState.PLANNING,  # cut to what is left when it is finished
            paid,
        )
        .group_by(PRICE)
    )
    sums = connection.execute(query).tuples().all()
    return sum((Decimal(repr(price)) * int(number) for price, number in sums), Decimal(0))
