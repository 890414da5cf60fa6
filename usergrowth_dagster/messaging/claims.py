"""How one worker takes rows of the ledger, submits them, and writes down what came of it."""

import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MESSAGE_TRANSITIONS, MessageState, OccurrenceState
from usergrowth_dagster.control.store import ControlStore, utc_now

LEASE = timedelta(minutes=2)
_M = schema.message
_O = schema.occurrence


@dataclass(frozen=True)
class Settled:
    """How one submitted row ended: its new state, and what the provider said."""

    message_id: int
    state: MessageState
    reason: str | None = None
    error_code: str | None = None
    request_id: str | None = None
    retry_at: datetime | None = None


class Claims:
    """The claims of one worker.

    Args:
        store: an opened, migrated control store.
        lease: how long (on the real clock) a claim or a submission is this worker's alone; longer
            than a provider's call can take.
    """

    def __init__(self, store: ControlStore, lease: timedelta = LEASE) -> None:
        self.store = store
        self.lease = lease
        self.worker = f"{socket.gethostname()[:40]}:{os.getpid()}:{secrets.token_hex(4)}"

    def claim(self, occurrence_id: int, limit: int, now: datetime) -> list[dict[str, Any]]:
        """Take at most ``limit`` planned rows that are due; no other worker gets them.

        Empty when the occurrence is paused, stopped, done or past its send-by at ``now``.
        """
        clock = utc_now()
        pick = (
            select(_M.c.id)
            .where(
                _M.c.occurrence_id == occurrence_id,
                _M.c.state == MessageState.PLANNED,
                (_M.c.not_before.is_(None)) | (_M.c.not_before <= now),
                (_M.c.retry_at.is_(None)) | (_M.c.retry_at <= clock),
            )
            .order_by(_M.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)  # SQLite has one writer, and ignores it
            .cte("pick")
            .prefix_with("materialized", dialect="postgresql")  # never run, and locked, twice
        )
        take = (
            _M.update()
            .where(_M.c.id.in_(select(pick.c.id)))
            .values(
                state=MessageState.CLAIMED,
                claimed_by=self.worker,
                lease_until=clock + self.lease,
                updated_time=clock,
            )
            .returning(
                _M.c.id, _M.c.user_id, _M.c.phone_number, _M.c.template_params, _M.c.segments
            )
        )
        with self.store.write() as connection:
            if not _is_open(connection, occurrence_id, now):
                return []
            rows = connection.execute(take).mappings().all()
        return sorted((dict(row) for row in rows), key=lambda row: int(row["id"]))

    def submitting(
        self,
        occurrence_id: int,
        message_ids: Sequence[int],
        gateway: str,
        now: datetime,
    ) -> tuple[int, set[int]]:
        """Write down that a batch is about to be submitted; commit before calling the provider.

        Returns:
            The batch's id and the rows that may be submitted: those whose lease had not run out,
            and none when the occurrence was paused or stopped meanwhile.
        """
        clock = utc_now()
        with self.store.write() as connection:
            if not _is_open(connection, occurrence_id, now):
                return 0, set()
            made = connection.execute(
                schema.batch.insert().values(
                    occurrence_id=occurrence_id,
                    gateway=gateway,
                    worker=self.worker,
                    size=0,
                    submitted_time=clock,
                )
            )
            batch_id = int(made.inserted_primary_key[0])  # type: ignore[index]
            moved = connection.scalars(
                _M.update()
                .where(
                    _M.c.id.in_(message_ids),
                    _M.c.state == MessageState.CLAIMED,
                    _M.c.claimed_by == self.worker,
                    _M.c.lease_until > clock,
                )
                .values(
                    state=MessageState.SUBMITTING,
                    batch_id=batch_id,
                    attempts=_M.c.attempts + 1,
                    lease_until=clock + self.lease,
                    updated_time=clock,
                )
                .returning(_M.c.id)
            ).all()
            table = schema.batch
            mine = table.c.id == batch_id
            if moved:
                connection.execute(table.update().where(mine).values(size=len(moved)))
            else:
                connection.execute(table.delete().where(mine))
        return batch_id, set(moved)

    def record(self, batch_id: int | None, results: Sequence[Settled]) -> None:
        """Write down how submitted or doubtful rows ended; a state never moves backwards.

        Args:
            batch_id: the batch that was answered; None for a look-up or a poison row.
            results: one a row; a row whose present state does not allow its result stays.
        """
        clock = utc_now()
        alike: dict[tuple[Any, ...], list[int]] = {}
        for one in results:
            fields = (one.state, one.reason, one.error_code, one.request_id, one.retry_at)
            alike.setdefault(fields, []).append(one.message_id)
        with self.store.write() as connection:
            for (state, reason, code, request_id, retry_at), message_ids in alike.items():
                sources = [s for s, to in MESSAGE_TRANSITIONS.items() if state in to]
                if state is MessageState.PLANNED:  # a doubtful row is only released by a person
                    sources.remove(MessageState.IN_DOUBT)
                values = {"request_id": request_id} if request_id else {}
                connection.execute(
                    _M.update()
                    .where(_M.c.id.in_(message_ids), _M.c.state.in_(sources))
                    .values(
                        state=state,
                        reason=reason,
                        error_code=code,
                        retry_at=retry_at,
                        claimed_by=None,
                        lease_until=None,
                        updated_time=clock,
                        **values,
                    )
                )
            if batch_id is not None:
                connection.execute(
                    schema.batch.update()
                    .where(schema.batch.c.id == batch_id)
                    .values(answered_time=clock)
                )

    def give_back(self) -> None:
        """Return rows that this worker has claimed but not begun to submit."""
        with self.store.write() as connection:
            connection.execute(
                _M.update()
                .where(_M.c.claimed_by == self.worker, _M.c.state == MessageState.CLAIMED)
                .values(state=MessageState.PLANNED, claimed_by=None, lease_until=None)
            )

    def recover(self) -> int:
        """Take rows from workers whose lease has run out; returns how many are in doubt now."""
        clock = utc_now()
        lapsed = _M.c.lease_until <= clock
        with self.store.write() as connection:
            connection.execute(
                _M.update()
                .where(_M.c.state == MessageState.CLAIMED, lapsed)
                .values(state=MessageState.PLANNED, claimed_by=None, lease_until=None)
            )
            done = connection.execute(
                _M.update()
                .where(_M.c.state == MessageState.SUBMITTING, lapsed)
                .values(
                    state=MessageState.IN_DOUBT,
                    reason="worker_lost",
                    claimed_by=None,
                    lease_until=None,
                    updated_time=clock,
                )
            )
        return int(done.rowcount)


def _is_open(connection: Connection, occurrence_id: int, now: datetime) -> bool:
    row = connection.execute(
        select(_O.c.state, _O.c.due, _O.c.send_by, schema.schedule.c.paused)
        .join(schema.schedule, schema.schedule.c.id == _O.c.schedule_id)
        .where(_O.c.id == occurrence_id)
    ).one()
    ready = row[0] in (OccurrenceState.READY, OccurrenceState.SENDING)
    return bool(ready and row[1] <= now < row[2] and not row[3])
