"""A burst of reports at a really running service, on SQLite and PostgreSQL."""

import itertools
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import TOKEN, Clients, Server
from sqlalchemy import select
from support.ledger_rows import VAULT, messages, occurrence, open_store, rows, states
from support.patience import until
from support.phones import phone

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.messaging.policy.suppression import is_suppressed

SIZE = 10_000


@pytest.fixture
def server(tmp_path: Path, database_url: str) -> Iterator[Server]:
    """A service that is running, whose database has tables."""
    open_store(database_url).close()
    running = Server(tmp_path / "home", database_url)
    running.start()
    yield running
    if running.process is not None and running.process.poll() is None:
        assert running.stop() in (0, -15)


def burst(ids: list[int], most: int) -> list[list[dict[str, object]]]:
    """Every message's report once, some of them twice, in posts of different sizes."""
    draw = random.Random(7)
    entries = [
        {"out_id": str(i), "success": i % 10 > 0, "report_time": "2026-03-01T10:00:00+00:00"}
        for i in ids
    ]
    mixed = entries + draw.sample(entries, len(entries) // 5)
    draw.shuffle(mixed)
    stream, posts = iter(mixed), []
    while post := list(itertools.islice(stream, draw.randint(1, most))):
        posts.append(post)
    return posts


def stored(store: ControlStore) -> set[str]:
    with store.read() as connection:
        return set(connection.scalars(select(schema.receipt.c.out_id)))


def test_burst_with_two_power_cuts(server: Server, database_url: str) -> None:
    """Guards against a report that got its 200 and is gone, or one that counts twice."""
    store = open_store(database_url)
    ids = messages(store, occurrence(store, "file"), [MessageState.ACCEPTED] * SIZE)
    clients = Clients(server.port, f"/file/{TOKEN}/receipts", burst(ids, 25))
    began = time.monotonic()
    clients.start()
    for share in (0.3, 0.6):
        clients.wait_for(share)
        server.kill()
        promised = {
            str(entry["out_id"]) for n in set(clients.acknowledged) for entry in clients.posts[n]
        }
        assert promised <= stored(store)
        server.start()
    clients.join()
    seconds = time.monotonic() - began
    assert len(clients.acknowledged) == len(clients.posts)
    assert set(clients.refused) <= {503}
    receipts = rows(store, schema.receipt)
    assert len(receipts) == len({row["out_id"] for row in receipts}) == SIZE
    end = [MessageState.DELIVERED if i % 10 else MessageState.UNDELIVERED for i in ids]
    assert states(store) == end
    print(
        f"{store.engine.dialect.name}: {SIZE} reports, {len(clients.posts)} posts, {seconds:.1f} s"
    )


def test_refusal_holds_when_it_is_answered(server: Server, database_url: str) -> None:
    """Guards against a refusal that a provider was thanked for and that does not hold yet."""
    store = open_store(database_url)
    messages(store, occurrence(store, "file"), [MessageState.PLANNED] * 50)
    for n in range(0, 50, 10):
        body = [{"phone_number": phone(n), "content": "td。", "sequence_id": str(n)}]
        answer = server.call("POST", f"/file/{TOKEN}/up", json.dumps(body).encode())
        assert answer == (200, '{"code": 0, "msg": "1 replies taken"}')
        with store.read() as connection:
            suppressed = is_suppressed("sms", "any")
            query = select(schema.message.c.user_id).where(suppressed).order_by(schema.message.c.id)
            assert list(connection.scalars(query)) == [f"u{k}" for k in range(0, n + 1, 10)]
    assert server.stop() in (0, -15)
    log = server.log.read_text()
    assert "POST /file/up 200" in log
    assert TOKEN not in log and "99900000" not in log
    assert VAULT.digest(phone(0)).hex() not in log


def test_reports_before_the_answer_are_applied_by_themselves(
    server: Server, database_url: str
) -> None:
    """Guards against a report that overtook the answer and waits for ever, with no dispatcher."""
    store = open_store(database_url)
    ids = messages(store, occurrence(store, "file"), [MessageState.SUBMITTING])
    body = json.dumps([{"out_id": str(ids[0]), "success": True}]).encode()
    assert server.call("POST", f"/file/{TOKEN}/dlr", body)[0] == 200
    assert states(store) == [MessageState.SUBMITTING]
    with store.write() as connection:
        connection.execute(schema.message.update().values(state=MessageState.ACCEPTED))
    until(lambda: states(store) == [MessageState.DELIVERED], every=0.1)
