"""A ledger with a planned campaign, a provider that counts, and views of what became of rows."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import func, select

from support.sending import CONTENT, YAML, crowd, ready
from usergrowth_dagster.control import schema
from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import parse_campaign
from usergrowth_dagster.control.jobs import task_running, task_succeeded
from usergrowth_dagster.control.review import review
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.control.tasks import task
from usergrowth_dagster.messaging.gateways.protocol import (
    Answer,
    Callback,
    Finding,
    Found,
    Inquiry,
    OutBatch,
    Receipt,
    Reply,
    Result,
)
from usergrowth_dagster.messaging.plans.plan import plan_send
from usergrowth_dagster.settings import Settings

Desk = tuple[ControlStore, Settings]


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Iterator[Desk]:
    """A store with a decided, approved campaign, and settings pinned to its day."""
    store, settings = ready(tmp_path / "home", database_url)
    yield store, settings
    store.close()


def tuned(desk: Desk, **values: object) -> Desk:
    """The desk with other settings."""
    store, settings = desk
    return store, settings.model_copy(update=values)


def states(desk: Desk) -> dict[tuple[str, str | None], int]:
    table = schema.message
    query = select(table.c.state, table.c.reason, func.count()).group_by(
        table.c.state, table.c.reason
    )
    with desk[0].read() as connection:
        return {(str(row[0]), row[1]): row[2] for row in connection.execute(query)}


def row_ids(desk: Desk) -> list[int]:
    with desk[0].read() as connection:
        return list(connection.scalars(select(schema.message.c.id).order_by(schema.message.c.id)))


class Provider:
    """A gateway that counts what it takes, and does something before it answers."""

    rate: float | None = None

    def __init__(
        self,
        name: str = "provider",
        max_batch: int = 100,
        answer: Answer = Answer.ACCEPTED,
        before: Callable[[OutBatch], None] = lambda batch: None,
    ) -> None:
        self.name, self.max_batch, self.answer, self.before = name, max_batch, answer, before
        self.taken: Counter[str] = Counter()
        self.batches: list[tuple[str, int]] = []

    def require_set_up(self) -> None:
        """Nothing to set up."""

    def submit(self, batch: OutBatch) -> Sequence[Result]:
        self.batches.append((batch.schedule, len(batch.messages)))
        self.before(batch)
        if self.answer is Answer.ACCEPTED:
            self.taken.update(message.user_id for message in batch.messages)
        return [Result(m.out_id, self.answer, "X1", f"r{m.out_id}") for m in batch.messages]

    def look_up(self, inquiries: Sequence[Inquiry]) -> Sequence[Finding]:
        return [Finding(one.out_id, Found.NOT_FOUND) for one in inquiries]

    def parse_receipts(self, callback: Callback) -> Sequence[Receipt]:
        return []

    def parse_replies(self, callback: Callback) -> Sequence[Reply]:
        return []


def second_campaign(desk: Desk, name: str, signature: str = "第二商店") -> None:
    """Another campaign with people of its own, planned for the same day."""
    store, settings = desk
    text = YAML.replace(CONTENT, "新年好。拒收请回复R")
    for old, new in (
        ("name: december\n", f"name: {name}\n"),
        ("december-2017", f"{name}-2017"),
        ("示例商店", signature),
        ("december offer", f"{name} offer"),
        ("december send", f"{name} send"),
    ):
        text = text.replace(old, new)
    apply_campaign(store, parse_campaign(text), "ann")
    task_running(store, f"{name}-2017")
    task_succeeded(store, f"{name}-2017", population=10, selected=3)
    review(store, "signature", signature, True, None, "bob")
    review(store, "template", f"{name} offer", True, None, "bob")
    plan_send(store, settings, task(store, f"{name}-2017"), [crowd(30)])
