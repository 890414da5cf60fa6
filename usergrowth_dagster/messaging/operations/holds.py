"""Messages that a restore holds: how many there are, and a person's word on those of a schedule.

Before any is released its gateway is asked once more: what it knows went out, and stays so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, func, select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.dispatching.look_ups import settle
from usergrowth_dagster.messaging.gateways.registry import gateway_named
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.operations.controls import Reconciled, close, named, release
from usergrowth_dagster.messaging.restored import REASON
from usergrowth_dagster.settings import Settings

_CHUNK = 1_000
message = schema.message
occurrence = schema.occurrence
schedule = schema.schedule
_HELD = (message.c.state == MessageState.IN_DOUBT, message.c.reason == REASON)


@dataclass(frozen=True)
class Held:
    """Messages of an occurrence that a restore holds.

    ``send_by`` (UTC) is when the occurrence ends: what is released later expires. ``asked`` of the
    ``people`` have been looked up since, and the gateway did not know them.
    """

    schedule: str
    occurrence: str
    gateway: str
    people: int
    asked: int
    send_by: datetime


@dataclass(frozen=True)
class Decided:
    """What became of held messages: ``settled`` by a look-up, then released or closed."""

    settled: int
    done: Reconciled


def held_messages(store: ControlStore) -> list[Held]:
    """What is held, by occurrence and gateway, the earliest occurrence first."""
    gateway = schema.batch.c.gateway
    query = (
        select(
            schedule.c.name,
            occurrence.c.name,
            gateway,
            func.count(),
            func.count(message.c.retry_at),
            occurrence.c.send_by,
        )
        .select_from(message)
        .join(occurrence, occurrence.c.id == message.c.occurrence_id)
        .join(schedule, schedule.c.id == occurrence.c.schedule_id)
        .join(schema.batch, schema.batch.c.id == message.c.batch_id)
        .where(*_HELD)
        .group_by(
            occurrence.c.id, schedule.c.name, occurrence.c.name, gateway, occurrence.c.send_by
        )
        .order_by(occurrence.c.send_by, occurrence.c.id, gateway)
    )
    with store.read() as connection:
        return [Held(*row) for row in connection.execute(query)]


def release_held(ledger: Ledger, settings: Settings, name: str, actor: str, why: str) -> Decided:
    """Let held messages of a schedule or campaign be sent, but for those that a gateway knows.

    Args:
        ledger: holds the messages.
        settings: of the home, for its gateways.
        name: of the schedule, or of a campaign for all its schedules.
        actor: who decides.
        why: how it is known that they did not go out, kept on record.

    Raises:
        UserError: the name is not known, there is no reason, or a gateway cannot be asked; nothing
            is released then.
    """
    schedules = _schedules(ledger.store, name)
    settled = 0
    for gateway in _gateways(ledger.store, schedules):
        looked_up = settle(ledger, gateway_named(settings, gateway), everything=True)
        if looked_up.failed:
            raise UserError(
                f"{looked_up.failed[0]}, so nothing of {name!r} is released: what went out after "
                "the copy would go out twice",
                code="message.held",
            )
        settled += looked_up.settled
    return Decided(settled, _each(ledger.store, schedules, release, actor, why))


def close_held(store: ControlStore, name: str, actor: str, why: str) -> Decided:
    """End held messages of a schedule or campaign without sending.

    Raises:
        UserError: the name is not known, or there is no reason.
    """
    return Decided(0, _each(store, _schedules(store, name), close, actor, why))


def _schedules(store: ControlStore, name: str) -> list[int]:
    with store.read() as connection:
        return [row["id"] for row in named(connection, name)]


def _of(schedules: Sequence[int]) -> tuple[ColumnElement[bool], ...]:
    """Conditions of the held messages of some schedules."""
    mine = select(occurrence.c.id).where(occurrence.c.schedule_id.in_(schedules))
    return (*_HELD, message.c.occurrence_id.in_(mine))


def _gateways(store: ControlStore, schedules: Sequence[int]) -> list[str]:
    """Names of the gateways that may know held messages of some schedules."""
    query = select(schema.batch.c.gateway).join(message, message.c.batch_id == schema.batch.c.id)
    with store.read() as connection:
        return sorted(connection.scalars(query.where(*_of(schedules)).distinct()))


def _each(
    store: ControlStore,
    schedules: Sequence[int],
    decide: Callable[[ControlStore, Sequence[int], str, str], Reconciled],
    actor: str,
    why: str,
) -> Reconciled:
    """Decide on the held messages of some schedules, in chunks; sums up what changed."""
    changed = left = cancelled = last = 0
    while True:
        page = select(message.c.id).where(*_of(schedules), message.c.id > last)
        with store.read() as connection:
            ids = connection.scalars(page.order_by(message.c.id).limit(_CHUNK)).all()
        if not ids:
            return Reconciled(changed, left, cancelled)
        last = ids[-1]
        done = decide(store, ids, actor, why)
        changed += done.changed
        left += done.left
        cancelled += done.cancelled
