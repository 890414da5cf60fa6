"""Occurrences that should move and do not: nobody dispatches, or nothing comes of it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import Kind, MessageState, OccurrenceState
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.messaging.dispatching.alerts import post
from usergrowth_dagster.settings import Settings

_M = schema.message
_O = schema.occurrence
_S = schema.schedule
_B = schema.batch
_H = schema.history
_NOTE = "stalled"


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
        select(func.max(_B.c.answered_time)).where(_B.c.occurrence_id == _O.c.id).scalar_subquery()
    )
    return (
        select(_O.c.id, _S.c.name, _O.c.name, answered, _O.c.updated_time, _S.c.updated_time)
        .join(_S, _S.c.id == _O.c.schedule_id)
        .where(
            _O.c.state.in_((OccurrenceState.READY, OccurrenceState.SENDING)),
            _S.c.paused.is_(False),
            _O.c.due <= now - patience,
            _O.c.send_by > now,
            _O.c.updated_time <= before,
            _S.c.updated_time <= before,
            answered.is_(None) | (answered <= before),
            _free_row(now - patience, before),
        )
        .order_by(_O.c.due, _O.c.id)
    )


def _free_row(hour: datetime, before: datetime) -> ColumnElement[bool]:
    return (
        select(_M.c.id)
        .where(
            _M.c.occurrence_id == _O.c.id,
            _M.c.state.in_((MessageState.PLANNED, MessageState.CLAIMED)),
            _M.c.not_before.is_(None) | (_M.c.not_before <= hour),
            _M.c.retry_at.is_(None) | (_M.c.retry_at <= before),
            _M.c.updated_time <= before,
        )
        .exists()
    )


def report_stalls(store: ControlStore, settings: Settings, now: datetime) -> list[Stall]:
    """Find stalls and tell the failure webhook of each, once until it moves again.

    Returns:
        Those that were not told of before.
    """
    fresh = []
    for stall in stalls(store, settings, now):
        with store.write(alone=True) as connection:
            if _told(connection, stall):
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


def _told(connection: Connection, stall: Stall) -> bool:
    query = select(_H.c.id).where(
        _H.c.kind == str(Kind.OCCURRENCE),
        _H.c.record_id == stall.occurrence_id,
        _H.c.note == _NOTE,
        _H.c.time > stall.since,
    )
    return connection.execute(query.limit(1)).first() is not None
