"""The later occurrences of repeating schedules, opened as they come due.

The occurrences of a schedule and an uploaded population are a series: number 0 is planned with the
decision, the k-th is due at the k-th time (module ``repeats``). Which one is open depends on the
clock alone, not on what was opened before it:

* the newest time that has come is opened while its window lasts; the ones before it that were never
  opened are missed, which is recorded, and are not sent after the event, in a burst;
* a clock that jumps back opens nothing twice, since a number has one name and a name is unique;
  one that jumps ahead and comes back leaves a series that goes on where it was.

A frozen audience is copied from the first occurrence inside the database: the same sealed address,
text and order. Whoever the contact policy left out then is asked about again. An audience that is
decided anew each time is planned by its own task on the day
(:func:`usergrowth_dagster.intake.uploads.register_repeats`); here only the missed ones are
recorded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    and_,
    case,
    func,
    literal,
    null,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.campaign_blocks import SelectionSpec
from usergrowth_dagster.control.codes import (
    Kind,
    MessageState,
    OccurrenceState,
    RepeatUnit,
    ReviewStatus,
)
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.control.tasks import repeated_task_id
from usergrowth_dagster.messaging.dispatching.alerts import post
from usergrowth_dagster.messaging.people.rotation import hold_key
from usergrowth_dagster.messaging.plans.plan import finish_planning
from usergrowth_dagster.messaging.policy.contact import contact_rules
from usergrowth_dagster.messaging.restored import hold_planned
from usergrowth_dagster.messaging.schedules.occurrences import (
    channel_by_text,
    occurrence,
    rejected_variants,
)
from usergrowth_dagster.messaging.schedules.repeats import Repeat
from usergrowth_dagster.messaging.schedules.windows import repeat_of
from usergrowth_dagster.messaging.texts.billing import other_price, price_of
from usergrowth_dagster.settings import Settings

ASKED_AGAIN = (
    "suppressed",
    "capped",
    "min_gap",
    "number_cap",
    "quiet_hours",
    "shared_phone",
    "shared_email",
    "over_budget",
    "cancelled",
)
"""Reasons that held for one occurrence; whoever was skipped for another one stays so."""

_CHUNK = 20_000
message = schema.message

MISSED = "missed"
TOO_OLD = "audience_stale"
_FORGOTTEN = timedelta(days=400)  # a series whose last time is longer ago has ended
schedule = schema.schedule


@dataclass
class Opened:
    """Occurrences that were opened, and sentences about those that were missed."""

    opened: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Known:
    id: int
    sequence: int
    state: OccurrenceState
    reason: str | None


@dataclass(frozen=True)
class Series:
    """A series: its first occurrence as the database holds it, and its times."""

    first: RowMapping
    times: Repeat
    refreshed: bool
    budget: float | None

    def name(self, sequence: int, settings: Settings) -> str:
        """The one name of a number."""
        if not self.refreshed:
            return f"{self.first['name']}.{sequence}"
        day = _day(self.times, sequence, settings)
        return f"{day:%Y%m%d}-{repeated_task_id(self.first['task_id'], day)}"


def open_due_repeats(store: ControlStore, settings: Settings, now: datetime) -> Opened:
    """Open the occurrences of repeating schedules that are due, and record the missed ones.

    May be called by any number of processes at once, as often as they like. Paused schedules, and
    those whose signature or template has been rejected, open nothing.

    Args:
        store: the control store.
        settings: hours, prices and contact rules.
        now: business clock.
    """
    done = Opened()
    with store.read() as connection:
        running = all_series(connection, settings, schedule.c.paused.is_(False))
    for series in running:
        _open_one(store, settings, series, now, done)
    return done


def repeats_wait(store: ControlStore, settings: Settings, now: datetime) -> bool:
    """Whether :func:`open_due_repeats` would find anything to do."""
    with store.read() as connection:
        running = all_series(connection, settings, schedule.c.paused.is_(False))
    return any(_todo(store, settings, series, now) for series in running)


@dataclass(frozen=True)
class _Todo:
    """What a series wants now: a number to open, or one half-made to fill, and numbers to record.

    ``missed`` is the first and the last number that were not opened, for ``reason``.
    """

    create: tuple[int, tuple[datetime, datetime]] | None = None
    fill: int | None = None
    missed: tuple[int, int] | None = None
    reason: str = MISSED


def _todo(store: ControlStore, settings: Settings, series: Series, now: datetime) -> _Todo | None:
    number = series.times.latest(now)
    if not number:  # not due, or only the first one is, which its task plans
        return None
    window = series.times.window(number, timedelta(hours=settings.send_within_hours))
    assert window is not None
    if window[1] < now - _FORGOTTEN:
        return None
    with store.read() as connection:
        known = _known(connection, series.first)
    planned = known.get(number)
    if planned is not None:
        half_made = planned.state is OccurrenceState.PLANNING and not series.refreshed
        return _Todo(fill=planned.id) if half_made else None
    if any(one.state is OccurrenceState.STOPPED for one in known.values()):
        return None  # a person looks at it; it ends with its own window
    before = max((one for one in known if one < number), default=0)
    if too_old(series, settings, number):
        is_noted = any(one.reason == TOO_OLD for one in known.values())
        return None if is_noted else _Todo(missed=(before + 1, number), reason=TOO_OLD)
    is_open = window[0] <= now < window[1]
    last_missed = number - 1 if is_open else number
    missed = (before + 1, last_missed) if last_missed > before else None
    create = (number, window) if is_open and not series.refreshed else None
    return _Todo(create=create, missed=missed) if create or missed else None


def _open_one(
    store: ControlStore, settings: Settings, series: Series, now: datetime, done: Opened
) -> None:
    todo = _todo(store, settings, series, now)
    if todo is None:
        return
    made = todo.fill
    if todo.missed:
        _record(store, settings, series, todo.missed, todo.reason, done)
    if todo.create:
        made = _create(store, settings, series, *todo.create)
    if made is not None:
        _fill(store, settings, series, made, now, done)


def all_series(
    connection: Connection, settings: Settings, *conditions: ColumnElement[bool]
) -> list[Series]:
    """The series whose texts are not rejected, those first that began first."""
    job, signature, template = schema.inference_job, schema.signature, schema.template
    query = (
        select(
            schema.occurrence,
            *(schedule.c[key] for key in ("repeat_cycle_unit", "repeat_cycle", "repeat_times")),
            schedule.c.end_time,
            schedule.c.name.label("schedule"),
            job.c.user_config,
            job.c.data_path,
        )
        .join(schedule, schedule.c.id == schema.occurrence.c.schedule_id)
        .join(job, job.c.name == schema.occurrence.c.task_id)
        .join(signature, signature.c.id == schedule.c.signature_id)
        .join(template, template.c.id == schedule.c.template_id)
        .where(
            schema.occurrence.c.sequence == 0,
            schema.occurrence.c.state != OccurrenceState.PLANNING,
            schedule.c.repeat_cycle_unit != RepeatUnit.NEVER,
            signature.c.status != ReviewStatus.REJECTED,
            template.c.status != ReviewStatus.REJECTED,
            ~rejected_variants(schedule).exists(),
            *conditions,
        )
        .order_by(schema.occurrence.c.id)
    )
    return [
        Series(
            row,
            repeat_of(settings, row, row["due"]),
            bool(row["user_config"]["schedule"].get("refresh_audience")),
            SelectionSpec.model_validate(row["user_config"]["selection"]).spending_limit,
        )
        for row in connection.execute(query).mappings()
    ]


def _known(connection: Connection, first: RowMapping) -> dict[int, _Known]:
    """The newest occurrences of a series, by number; older ones matter no more."""
    job = schema.inference_job
    query = (
        select(
            schema.occurrence.c.id,
            schema.occurrence.c.sequence,
            schema.occurrence.c.state,
            schema.occurrence.c.reason,
        )
        .join(job, job.c.name == schema.occurrence.c.task_id)
        .where(
            schema.occurrence.c.schedule_id == first["schedule_id"],
            schema.occurrence.c.sequence.is_not(None),
            job.c.data_path == first["data_path"],
        )
        .order_by(schema.occurrence.c.sequence.desc())
        .limit(50)
    )
    return {row.sequence: _Known(*row) for row in connection.execute(query)}


def _day(times: Repeat, sequence: int, settings: Settings) -> date:
    due = times.due(sequence)
    assert due is not None
    return due.astimezone(settings.zone).date()


def too_old(series: Series, settings: Settings, number: int) -> bool:
    """Whether a frozen audience may not be sent to any more by the time of a number."""
    decided = series.first["audience_date"]
    if series.refreshed or decided is None:
        return False
    rules = contact_rules(settings, series.first["contact"])
    return bool((_day(series.times, number, settings) - decided).days > rules.max_audience_days)


def _record(
    store: ControlStore,
    settings: Settings,
    series: Series,
    numbers: tuple[int, int],
    reason: str,
    done: Opened,
) -> None:
    """One line for a run of occurrences that are not sent, under the name of the last of them."""
    low, high = numbers
    window = series.times.window(high, timedelta(hours=settings.send_within_hours))
    assert window is not None
    days = [_day(series.times, number, settings) for number in numbers]
    why = {
        MISSED: "nobody decided and planned its audience in its time"
        if series.refreshed
        else "no dispatcher was at work in its time, or the schedule was paused",
        TOO_OLD: f"its audience of {series.first['audience_date']} is too old by then; say for how "
        "long it is good as contact.max_audience_days, or set schedule.refresh_audience: true",
    }[reason]
    which = f"occurrence {high} of {days[1]}"
    if low < high:
        which = f"occurrences {low} to {high}, of {days[0]} to {days[1]}"
    note = f"{which}: not sent, since {why}"
    with store.write(alone=True) as connection:
        values = {"state": OccurrenceState.DONE, "reason": reason}
        made = _insert(connection, store, settings, series, high, window, values)
        if made is None:
            return
        store.note(
            connection,
            Kind.OCCURRENCE,
            made,
            "dispatch",
            target=OccurrenceState.DONE,
            note=note,
        )
    sentence = f"schedule {series.first['schedule']!r}: {note}"
    done.missed.append(sentence)
    post(settings, "occurrences_missed", message=sentence)


def _create(
    store: ControlStore,
    settings: Settings,
    series: Series,
    number: int,
    window: tuple[datetime, datetime],
) -> int | None:
    """A new occurrence in planning; None when another process has made it, or it may not be."""
    with store.write(alone=True) as connection:
        paused = connection.scalar(
            select(schedule.c.paused).where(schedule.c.id == series.first["schedule_id"])
        )
        if paused:
            return None
        values = {"state": OccurrenceState.PLANNING, "reason": None}
        return _insert(connection, store, settings, series, number, window, values)


_FROZEN = (
    "schedule_id",
    "task_id",
    "channel",
    "signature",
    "template_code",
    "template_type",
    "content",
    "audience_date",
    "contact",
    "subject",
    "variants",
    "link",
    "link_domain",
)
"""What a later occurrence has in common with the first."""


def _insert(
    connection: Connection,
    store: ControlStore,
    settings: Settings,
    series: Series,
    number: int,
    window: tuple[datetime, datetime],
    values: dict[str, Any],
) -> int | None:
    insert = sqlite.insert if store.is_sqlite else postgresql.insert
    now, channel = utc_now(), series.first["channel"]
    used = channel_by_text(channel, series.first["variants"]).values()
    made = connection.scalar(
        insert(schema.occurrence)
        .values(
            **{key: series.first[key] for key in _FROZEN},
            name=series.name(number, settings),
            due=window[0],
            send_by=window[1],
            sequence=number,
            price=price_of(settings, channel),
            other_price=other_price(settings, channel, used),
            currency=settings.currency,
            created_time=now,
            updated_time=now,
            **values,
        )
        .on_conflict_do_nothing(index_elements=["schedule_id", "name"])
        .returning(schema.occurrence.c.id)
    )
    return None if made is None else int(made)


def _fill(
    store: ControlStore,
    settings: Settings,
    series: Series,
    occurrence_id: int,
    now: datetime,
    done: Opened,
) -> None:
    """Copy the recipients, screen them, and open the occurrence for dispatch."""
    opened = occurrence(store, occurrence_id)
    if not _copy_recipients(store, series.first["id"], opened.id):
        return
    rules = contact_rules(settings, opened.contact)
    if finish_planning(
        store,
        opened,
        rules,
        budget=series.budget,
        now=now,
        last=lambda connection: hold_planned(
            connection, settings, opened.id, opened.due, opened.task_id
        ),
    ):
        done.opened.append(opened.name)


def _copy_recipients(store: ControlStore, source_id: int, target_id: int) -> bool:
    """Copy the rows of one occurrence to another one that is in planning, best first.

    Inside the database, in chunks; rows that are there already stay, so that an interrupted copy
    goes on and two at once make one.

    Returns:
        False: the target has left planning, so nothing more may come.
    """
    insert = sqlite.insert if store.is_sqlite else postgresql.insert
    after = 0
    while True:
        with store.write() as connection:
            state = connection.scalar(
                select(schema.occurrence.c.state)
                .where(schema.occurrence.c.id == target_id)
                .with_for_update(read=True)
            )
            if state is not OccurrenceState.PLANNING:
                return False
            upper = _upper(connection, source_id, after)
            if upper is None:
                return True
            hold_key(connection)
            columns, query = _copies(source_id, target_id)
            query = query.where(message.c.id > after, message.c.id <= upper).order_by(message.c.id)
            connection.execute(
                insert(message)
                .from_select(columns, query, include_defaults=False)
                .on_conflict_do_nothing()
            )
        after = upper


def _upper(connection: Connection, source_id: int, after: int) -> int | None:
    ids = (
        select(message.c.id)
        .where(message.c.occurrence_id == source_id, message.c.id > after)
        .order_by(message.c.id)
        .limit(_CHUNK)
        .subquery()
    )
    last_id: int | None = connection.scalar(select(func.max(ids.c.id)))
    return last_id


def _copies(source_id: int, target_id: int) -> tuple[Sequence[str], Any]:
    """The new rows: planned, unless they can never be sent to."""
    same = (
        "channel",
        "user_id",
        "user_hash",
        "item_id",
        "phone_number",
        "phone_hash",
        "template_params",
        "segments",
        "zone",
        "variant",
    )
    skipped = message.c.state == MessageState.SKIPPED
    for_good = and_(skipped, func.coalesce(message.c.reason, "").not_in(ASKED_AGAIN))
    erased = message.c.phone_number.is_(None)
    state = case(
        (for_good | erased, literal(MessageState.SKIPPED, message.c.state.type)),
        else_=literal(MessageState.PLANNED, message.c.state.type),
    )
    reason = case((for_good, message.c.reason), (erased, literal("forgotten")), else_=null())
    query = select(
        literal(target_id),
        *(message.c[key] for key in same),
        state,
        reason,
        literal(0),
        literal(utc_now(), message.c.updated_time.type),
    ).where(message.c.occurrence_id == source_id)
    columns = ("occurrence_id", *same, "state", "reason", "attempts", "updated_time")
    return columns, query
