"""Rows of the ledger, written straight into the tables, for tests of what comes back."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from support.phones import phone
from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import (
    MessageState,
    OccurrenceState,
    RepeatUnit,
    ReviewStatus,
    ScheduleStatus,
    TemplateType,
)
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.messaging.people.phones import PhoneVault

VAULT = PhoneVault.from_secret(b"0123456789abcdef")
NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
SIGNATURE = "示例商店"


def open_store(url: str) -> ControlStore:
    """A migrated store."""
    store = ControlStore(url)
    store.migrate()
    return store


def occurrence(store: ControlStore, gateway: str = "aliyun", name: str = "one") -> tuple[int, int]:
    """An occurrence with one batch of a gateway; returns both ids."""
    times = {"created_time": NOW, "updated_time": NOW}

    def put(table: Any, **values: Any) -> int:
        if table in (schema.campaign, schema.signature, schema.template, schema.schedule):
            existing = connection.scalar(select(table.c.id).where(table.c.name == values["name"]))
            if existing is not None:
                return int(existing)
        made = connection.execute(table.insert().values(**values))
        return int(made.inserted_primary_key[0])

    with store.write() as connection:
        campaign = put(schema.campaign, name="c", remark="", spec={}, spec_hash="", **times)
        signature = put(
            schema.signature,
            name=SIGNATURE,
            description="",
            status=ReviewStatus.APPROVED,
            **times,
        )
        template = put(
            schema.template,
            template_code="SMS_1",
            name="t",
            content="",
            type=TemplateType.PROMOTION,
            signature_id=signature,
            status=ReviewStatus.APPROVED,
            **times,
        )
        schedule = put(
            schema.schedule,
            name="s",
            campaign_id=campaign,
            signature_id=signature,
            template_id=template,
            channel="sms",
            repeat_cycle=0,
            repeat_cycle_unit=RepeatUnit.NEVER,
            repeat_times=0,
            paused=False,
            status=ScheduleStatus.SENDING,
            **times,
        )
        occurrence_id = put(
            schema.occurrence,
            schedule_id=schedule,
            name=name,
            task_id="t",
            channel="sms",
            state=OccurrenceState.SENDING,
            due=NOW,
            send_by=NOW,
            signature=SIGNATURE,
            template_code="SMS_1",
            template_type=TemplateType.PROMOTION,
            content="",
            price=0.1,
            currency="CNY",
            **times,
        )
        batch = put(
            schema.batch,
            occurrence_id=occurrence_id,
            gateway=gateway,
            worker="w",
            size=1,
            submitted_time=NOW,
        )
    return occurrence_id, batch


def messages(
    store: ControlStore, place: tuple[int, int], states: Sequence[MessageState], **values: Any
) -> list[int]:
    """One recipient a state, the n-th with phone(n); returns their ids."""
    occurrence_id, batch = place
    rows = [
        {
            "occurrence_id": occurrence_id,
            "channel": "sms",
            "user_id": f"u{n}",
            "phone_number": VAULT.seal(phone(n)),
            "phone_hash": VAULT.digest(phone(n)),
            "user_hash": VAULT.user_digest(f"u{n}"),
            "template_params": "{}",
            "segments": 1,
            "state": state,
            "batch_id": batch,
            "attempts": 1,
            "updated_time": NOW,
            **values,
        }
        for n, state in enumerate(states)
    ]
    with store.write() as connection:
        ids = list(connection.scalars(schema.message.insert().returning(schema.message.c.id), rows))
    return sorted(ids)


def states(store: ControlStore) -> list[MessageState]:
    """States of all recipients, by id."""
    with store.read() as connection:
        return list(
            connection.scalars(select(schema.message.c.state).order_by(schema.message.c.id))
        )


def rows(store: ControlStore, table: Any) -> list[dict[str, Any]]:
    """A table, by id."""
    with store.read() as connection:
        return [dict(r) for r in connection.execute(select(table).order_by(table.c.id)).mappings()]


def set_state(store: ControlStore, message_id: int, state: MessageState, **values: Any) -> None:
    """What a dispatcher would write."""
    with store.write() as connection:
        connection.execute(
            schema.message.update()
            .where(schema.message.c.id == message_id)
            .values(state=state, **values)
        )
