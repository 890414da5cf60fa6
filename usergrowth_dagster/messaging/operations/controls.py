"""A person's hand on delivery: pause, resume, cancel, and what becomes of doubtful rows.

Deliveries are named by their schedule or campaign. Doubtful rows are released to be sent again, or
closed. Only somebody who knows (from the provider's own log, say) that a message never went out may
release it: the ledger cannot know, and sends again only what a person has released. Who and why is
kept.
"""

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
_OVER = (OccurrenceState.CANCELLED,)


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
        for row in named(connection, name):
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


def named(connection: Connection, name: str) -> Sequence[RowMapping]:
    """The schedule of that name, else all schedules of the campaign of that name.

    Raises:
        UserError: no schedule or campaign has that name.
    """
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


@dataclass(frozen=True)
class Reconciled:
    """How many rows changed; ``left`` were not in doubt any more, or do not exist.

    ``cancelled`` rows were not released because their occurrence has been cancelled.
    """

    changed: int
    left: int
    cancelled: int = 0


def release(store: ControlStore, message_ids: Sequence[int], actor: str, note: str) -> Reconciled:
    """Let doubtful rows be sent again: somebody knows that they never went out.

    Raises:
        UserError: no note that says why.
    """
    return _by_hand(store, message_ids, MessageState.PLANNED, "released", actor, note)


def close(store: ControlStore, message_ids: Sequence[int], actor: str, note: str) -> Reconciled:
    """End doubtful rows without sending.

    Raises:
        UserError: no note that says why.
    """
    return _by_hand(store, message_ids, MessageState.REJECTED, "closed_by_hand", actor, note)


def _by_hand(
    store: ControlStore,
    message_ids: Sequence[int],
    state: MessageState,
    why: str,
    actor: str,
    note: str,
) -> Reconciled:
    if not note.strip():
        raise UserError(
            "releasing or closing a message in doubt needs a note that says why (--why)",
            code="command.needs_reason",
        )
    wanted = sorted(set(message_ids))
    with store.write() as connection:
        over = _locked(connection, wanted)
        query = message.update().where(
            message.c.id.in_(wanted), message.c.state == MessageState.IN_DOUBT
        )
        values = {"state": state, "reason": why, "retry_at": None, "updated_time": utc_now()}
        cancelled = 0
        if state is MessageState.PLANNED:
            values["sent_time"] = None  # it was not sent, so it counts in no cap
            query = query.where(message.c.occurrence_id.not_in(over))
            cancelled = len(
                connection.scalars(
                    select(message.c.id).where(
                        message.c.id.in_(wanted),
                        message.c.state == MessageState.IN_DOUBT,
                        message.c.occurrence_id.in_(over),
                    )
                ).all()
            )
        rows = connection.execute(
            query.values(values).returning(message.c.id, message.c.occurrence_id)
        ).all()
        for occurrence_id in sorted({row[1] for row in rows}):
            ids = sorted(row[0] for row in rows if row[1] == occurrence_id)
            _note(store, connection, occurrence_id, ids, state, why, actor, note)
    return Reconciled(len(rows), len(wanted) - len(rows) - cancelled, cancelled)


def _locked(connection: Connection, message_ids: Sequence[int]) -> list[int]:
    """Hold the rows' occurrences, so that none is finished meanwhile; returns the cancelled."""
    mine = select(message.c.occurrence_id).where(message.c.id.in_(message_ids))
    states = connection.execute(
        select(occurrence.c.id, occurrence.c.state)
        .where(occurrence.c.id.in_(mine))
        .order_by(occurrence.c.id)
        .with_for_update()
    ).all()
    return [row[0] for row in states if row[1] in _OVER]


def _note(
    store: ControlStore,
    connection: Connection,
    occurrence_id: int,
    message_ids: Sequence[int],
    state: MessageState,
    why: str,
    actor: str,
    note: str,
) -> None:
    done = f"{len(message_ids)} messages {why.replace('_', ' ')}: {note}"
    store.note(
        connection,
        Kind.OCCURRENCE,
        occurrence_id,
        actor,
        source="in_doubt",
        target=str(state),
        note=done,
    )
    named = ", ".join(str(one) for one in message_ids[:50])
    audit.record(
        connection,
        actor,
        "release" if state is MessageState.PLANNED else "close",
        f"messages {named}{' …' if len(message_ids) > 50 else ''}",
        done,
    )
    if state is MessageState.PLANNED:
        connection.execute(
            occurrence.update()
            .where(occurrence.c.id == occurrence_id, occurrence.c.state == OccurrenceState.DONE)
            .values(state=OccurrenceState.SENDING, updated_time=utc_now())
        )
