"""Where every delivery stands: its window, its counts by state and reason, what holds it up.

An occurrence stalls when it should move and does not: nobody dispatches, or nothing comes of it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, or_, select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import Kind, MessageState, OccurrenceState
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.dispatching.alerts import post
from usergrowth_dagster.messaging.ledger import Count, Ledger
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.settings import Settings

message = schema.message
occurrence = schema.occurrence
schedule = schema.schedule
batch = schema.batch
history = schema.history
_NOTE = "stalled"
campaign = schema.campaign


@dataclass(frozen=True)
class Delivery:
    """One occurrence; times are UTC, ``reason`` says why it was stopped or ended."""

    schedule: str
    occurrence: str
    task_id: str
    state: str
    reason: str | None
    due: datetime
    send_by: datetime
    paused: bool
    stalled: bool
    counts: list[Count]
    id: int = 0

    @property
    def note(self) -> str:
        """What a person should know, in few words."""
        words = [self.reason] if self.reason else []
        words += ["paused"] if self.paused else []
        words += ["STALLED"] if self.stalled else []
        return "; ".join(words)


def deliveries(
    store: ControlStore, settings: Settings, now: datetime, name: str | None = None
) -> list[Delivery]:
    """All occurrences, by due time; with ``name`` those of a schedule, campaign or task.

    Args:
        store: the control store.
        settings: home folder, ``stall_minutes``.
        now: the business clock.
        name: a schedule's, campaign's or task's name.

    Raises:
        UserError: nothing that is planned has that name.
    """
    query = (
        select(occurrence, schedule.c.name.label("schedule"), schedule.c.paused)
        .join(schedule, schedule.c.id == occurrence.c.schedule_id)
        .join(campaign, campaign.c.id == schedule.c.campaign_id)
        .order_by(occurrence.c.due, occurrence.c.id)
    )
    if name is not None:
        query = query.where(
            or_(schedule.c.name == name, campaign.c.name == name, occurrence.c.task_id == name)
        )
    with store.read() as connection:
        rows = connection.execute(query).mappings().all()
    if name is not None and not rows:
        raise UserError(
            f"no schedule, campaign or task called {name!r} has anything planned",
            code="message.unknown",
        )
    stalled = {one.occurrence_id for one in stalls(store, settings, now)}
    ledger = Ledger(store, open_vault(settings.home, settings.default_country))
    return [
        Delivery(
            schedule=row["schedule"],
            occurrence=row["name"],
            task_id=row["task_id"],
            state=str(row["state"]),
            reason=row["reason"],
            due=row["due"],
            send_by=row["send_by"],
            paused=row["paused"],
            stalled=row["id"] in stalled,
            counts=ledger.counts(row["id"]),
            id=row["id"],
        )
        for row in rows
    ]


@dataclass(frozen=True)
class Stall:
    """A due occurrence whose messages could go out, and of which none has for some time."""

    occurrence_id: int
    schedule: str
    occurrence: str
    since: datetime  # the last thing that happened to it, on the real clock

    def __str__(self) -> str:
        """One sentence for a person."""
        return (
            f"schedule {self.schedule!r}, occurrence {self.occurrence}: due, but no message has "
            f"gone out since {self.since:%Y-%m-%d %H:%M} UTC; is a dispatcher running "
            "(usergrowth dispatch --watch, or the schedule 'dispatch')?"
        )


def stalls(store: ControlStore, settings: Settings, now: datetime) -> list[Stall]:
    """Due, unpaused occurrences with rows that could go out and no progress for too long.

    Rows that became free only lately (their own hour, a deferral, a release) are not counted yet.
    A claim is no progress: a dispatcher that dies each time it begins would hide the stall.

    Args:
        store: the control store.
        settings: ``stall_minutes``.
        now: the business clock.
    """
    patience = timedelta(minutes=settings.stall_minutes)
    with store.read() as connection:
        rows = connection.execute(_candidates(now, patience, utc_now() - patience)).all()
    return [
        Stall(row[0], row[1], row[2], max(moment for moment in row[3:] if moment)) for row in rows
    ]


def _candidates(now: datetime, patience: timedelta, before: datetime) -> Select[Any]:
    answered = (
        select(func.max(batch.c.answered_time))
        .where(batch.c.occurrence_id == occurrence.c.id)
        .scalar_subquery()
    )
    return (
        select(
            occurrence.c.id,
            schedule.c.name,
            occurrence.c.name,
            answered,
            occurrence.c.updated_time,
            schedule.c.updated_time,
        )
        .join(schedule, schedule.c.id == occurrence.c.schedule_id)
        .where(
            occurrence.c.state.in_((OccurrenceState.READY, OccurrenceState.SENDING)),
            schedule.c.paused.is_(False),
            occurrence.c.due <= now - patience,
            occurrence.c.send_by > now,
            occurrence.c.updated_time <= before,
            schedule.c.updated_time <= before,
            answered.is_(None) | (answered <= before),
            _free_row(now - patience, before),
        )
        .order_by(occurrence.c.due, occurrence.c.id)
    )


def _free_row(hour: datetime, before: datetime) -> ColumnElement[bool]:
    return (
        select(message.c.id)
        .where(
            message.c.occurrence_id == occurrence.c.id,
            message.c.state.in_((MessageState.PLANNED, MessageState.CLAIMED)),
            message.c.not_before.is_(None) | (message.c.not_before <= hour),
            message.c.retry_at.is_(None) | (message.c.retry_at <= before),
            message.c.updated_time <= before,
        )
        .exists()
    )


def report_stalls(store: ControlStore, settings: Settings, now: datetime) -> list[Stall]:
    """Find stalls and report each to the failure webhook, once until it moves again.

    Returns:
        Those that were not reported before.
    """
    fresh = []
    for stall in stalls(store, settings, now):
        with store.write(alone=True) as connection:
            if _is_reported(connection, stall):
                continue
            store.note(connection, Kind.OCCURRENCE, stall.occurrence_id, "dispatch", note=_NOTE)
        fresh.append(stall)
        post(
            settings,
            "delivery_stalled",
            schedule=stall.schedule,
            occurrence=stall.occurrence,
            since=stall.since.isoformat(),
            message=str(stall),
        )
    return fresh


def _is_reported(connection: Connection, stall: Stall) -> bool:
    query = select(history.c.id).where(
        history.c.kind == str(Kind.OCCURRENCE),
        history.c.record_id == stall.occurrence_id,
        history.c.note == _NOTE,
        history.c.time > stall.since,
    )
    return connection.execute(query.limit(1)).first() is not None
