"""Several campaigns to the same people, for the tests of the contact policy."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import parse_campaign
from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.control.jobs import task_running, task_succeeded
from usergrowth_dagster.control.review import review
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.control.tasks import register_task, task
from usergrowth_dagster.messaging.gateways.protocol import Answer, OutBatch, Result
from usergrowth_dagster.messaging.people.phones import PhoneVault, open_vault
from usergrowth_dagster.messaging.plans.plan import SendPlan, plan_send
from usergrowth_dagster.settings import Settings, load_settings

NOON = datetime(2026, 3, 4, 4, tzinfo=UTC)
"""Noon in Shanghai, on the execution date of campaigns that name none."""
YAML = """\
name: {name}
algorithm: churn
training: {{window_days: 180}}
population: population/{name}-*
execution_date: on upload
selection: {{threshold: 0.12}}
signature: {{name: {signature}}}
template: {{name: {name}, type: {kind}, content: "Hi, 回T退订"}}
schedule: {{name: {name}, {schedule}}}
contact: {{{contact}}}
channel: {channel}
"""
Person = tuple[str, str | None]
"""User and phone (or e-mail address)."""


class Counting:
    """A gateway that accepts everything and remembers whom it sent to."""

    name = "file"
    max_batch = 7
    rate = None

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, str]] = []

    def submit(self, batch: OutBatch) -> list[Result]:
        self.sent += [(m.user_id, m.phone, batch.schedule) for m in batch.messages]
        return [Result(m.out_id, Answer.ACCEPTED) for m in batch.messages]

    def look_up(self, inquiries: Sequence[Any]) -> list[Any]:
        return []


@dataclass
class Desk:
    """A store with campaigns; ``plan`` makes a new upload of one and its send plan."""

    store: ControlStore
    settings: Settings
    uploads: int = 0

    @classmethod
    def at(cls, home: Path, url: str, **settings: Any) -> "Desk":
        made = load_settings(home, database_url=url, **settings)
        store = ControlStore(made.database, made.zone)
        store.migrate()
        return cls(store, made)

    @property
    def vault(self) -> PhoneVault:
        return open_vault(self.settings.home)

    def campaign(
        self,
        name: str,
        contact: str = "",
        schedule: str = "",
        kind: str = "promotion",
        signature: str = "Shop",
        channel: str = "sms",
    ) -> None:
        text = YAML.format(
            name=name,
            contact=contact,
            schedule=schedule,
            kind=kind,
            signature=signature,
            channel=channel,
        )
        apply_campaign(self.store, parse_campaign(text), "ann")
        review(self.store, "signature", signature, True, None, "bob")
        review(self.store, "template", name, True, None, "bob")

    def plan(
        self,
        name: str,
        people: Sequence[Person],
        now: datetime = NOON,
        zones: Sequence[str | None] = (),
    ) -> SendPlan:
        self.uploads += 1
        upload = f"{name}-{self.uploads}"
        day = now.astimezone(self.settings.zone).date()
        register_task(self.store, name, upload, day, "test")
        task_running(self.store, upload)
        task_succeeded(self.store, upload, population=len(people), selected=len(people))
        return plan_send(
            self.store,
            self.settings,
            task(self.store, upload),
            [plan_rows(people, zones)],
            now=now,
        )

    def rows(self) -> list[dict[str, Any]]:
        """All ledger rows, in order, with their occurrence's schedule and signature."""
        message, made = schema.message, schema.occurrence
        query = (
            select(message, made.c.name.label("occurrence"), made.c.price)
            .join(made, made.c.id == message.c.occurrence_id)
            .order_by(message.c.id)
        )
        with self.store.read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def states(self) -> list[tuple[str, str, str | None]]:
        """User, state and reason of all rows, in order."""
        return [(row["user_id"], str(row["state"]), row["reason"]) for row in self.rows()]


def plan_rows(people: Sequence[Person], zones: Sequence[str | None] = ()) -> pa.Table:
    """Rows of a plan, all of one message."""
    size = len(people)
    return pa.table(
        {
            "user_id": pa.array([user for user, _ in people], pa.string()),
            "item_id": pa.array(["item"] * size, pa.string()),
            "phone": pa.array(
                [to if "@" not in (to or "") else None for _, to in people], pa.string()
            ),
            "email": pa.array([to if "@" in (to or "") else None for _, to in people], pa.string()),
            "zone": pa.array([*zones, *[None] * (size - len(zones))], pa.string()),
            "params": pa.array(["{}"] * size, pa.string()),
            "segments": pa.array([1] * size, pa.int32()),
            "reason": pa.array([None] * size, pa.string()),
        }
    )


def went_out(desk: Desk) -> list[dict[str, Any]]:
    """Rows that were accepted, in the order of their ids."""
    return [row for row in desk.rows() if row["state"] is MessageState.ACCEPTED]


def hours(number: float) -> timedelta:
    return timedelta(hours=number)
