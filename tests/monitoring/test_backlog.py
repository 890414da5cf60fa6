"""What is open is counted right, at a cost that the history does not change."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from sqlalchemy import select
from support.ledger_rows import NOW, messages, occurrence, open_store

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState, OccurrenceState
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.messaging.operations.backlog import Backlog, read_backlog

S = MessageState
MINUTE = timedelta(minutes=1)
LATER = NOW + 10 * MINUTE
"""The business clock of the questions: ten minutes after the occurrences are due."""


@pytest.fixture
def ledger(database_url: str) -> Iterator[ControlStore]:
    store = open_store(database_url)
    yield store
    store.close()


def run(store: ControlStore, name: str, state: OccurrenceState, **values: Any) -> tuple[int, int]:
    """An occurrence in a state, open for a day."""
    place = occurrence(store, name=name)
    values = {"state": state, "send_by": NOW + timedelta(days=1), **values}
    with store.write() as connection:
        table = schema.occurrence
        connection.execute(table.update().where(table.c.id == place[0]).values(**values))
    return place


def report(store: ControlStore, number: int, *, pending: bool) -> None:
    values = {"digest": f"d{number}".encode(), "gateway": "file", "status": "delivered", "code": ""}
    moment = utc_now() - timedelta(seconds=90)
    with store.write() as connection:
        connection.execute(
            schema.receipt.insert().values(**values, received_time=moment, pending=pending)
        )


def test_each_open_row_is_counted_once_under_what_holds_it(ledger: ControlStore) -> None:
    """Guards against rows that must wait being shown as due, and against an age of what waits."""
    assert read_backlog(ledger, LATER) == Backlog(
        messages={"planned": 0, "claimed": 0, "submitting": 0},
        occurrences={"planning": 0, "ready": 0, "sending": 0, "stopped": 0, "paused": 0},
    )
    number = count()

    def rows(place: tuple[int, int], *states: MessageState, **values: Any) -> None:
        for state in states:
            user = {"user_id": f"u{next(number)}", "user_hash": None, "phone_hash": None}
            messages(ledger, place, [state], **user, **values)

    sending = run(ledger, "one", OccurrenceState.SENDING)
    rows(sending, S.PLANNED, S.PLANNED, not_before=NOW + 4 * MINUTE)
    rows(sending, S.PLANNED, not_before=LATER + MINUTE)
    rows(sending, S.PLANNED, retry_at=utc_now() + MINUTE)
    rows(sending, S.CLAIMED, S.SUBMITTING, S.SUBMITTING, lease_until=utc_now())
    rows(sending, S.IN_DOUBT, S.ACCEPTED, S.DELIVERED, S.SKIPPED)
    rows(sending, S.IN_DOUBT, batch_id=None)  # as a restored copy holds it
    stopped = run(ledger, "two", OccurrenceState.STOPPED)
    rows(stopped, S.PLANNED, S.PLANNED)
    over = run(ledger, "three", OccurrenceState.READY, send_by=NOW + MINUTE)
    rows(over, S.PLANNED)
    run(ledger, "four", OccurrenceState.DONE)
    report(ledger, 1, pending=True)
    report(ledger, 2, pending=False)

    seen = read_backlog(ledger, LATER)
    assert seen.messages == {"planned": 7, "claimed": 1, "submitting": 2}
    assert (seen.due, seen.oldest_due_seconds) == (2, 360.0)
    assert seen.in_doubt == {"aliyun": 1, "unknown": 1}
    assert seen.occurrences == {"planning": 0, "ready": 1, "sending": 1, "stopped": 1, "paused": 0}
    assert seen.receipts == 1 and 90 <= seen.oldest_receipt_seconds < 150

    rows(sending, S.PLANNED)
    assert read_backlog(ledger, LATER).oldest_due_seconds == 600.0
    rows(sending, S.PLANNED, retry_at=utc_now() - timedelta(hours=1))
    assert 3600 <= read_backlog(ledger, LATER).oldest_due_seconds < 3660
    with ledger.write() as connection:
        connection.execute(schema.schedule.update().values(paused=True))
    seen = read_backlog(ledger, LATER)
    assert (seen.due, seen.oldest_due_seconds, seen.occurrences["paused"]) == (0, 0.0, 3)


def history(store: ControlStore, size: int) -> None:
    """So many messages that have been delivered, each with its report."""
    done, batch = run(store, f"done {size}", OccurrenceState.DONE)
    alike = {
        **{"occurrence_id": done, "channel": "sms", "template_params": "{}", "segments": 1},
        **{"state": S.DELIVERED, "batch_id": batch, "attempts": 1, "updated_time": NOW},
        "sent_time": NOW,
    }
    delivered = {"gateway": "file", "status": "delivered", "code": "", "received_time": NOW}
    with store.write() as connection:
        people = [{**alike, "user_id": f"h{size}-{n}"} for n in range(size)]
        connection.execute(schema.message.insert(), people)
        reports = [
            {**delivered, "digest": f"h{size}-{n}".encode(), "pending": False} for n in range(size)
        ]
        connection.execute(schema.receipt.insert(), reports)


def steps(store: ControlStore) -> int:
    """Instructions of SQLite's machine that one count takes."""
    read_backlog(store, LATER)  # the statements are compiled
    taken = 0

    def step() -> int:
        nonlocal taken
        taken += 1
        return 0

    with store.engine.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
    driver.set_progress_handler(step, 1)  # the pool hands out this connection again
    try:
        read_backlog(store, LATER)
    finally:
        driver.set_progress_handler(None, 0)
    assert taken > 100
    return taken


def test_the_cost_does_not_follow_the_history(tmp_path: Any) -> None:
    """Guards against a scrape that reads every message that was ever sent."""
    store = open_store(f"sqlite:///{tmp_path / 'control.db'}")
    messages(store, run(store, "now", OccurrenceState.SENDING), [S.PLANNED] * 20 + [S.IN_DOUBT])
    history(store, 10)
    few = steps(store)
    history(store, 10_000)
    with store.write() as connection:
        connection.exec_driver_sql("analyze")
    many = steps(store)
    with store.read() as connection:
        assert len(connection.scalars(select(schema.message.c.id)).all()) == 10_031
    assert many <= few * 1.2, (few, many)
    store.close()
