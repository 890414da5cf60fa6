"""What the control store knows of one person: messages, receipts, suppressions, contact now.

Rows are found by the keyed hash of the user id, so this holds for forgotten persons too. Addresses
come out masked. Times are UTC.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, or_, select

from usergrowth_dagster.addresses.shown import mask
from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.messaging.people.phones import PhoneVault
from usergrowth_dagster.messaging.policy.contact import SENT_STATES, contact_rules, screen
from usergrowth_dagster.settings import Settings

message, occurrence, suppression = schema.message, schema.occurrence, schema.suppression
_MESSAGE = (
    *(
        message.c.id,
        message.c.occurrence_id,
        message.c.channel,
        message.c.state,
        message.c.reason,
        message.c.error_code,
    ),
    *(
        message.c.attempts,
        message.c.segments,
        message.c.zone,
        message.c.not_before,
        message.c.retry_at,
        message.c.sent_time,
    ),
    *(
        message.c.variant,
        message.c.final_time,
        message.c.updated_time,
        message.c.phone_number,
        message.c.phone_hash,
    ),
    *(
        occurrence.c.task_id,
        occurrence.c.name.label("occurrence"),
        occurrence.c.due,
        occurrence.c.send_by,
        occurrence.c.signature,
    ),
    occurrence.c.state.label("occurrence_state"),
    occurrence.c.reason.label("occurrence_reason"),
    occurrence.c.contact,
    occurrence.c.template_type,
    schema.schedule.c.paused,
    schema.campaign.c.name.label("campaign"),
    schema.batch.c.gateway,
)
_HIDDEN = ("phone_number", "phone_hash", "occurrence_id", "contact", "template_type")


@dataclass(frozen=True)
class Contact:
    """Whether a person may be contacted now, by the settings' rules.

    Args:
        suppressed: suppressions in force.
        lifted: earlier ones.
        counted: messages of the last ``cap_days`` days, which count for the cap.
        cap: how many may be; None: no cap.
        cap_days: over how many days.
        opens: until when quiet hours last, in the zone of the newest message; None: not quiet now.
    """

    suppressed: list[dict[str, Any]] = field(default_factory=list)
    lifted: list[dict[str, Any]] = field(default_factory=list)
    counted: list[dict[str, Any]] = field(default_factory=list)
    cap: int | None = None
    cap_days: int = 0
    opens: datetime | None = None

    @property
    def capped(self) -> bool:
        """Whether the cap is reached."""
        return self.cap is not None and len(self.counted) >= self.cap


@dataclass(frozen=True)
class Record:
    """Everything of one person; each message has its ``receipts`` and the ``verdict`` on it now."""

    messages: list[dict[str, Any]]
    contact: Contact


def read_person(
    store: ControlStore,
    settings: Settings,
    vault: PhoneVault,
    user_id: str,
    addresses: Collection[str],
    now: datetime,
) -> Record:
    """Read what the control store knows of a user.

    Args:
        store: the control store.
        settings: contact rules.
        vault: opens and hashes addresses.
        user_id: the user.
        addresses: what else is known to be theirs, such as a phone of a population.
        now: business clock.
    """
    mine = vault.user_digest(user_id)
    with store.read() as connection:
        rows = _messages(connection, mine)
        hashes = vault.every_digest(addresses)
        hashes |= {row["phone_hash"] for row in rows if row["phone_hash"]}
        receipts = _receipts(connection, [row["id"] for row in rows])
        for row in rows:
            row["receipts"] = receipts.get(row["id"], [])
            row["verdict"] = _verdict(connection, settings, row, now)
        suppressions = _suppressions(connection, mine, hashes)
        contact = _contact(connection, settings, suppressions, rows, mine, hashes, now)
    for row in rows:
        sealed = row["phone_number"]
        row["address"] = mask(vault.open(sealed)) if sealed else None
        for name in _HIDDEN:
            del row[name]
    return Record(rows, contact)


def _messages(connection: Connection, user_hash: bytes) -> list[dict[str, Any]]:
    query = (
        select(*_MESSAGE)
        .join(occurrence, occurrence.c.id == message.c.occurrence_id)
        .join(schema.schedule, schema.schedule.c.id == occurrence.c.schedule_id)
        .join(schema.campaign, schema.campaign.c.id == schema.schedule.c.campaign_id)
        .join(schema.batch, schema.batch.c.id == message.c.batch_id, isouter=True)
        .where(message.c.user_hash == user_hash)
        .order_by(occurrence.c.due, message.c.id)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def _receipts(connection: Connection, message_ids: Sequence[int]) -> dict[int, list[Any]]:
    table = schema.receipt
    names = (table.c.gateway, table.c.status, table.c.code, table.c.report_time)
    query = (
        select(table.c.message_id, *names, table.c.received_time)
        .where(table.c.message_id.in_(message_ids))
        .order_by(table.c.received_time, table.c.id)
    )
    by_message: dict[int, list[Any]] = {}
    for row in connection.execute(query).mappings():
        values = dict(row)
        by_message.setdefault(values.pop("message_id"), []).append(values)
    return by_message


def _verdict(
    connection: Connection, settings: Settings, row: Mapping[str, Any], now: datetime
) -> dict[str, Any] | None:
    """What the contact policy says of a message that has not gone out, if it objects."""
    if row["state"] not in (MessageState.PLANNED, MessageState.CLAIMED):
        return None
    verdicts = screen(
        connection,
        contact_rules(settings, row["contact"]),
        occurrence_id=row["occurrence_id"],
        channel=row["channel"],
        signature=row["signature"],
        template_type=row["template_type"],
        now=max(now, row["due"]),
        message_ids=[row["id"]],
    )
    if not verdicts:
        return None
    return {"reason": verdicts[0].reason, "wait_until": verdicts[0].wait_until}


def _suppressions(
    connection: Connection, user_hash: bytes, hashes: Collection[bytes]
) -> list[dict[str, Any]]:
    names = (
        suppression.c.channel,
        suppression.c.scope,
        suppression.c.reason,
        suppression.c.source,
        suppression.c.created_time,
    )
    query = (
        select(
            *names, suppression.c.lifted_time, suppression.c.user_hash.is_not(None).label("by_user")
        )
        .where(or_(suppression.c.user_hash == user_hash, suppression.c.phone_hash.in_(hashes)))
        .order_by(suppression.c.created_time, suppression.c.id)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def _contact(
    connection: Connection,
    settings: Settings,
    suppressions: Sequence[dict[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    user_hash: bytes,
    hashes: Collection[bytes],
    now: datetime,
) -> Contact:
    rules = contact_rules(settings, None)
    query = (
        select(
            message.c.sent_time,
            schema.campaign.c.name.label("campaign"),
            message.c.channel,
            message.c.state,
        )
        .join(occurrence, occurrence.c.id == message.c.occurrence_id)
        .join(schema.schedule, schema.schedule.c.id == occurrence.c.schedule_id)
        .join(schema.campaign, schema.campaign.c.id == schema.schedule.c.campaign_id)
        .where(
            or_(message.c.user_hash == user_hash, message.c.phone_hash.in_(hashes)),
            message.c.state.in_(SENT_STATES),
            message.c.sent_time > now - timedelta(days=rules.cap_days),
        )
        .order_by(message.c.sent_time)
    )
    opening = rules.next_open(now, rows[-1]["zone"] if rows else None)
    return Contact(
        suppressed=[row for row in suppressions if row["lifted_time"] is None],
        lifted=[row for row in suppressions if row["lifted_time"] is not None],
        counted=[dict(row) for row in connection.execute(query).mappings()],
        cap=rules.cap_messages,
        cap_days=rules.cap_days,
        opens=opening if opening != now else None,
    )
