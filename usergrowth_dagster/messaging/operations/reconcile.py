"""Doubtful rows in a person's hands: released to be sent again, or closed.

Only somebody who knows (from the provider's own log, say) that a message never went out may release
it: the ledger cannot know, and sends again only what a person has released. Who and why is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from usergrowth_dagster.control import audit, schema
from usergrowth_dagster.control.codes import Kind, MessageState, OccurrenceState
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.errors import UserError

message = schema.message
occurrence = schema.occurrence
_OVER = (OccurrenceState.CANCELLED,)


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
