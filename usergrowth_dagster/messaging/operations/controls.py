"""A person's hand on delivery: pause, resume, cancel, by the name of a schedule or campaign."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, select

from usergrowth_dagster.control import audit, schema
from usergrowth_dagster.control.codes import (
    Kind,
    MessageState,
    OccurrenceState,
    RepeatUnit,
    ScheduleStatus,
)
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.failures import forget
from usergrowth_dagster.messaging.schedules.occurrences import move_schedule

message = schema.message
occurrence = schema.occurrence
schedule = schema.schedule
OPEN_OCCURRENCES = (
    OccurrenceState.PLANNING,
    OccurrenceState.READY,
    OccurrenceState.SENDING,
    OccurrenceState.STOPPED,
)
"""What cancelling ends."""


@dataclass(frozen=True)
class Controlled:
    """What became of one schedule.

    ``changed`` is whether anything did, ``occurrences`` how many were reopened or cancelled,
    ``messages`` how many planned messages a cancellation took back, ``in_flight`` how many at most
    were with the provider at that moment, ``repeats`` whether later occurrences were stopped too.
    """

    schedule: str
    changed: bool
    occurrences: int = 0
    messages: int = 0
    in_flight: int = 0
    repeats: bool = False


def pause(store: ControlStore, name: str, actor: str) -> list[Controlled]:
    """Let nothing more of a schedule (or of all schedules of a campaign) go out.

    A batch that a dispatcher has handed over finishes; nothing is begun after this returns.

    Raises:
        UserError: no schedule or campaign has that name.
    """

    def one(connection: Connection, row: RowMapping) -> Controlled:
        return Controlled(row["name"], _set_paused(store, connection, row, True, actor))

    return _each(store, name, "pause", actor, one)


def resume(store: ControlStore, name: str, actor: str) -> list[Controlled]:
    """Go on after a pause, or after a stop by the provider or a rule.

    Raises:
        UserError: no schedule or campaign has that name.
    """

    def one(connection: Connection, row: RowMapping) -> Controlled:
        was = _set_paused(store, connection, row, False, actor)
        reopened = connection.scalars(
            occurrence.update()
            .where(
                occurrence.c.schedule_id == row["id"], occurrence.c.state == OccurrenceState.STOPPED
            )
            .values(state=OccurrenceState.READY, reason=None, updated_time=utc_now())
            .returning(occurrence.c.id)
        ).all()
        for occurrence_id in reopened:
            forget(connection, occurrence_id)
            store.note(
                connection,
                Kind.OCCURRENCE,
                occurrence_id,
                actor,
                source=OccurrenceState.STOPPED,
                target=OccurrenceState.READY,
                note="resumed",
            )
        return Controlled(row["name"], was or bool(reopened), len(reopened))

    return _each(store, name, "resume", actor, one)


def cancel(store: ControlStore, name: str, actor: str) -> list[Controlled]:
    """End a schedule's open occurrences for good: what has not begun to go out never will.

    Planned rows are skipped with the reason ``cancelled``; those that a dispatcher has handed over
    finish. A repeating schedule is paused too, so that no later occurrence goes out.

    Raises:
        UserError: no schedule or campaign has that name.
    """

    def one(connection: Connection, row: RowMapping) -> Controlled:
        repeats = row["repeat_cycle_unit"] is not RepeatUnit.NEVER
        changed = repeats and _set_paused(store, connection, row, True, actor)
        ids = connection.scalars(
            select(occurrence.c.id)
            .where(occurrence.c.schedule_id == row["id"], occurrence.c.state.in_(OPEN_OCCURRENCES))
            .order_by(occurrence.c.id)
            .with_for_update()
        ).all()
        messages, in_flight = 0, 0
        for occurrence_id in ids:
            messages += _cancel_occurrence(store, connection, occurrence_id, actor)
            in_flight += len(
                connection.scalars(
                    select(message.c.id).where(
                        message.c.occurrence_id == occurrence_id,
                        message.c.state == MessageState.SUBMITTING,
                    )
                ).all()
            )
        if ids:
            move_schedule(store, connection, row["id"], ScheduleStatus.FAILED, actor, "cancelled")
        return Controlled(row["name"], bool(ids) or changed, len(ids), messages, in_flight, changed)

    return _each(store, name, "cancel", actor, one)


def _cancel_occurrence(
    store: ControlStore, connection: Connection, occurrence_id: int, actor: str
) -> int:
    clock = utc_now()
    connection.execute(
        occurrence.update()
        .where(occurrence.c.id == occurrence_id)
        .values(state=OccurrenceState.CANCELLED, reason="cancelled", updated_time=clock)
    )
    taken = connection.execute(
        message.update()
        .where(
            message.c.occurrence_id == occurrence_id,
            message.c.state.in_((MessageState.PLANNED, MessageState.CLAIMED)),
        )
        .values(
            state=MessageState.SKIPPED,
            reason="cancelled",
            claimed_by=None,
            lease_until=None,
            updated_time=clock,
        )
    ).rowcount
    store.note(
        connection,
        Kind.OCCURRENCE,
        occurrence_id,
        actor,
        target=OccurrenceState.CANCELLED,
        note=f"cancelled, {taken} messages not sent",
    )
    return taken


def _set_paused(
    store: ControlStore, connection: Connection, row: RowMapping, paused: bool, actor: str
) -> bool:
    """Set the flag; says whether it was the other way."""
    done = connection.execute(
        schedule.update()
        .where(schedule.c.id == row["id"], schedule.c.paused.is_(not paused))
        .values(paused=paused, updated_time=utc_now())
    ).rowcount
    if done:
        note = "paused" if paused else "resumed"
        store.note(connection, Kind.SCHEDULE, row["id"], actor, note=note)
    return bool(done)


def _each(
    store: ControlStore,
    name: str,
    action: str,
    actor: str,
    one: Callable[[Connection, RowMapping], Controlled],
) -> list[Controlled]:
    with store.write() as connection:
        done = []
        for row in _named(connection, name):
            # the order in which dispatchers take their locks: occurrences, then the schedule
            connection.execute(
                select(occurrence.c.id)
                .where(
                    occurrence.c.schedule_id == row["id"], occurrence.c.state.in_(OPEN_OCCURRENCES)
                )
                .order_by(occurrence.c.id)
                .with_for_update()
            ).all()
            done.append(one(connection, row))
            last = done[-1]
            detail = f"{last.occurrences} occurrences, {last.messages} messages"
            audit.record(
                connection,
                actor,
                action,
                f"schedule {row['name']}",
                detail if last.changed else "nothing to do",
            )
    return done


def _named(connection: Connection, name: str) -> Sequence[RowMapping]:
    """The schedule of that name, else all schedules of the campaign of that name."""
    query = select(schedule).order_by(schedule.c.id)
    rows = connection.execute(query.where(schedule.c.name == name)).mappings().all()
    if not rows:
        campaign = schema.campaign
        rows = (
            connection.execute(
                query.join(campaign, campaign.c.id == schedule.c.campaign_id).where(
                    campaign.c.name == name
                )
            )
            .mappings()
            .all()
        )
    if not rows:
        known = connection.scalars(select(schedule.c.name).order_by(schedule.c.name)).all()
        raise UserError(
            f"no schedule or campaign is called {name!r}; schedules are: "
            f"{', '.join(known) or 'none'}",
            code="message.unknown",
        )
    return rows
