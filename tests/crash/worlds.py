"""A ledger with people to send to, written straight into the tables, and how it is read back."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import (
    MessageState,
    OccurrenceState,
    RepeatUnit,
    ReviewStatus,
    ScheduleStatus,
    TemplateType,
)
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.messaging.ledger import OPEN_STATES, Ledger
from usergrowth_dagster.messaging.people.phones import PhoneVault, open_vault
from usergrowth_dagster.settings import Settings, load_settings

DUE = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)  # 09:00 in Shanghai
NOON = DUE + timedelta(hours=3)
SEND_BY = DUE + timedelta(hours=10)
RANDOM, RECEIVER = "a random moment", "(a receiver of reports)"
"""Where processes die that do not at a fail point."""

CONTENT = "${name}，您好。拒收请回复R"
OTHER = "您好，${name}！拒收请回复R"
"""The other text of every second campaign, half of whose people have it."""
_M = schema.message


@dataclass
class World:
    """One ledger; ``kind`` is what is special about it, ``people`` its recipients in all."""

    name: str
    kind: str
    url: str
    settings: Settings
    people: int
    kills: Counter[str] = field(default_factory=Counter)
    database_errors: int = 0

    @property
    def dispatchers_killed(self) -> int:
        """Without the receivers of reports."""
        return self.kills.total() - self.kills[RECEIVER]

    def open(self) -> ControlStore:
        """Its store; close it before a process is forked."""
        return ControlStore(self.url)

    @property
    def vault(self) -> PhoneVault:
        """Its keys."""
        return open_vault(self.settings.home)


def make_world(
    name: str, kind: str, url: str, home: Path, people: int, campaigns: int = 2
) -> World:
    """A migrated database with campaigns that are due, each with people of its own."""
    home.mkdir(parents=True, exist_ok=True)
    settings = load_settings(home, database_url=url, cap_messages=None)
    store = ControlStore(url)
    store.migrate()
    ledger = Ledger(store, open_vault(home))
    each = people // campaigns
    for number in range(campaigns):
        variants = _variants(f"{name}-{number}") if number % 2 else None
        with store.write() as connection:
            occurrence_id = _campaign(connection, f"{name}-{number}", SEND_BY, variants)
        add_people(ledger, occurrence_id, number * each, each, several=bool(variants))
    store.close()
    return World(name, kind, url, settings, each * campaigns)


def _variants(name: str) -> dict[str, dict[str, str | None]]:
    return {
        "one": {"template_code": f"T-{name}", "content": CONTENT, "subject": None},
        "other": {"template_code": f"T-{name}-other", "content": OTHER, "subject": None},
    }


def variant_of(number: int) -> str:
    """The text of a person of a campaign with two."""
    return "other" if number % 3 == 0 else "one"


def add_people(
    ledger: Ledger, occurrence_id: int, first: int, size: int, *, several: bool = False
) -> None:
    """People with synthetic numbers as planned rows, in chunks; with ``several`` texts or one."""
    for start in range(first, first + size, 5_000):
        numbers = range(start, min(start + 5_000, first + size))
        with ledger.store.write() as connection:
            connection.execute(
                _M.insert(),
                [
                    _row(ledger.vault, occurrence_id, number)
                    | {"variant": variant_of(number) if several else None}
                    for number in numbers
                ],
            )
    with ledger.store.write() as connection:
        connection.execute(
            schema.occurrence.update()
            .where(schema.occurrence.c.id == occurrence_id)
            .values(state=OccurrenceState.READY)
        )


def _row(vault: PhoneVault, occurrence_id: int, number: int) -> dict[str, Any]:
    phone = f"+999{number:010d}"
    return {
        "occurrence_id": occurrence_id,
        "channel": "sms",
        "user_id": f"u{number}",
        "user_hash": vault.user_digest(f"u{number}"),
        "item_id": "item",
        "phone_number": vault.seal(phone),
        "phone_hash": vault.digest(phone),
        "template_params": json.dumps({"name": f"客{number}"}, ensure_ascii=False),
        "segments": 1,
        "state": MessageState.PLANNED,
        "attempts": 0,
        "updated_time": utc_now(),
    }


def _campaign(
    connection: Connection, name: str, send_by: datetime, variants: dict[str, Any] | None
) -> int:
    now = utc_now()
    times = {"created_time": now, "updated_time": now}

    def put(table: Any, **values: Any) -> int:
        made = connection.execute(table.insert().values(**values, **times))
        return int(made.inserted_primary_key[0])

    campaign = put(schema.campaign, name=name, remark="", spec={}, spec_hash="")
    signature = put(
        schema.signature, name=f"店{name}", description="", status=ReviewStatus.APPROVED
    )
    template = put(
        schema.template,
        template_code=f"T-{name}",
        name=name,
        content=CONTENT,
        type=TemplateType.PROMOTION,
        signature_id=signature,
        status=ReviewStatus.APPROVED,
    )
    schedule = put(
        schema.schedule,
        name=name,
        campaign_id=campaign,
        signature_id=signature,
        template_id=template,
        channel="sms",
        repeat_cycle=0,
        repeat_cycle_unit=RepeatUnit.NEVER,
        repeat_times=0,
        paused=False,
        status=ScheduleStatus.CHECK_OK,
    )
    return put(
        schema.occurrence,
        schedule_id=schedule,
        name=f"{name}-1",
        task_id=name,
        channel="sms",
        state=OccurrenceState.PLANNING,
        due=DUE,
        send_by=send_by,
        signature=f"店{name}",
        template_code=f"T-{name}",
        template_type=TemplateType.PROMOTION,
        content=CONTENT,
        price=0.045,
        currency="CNY",
        variants=variants,
    )


def open_rows(store: ControlStore) -> int:
    """Rows that a dispatcher has still to move."""
    with store.read() as connection:
        query = select(func.count()).select_from(_M).where(_M.c.state.in_(OPEN_STATES))
        return connection.scalar(query) or 0


def ledger_rows(store: ControlStore) -> Iterator[tuple[int, str, MessageState, str | None]]:
    """Id, user, state and reason of every row."""
    with store.read() as connection:
        for row in connection.execute(select(_M.c.id, _M.c.user_id, _M.c.state, _M.c.reason)):
            yield row[0], row[1], row[2], row[3]


def codes_of(store: ControlStore) -> dict[int, str]:
    """The code of the template that each row must be sent with."""
    table = schema.occurrence
    query = select(_M.c.id, _M.c.variant, table.c.template_code, table.c.variants)
    with store.read() as connection:
        rows = connection.execute(query.join(table, table.c.id == _M.c.occurrence_id)).tuples()
        return {
            row_id: (variants or {}).get(variant, {}).get("template_code", code)
            for row_id, variant, code, variants in rows
        }
