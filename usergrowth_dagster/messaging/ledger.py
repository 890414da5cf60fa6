"""The send ledger: one row a recipient, and every change of its state.

    planned → claimed → submitting → accepted | rejected | in_doubt → delivered | undelivered
    planned, claimed → expired | skipped

``submitting`` is committed before the provider is called, so a row found in that state after its
lease has run out may or may not have gone out: it becomes ``in_doubt``, is looked up, and is never
sent again unless a person releases it. From ``submitting`` a row comes back only when the provider
said that it did not take it, or by the worker that has not handed it over. A restore puts in doubt
what may have gone out after the copy (:mod:`usergrowth_dagster.messaging.restored`). Leases and
retries run on the real clock; due times and deadlines on the business clock, which may be pinned to
replay historic data.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, select
from sqlalchemy.dialects import postgresql, sqlite

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import (
    MessageState,
    OccurrenceState,
)
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.messaging.people.old_hashes import carry_over, renew
from usergrowth_dagster.messaging.people.phones import PhoneVault
from usergrowth_dagster.messaging.people.rotation import check_key, hold_key

_CHUNK = 5_000
_UPDATE_CHUNK = 50_000
message = schema.message
occurrence = schema.occurrence
OPEN_STATES = (MessageState.PLANNED, MessageState.CLAIMED, MessageState.SUBMITTING)
"""States that a dispatcher still has to move."""


@dataclass(frozen=True)
class Count:
    """Rows of a channel and their billed messages (segments) in one state for one reason."""

    state: MessageState
    reason: str | None
    rows: int
    segments: int
    channel: str


PRICE: ColumnElement[float] = case(
    (
        and_(occurrence.c.other_price.is_not(None), message.c.channel != occurrence.c.channel),
        occurrence.c.other_price,
    ),
    else_=occurrence.c.price,
)
"""Price of one billed message of a row, by the channel that it goes by."""


class Ledger:
    """The ledger's rows in a store.

    Args:
        store: an opened, migrated control store.
        vault: seals phone numbers; must be the one that earlier rows were sealed with.

    Raises:
        UserError: the vault's secret is not the one that the ledger was written with.
    """

    def __init__(self, store: ControlStore, vault: PhoneVault) -> None:
        self.store = store
        self.vault = vault
        check_key(store, vault)
        renew(store, vault)

    def insert(self, occurrence_id: int, rows: Iterable[Mapping[str, Any]]) -> bool:
        """Add recipients, in chunks; those who are there already stay as they are.

        Args:
            occurrence_id: an occurrence in planning.
            rows: user_id, item_id, phone (the channel's address; None when there is none), zone,
                template_params, variant (None: the only text), segments, state (planned or
                skipped) and reason; channel, where it is not that of the occurrence.

        Returns:
            Whether all were taken; False: the occurrence has left planning, so none more may come.
        """
        insert = sqlite.insert if self.store.is_sqlite else postgresql.insert
        now = utc_now()
        channel = None
        for chunk in _chunks(rows, _CHUNK):
            with self.store.write() as connection:
                opened = connection.execute(
                    select(occurrence.c.state, occurrence.c.channel)
                    .where(occurrence.c.id == occurrence_id)
                    .with_for_update(read=True)
                ).one()
                if opened[0] is not OccurrenceState.PLANNING:
                    return False
                channel = opened[1]
                hold_key(connection, self.vault)
                carry_over(connection, self.vault, [row["phone"] for row in chunk if row["phone"]])
                sealed = [self._sealed(row) for row in chunk]
                statement = (
                    insert(message)
                    .values(occurrence_id=occurrence_id, channel=channel, updated_time=now)
                    .on_conflict_do_nothing()  # one message a person, whatever the channel
                )
                connection.execute(
                    statement,
                    [
                        {
                            "channel": channel,
                            **row,
                            "occurrence_id": occurrence_id,
                            "updated_time": now,
                            "attempts": 0,
                        }
                        for row in sealed
                    ],
                )
        return True

    def _sealed(self, row: Mapping[str, Any]) -> dict[str, Any]:
        values = dict(row)
        phone = values.pop("phone")
        values["phone_number"] = self.vault.seal(phone) if phone else None
        values["phone_hash"] = self.vault.digest(phone) if phone else None
        values["user_hash"] = self.vault.user_digest(values["user_id"])
        return values

    def expire(self, occurrence_id: int) -> int:
        """Expire what is still planned of an occurrence past its send-by; returns how many."""
        total = 0
        while True:
            pick = (
                select(message.c.id)
                .where(
                    message.c.occurrence_id == occurrence_id,
                    message.c.state == MessageState.PLANNED,
                )
                .limit(_UPDATE_CHUNK)
                .with_for_update(skip_locked=True)
                .cte("pick")
                .prefix_with("materialized", dialect="postgresql")
            )
            with self.store.write() as connection:
                ids = connection.scalars(
                    message.update()
                    .where(message.c.id.in_(select(pick.c.id)))
                    .values(
                        state=MessageState.EXPIRED, reason="send_by_passed", updated_time=utc_now()
                    )
                    .returning(message.c.id)
                ).all()
            total += len(ids)
            if len(ids) < _UPDATE_CHUNK:
                return total

    def skip_cancelled(self) -> int:
        """Skip rows that came back to a cancelled occurrence; returns how many."""
        cancelled = select(occurrence.c.id).where(occurrence.c.state == OccurrenceState.CANCELLED)
        mine = (message.c.occurrence_id.in_(cancelled), message.c.state == MessageState.PLANNED)
        with self.store.read() as connection:
            if connection.scalar(select(message.c.id).where(*mine).limit(1)) is None:
                return 0
        with self.store.write() as connection:
            return connection.execute(
                message.update()
                .where(*mine)
                .values(state=MessageState.SKIPPED, reason="cancelled", updated_time=utc_now())
            ).rowcount

    def ask_again(self, times: Mapping[datetime, Sequence[int]]) -> None:
        """Note when doubtful rows are to be looked up next."""
        if not times:
            return
        with self.store.write() as connection:
            for moment, message_ids in times.items():
                connection.execute(
                    message.update()
                    .where(message.c.id.in_(message_ids), message.c.state == MessageState.IN_DOUBT)
                    .values(retry_at=moment)
                )

    def has_open(self, connection: Connection, occurrence_id: int) -> bool:
        """Whether a dispatcher still has to move any row of an occurrence."""
        open_rows = select(message.c.id).where(
            message.c.occurrence_id == occurrence_id, message.c.state.in_(OPEN_STATES)
        )
        return connection.scalar(open_rows.limit(1)) is not None

    def in_state(self, occurrence_id: int, state: MessageState) -> int:
        """Rows of an occurrence in one state."""
        query = select(func.count()).where(
            message.c.occurrence_id == occurrence_id, message.c.state == state
        )
        with self.store.read() as connection:
            return connection.scalar(query) or 0

    def doubtful(self) -> list[str]:
        """Names of gateways with rows in doubt."""
        query = (
            select(schema.batch.c.gateway)
            .join(message, schema.batch.c.id == message.c.batch_id)
            .where(message.c.state == MessageState.IN_DOUBT)
            .distinct()
        )
        with self.store.read() as connection:
            return sorted(connection.scalars(query))

    def counts(self, occurrence_id: int) -> list[Count]:
        """Rows by state, reason and channel."""
        alike = (message.c.state, message.c.reason, message.c.channel)
        query = (
            select(*alike, func.count(), func.sum(message.c.segments))
            .where(message.c.occurrence_id == occurrence_id)
            .group_by(*alike)
            .order_by(*alike)
        )
        with self.store.read() as connection:
            return [
                Count(state, reason, rows, int(segments), channel)
                for state, reason, channel, rows, segments in connection.execute(query)
            ]

    def in_doubt(
        self, gateway: str | None, after: int, limit: int, *, asked_before: datetime | None = None
    ) -> list[dict[str, Any]]:
        """Doubtful rows that a gateway (None: any) was given, by id, those above ``after``.

        With ``asked_before`` only those that are to be looked up by then.
        """
        query = (
            select(
                message.c.id,
                message.c.user_id,
                message.c.phone_number,
                message.c.request_id,
                message.c.batch_id,
                message.c.reason,
                message.c.error_code,
                occurrence.c.name.label("occurrence"),
                schema.schedule.c.name.label("schedule"),
                schema.batch.c.gateway,
                schema.batch.c.submitted_time,
            )
            .join(occurrence, occurrence.c.id == message.c.occurrence_id)
            .join(schema.schedule, schema.schedule.c.id == occurrence.c.schedule_id)
            .join(schema.batch, schema.batch.c.id == message.c.batch_id)
            .where(message.c.state == MessageState.IN_DOUBT, message.c.id > after)
            .order_by(message.c.id)
            .limit(limit)
        )
        if gateway is not None:
            query = query.where(schema.batch.c.gateway == gateway)
        if asked_before is not None:
            query = query.where(message.c.retry_at.is_(None) | (message.c.retry_at <= asked_before))
        with self.store.read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def _chunks(rows: Iterable[Mapping[str, Any]], size: int) -> Iterator[list[Mapping[str, Any]]]:
    iterator = iter(rows)
    while chunk := list(islice(iterator, size)):
        yield chunk
