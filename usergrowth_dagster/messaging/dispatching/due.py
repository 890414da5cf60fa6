"""Whether a dispatcher would find anything to do now, without doing it."""

from datetime import datetime

from sqlalchemy import or_, select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState, OccurrenceState
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.messaging.ledger import OPEN_STATES
from usergrowth_dagster.messaging.schedules.occurrences import late_occurrences
from usergrowth_dagster.messaging.schedules.series import all_series, repeats_wait
from usergrowth_dagster.settings import Settings

message = schema.message
occurrence = schema.occurrence
schedule = schema.schedule


def time_matters(store: ControlStore, settings: Settings) -> bool:
    """Whether a dispatcher may find something to do later, though nobody writes to the store.

    A message or an occurrence is not finished, or a schedule repeats.
    """
    ended = (OccurrenceState.DONE, OccurrenceState.CANCELLED)
    unfinished = (
        select(message.c.id).where(message.c.state.in_((*OPEN_STATES, MessageState.IN_DOUBT))),
        select(occurrence.c.id).where(occurrence.c.state.not_in(ended)),
    )
    with store.read() as connection:
        if any(connection.scalar(query.limit(1)) is not None for query in unfinished):
            return True
        return bool(all_series(connection, settings))


def work_waits(store: ControlStore, settings: Settings, now: datetime) -> bool:
    """Whether rows can go out, expire, be looked up, or be taken back from a lost worker.

    Also whether an occurrence of a repeating schedule is to be opened.

    Args:
        store: the control store.
        settings: hours and contact rules of repeats.
        now: the business clock.
    """
    clock = utc_now()
    doubtful = select(message.c.id).where(
        message.c.state == MessageState.IN_DOUBT,
        or_(message.c.retry_at.is_(None), message.c.retry_at <= clock),
    )
    lapsed = select(message.c.id).where(message.c.lease_until <= clock)
    of_run = message.c.occurrence_id == occurrence.c.id
    ready = select(message.c.id).where(
        of_run,
        message.c.state == MessageState.PLANNED,
        or_(message.c.not_before.is_(None), message.c.not_before <= now),
        or_(message.c.retry_at.is_(None), message.c.retry_at <= clock),
    )
    unfinished = select(message.c.id).where(of_run, message.c.state.in_(OPEN_STATES))
    due = (
        select(occurrence.c.id)
        .join(schedule, schedule.c.id == occurrence.c.schedule_id)
        .where(
            occurrence.c.state.in_((OccurrenceState.READY, OccurrenceState.SENDING)),
            schedule.c.paused.is_(False),
            occurrence.c.due <= now,
            occurrence.c.send_by > now,
            or_(ready.exists(), ~unfinished.exists()),
        )
    )
    with store.read() as connection:
        if any(connection.scalar(query.limit(1)) is not None for query in (due, lapsed, doubtful)):
            return True
    return bool(late_occurrences(store, now)) or repeats_wait(store, settings, now)
