"""Writing down what a provider said of messages: the answers of a call, a look-up, a poison row."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, or_

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MESSAGE_TRANSITIONS, MessageState
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.messaging import failpoints

_M = schema.message


@dataclass(frozen=True)
class Settled:
    """How one submitted row ended: its new state, and what the provider said."""

    message_id: int
    state: MessageState
    reason: str | None = None
    error_code: str | None = None
    request_id: str | None = None
    retry_at: datetime | None = None


def record(
    store: ControlStore,
    batch_id: int | None,
    results: Sequence[Settled],
) -> int:
    """Write down how submitted or doubtful rows ended; a state never moves backwards.

    Args:
        store: the control store.
        batch_id: the batch that was answered; None for a look-up or a poison row.
        results: one a row; a row whose present state does not allow its result stays.

    Returns:
        How many rows have changed.
    """
    clock = utc_now()
    alike: dict[tuple[Any, ...], list[Settled]] = {}
    for one in results:
        alike.setdefault((one.state, one.reason, one.error_code, one.retry_at), []).append(one)
    changed = 0
    with store.write() as connection:
        for (state, reason, code, retry_at), group in alike.items():
            sources = [s for s, to in MESSAGE_TRANSITIONS.items() if state in to]
            if state is MessageState.PLANNED:
                sources.remove(MessageState.IN_DOUBT)  # only a person releases it
            values = {
                "state": state,
                "reason": reason,
                "error_code": code,
                "retry_at": retry_at,
                "claimed_by": None,
                "lease_until": None,
                "updated_time": clock,
            }
            if state is MessageState.PLANNED:
                values["sent_time"] = None
            changed += _update_group(connection, group, sources, values)
        if batch_id is not None:
            connection.execute(
                schema.batch.update()
                .where(schema.batch.c.id == batch_id)
                .values(answered_time=clock)
            )
        failpoints.reach(failpoints.RECORDING)
    return changed


def _update_group(
    connection: Connection,
    group: Sequence[Settled],
    sources: Sequence[MessageState],
    values: dict[str, Any],
) -> int:
    """Rows that ended alike, but for the provider's own number of each."""
    ids = [one.message_id for one in group]
    numbers = {one.request_id for one in group}
    held = or_(*(_M.c.state == one for one in sources))  # a list cannot be bound many times over
    if len(numbers) == 1:
        (number,) = numbers
        given = {"request_id": number} if number else {}
        statement = _M.update().where(_M.c.id.in_(ids), held).values(**values, **given)
        return connection.execute(statement).rowcount
    one_row = (
        _M.update()
        .where(_M.c.id == bindparam("row"), held)
        .values(**values, request_id=func.coalesce(bindparam("number"), _M.c.request_id))
    )
    rows = [{"row": one.message_id, "number": one.request_id} for one in group]
    return connection.execute(one_row, rows).rowcount
