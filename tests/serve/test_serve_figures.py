"""What a receiver's figures say of what comes in, and that strangers cannot read or swell them."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from app_desk import home, store
from fastapi.testclient import TestClient
from prometheus_client import generate_latest
from serving import Server
from support.figures import samples, scraped, unused_port
from support.ledger_rows import messages, occurrence
from support.phones import phone

from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.monitoring.process_figures import ReceiverFigures, new_registry
from usergrowth_dagster.serve.app import make_app
from usergrowth_dagster.settings import Settings

__all__ = ["home", "store"]
Receiver = tuple[TestClient, Callable[[], str]]


@pytest.fixture
def receiver(home: Settings, store: ControlStore) -> Iterator[Receiver]:
    """A receiver whose figures can be read, and what reads them."""
    registry = new_registry()
    app = make_app(home, ReceiverFigures(registry))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client, lambda: generate_latest(registry).decode()


def test_a_receiver_counts_by_outcome(receiver: Receiver, store: ControlStore) -> None:
    """Guards against reports, replies and refused calls that no figure shows."""
    client, text = receiver
    ids = messages(store, occurrence(store, "file"), [MessageState.ACCEPTED] * 2)
    path = "/file/unguessable"
    report = {"out_id": str(ids[0]), "success": True}
    for _ in range(2):
        assert client.post(f"{path}/dlr", json=[report, {"success": True}]).status_code == 200
    for content, number in (("td", 0), ("很好", 1)):
        body = [{"phone_number": phone(number), "content": content, "sequence_id": str(number)}]
        assert client.post(f"{path}/up", json=body).status_code == 200
    assert client.post("/file/wrong/up", json=[]).status_code == 403
    assert client.get("/abcdefghijk").status_code == 404
    seen = samples(text())

    def of(name: str, *labels: str) -> float:
        return seen[f"usergrowth_{name}", labels]

    assert of("inbound_items_total", "file", "receipt", "new") == 1
    assert of("inbound_items_total", "file", "receipt", "repeated") == 1
    assert of("inbound_items_total", "file", "receipt", "unreadable") == 1
    assert of("inbound_items_total", "file", "reply", "new") == 2
    assert of("inbound_items_total", "file", "reply", "opt_out") == 1
    assert of("inbound_requests_total", "200", "file", "dlr") == 2
    assert of("inbound_requests_total", "403", "file", "up") == 1
    assert of("link_requests_total", "404") == 1
    assert of("inbound_waiting") == 0
    assert "unguessable" not in text() and "99900" not in text()


def test_strangers_make_no_series(receiver: Receiver) -> None:
    """Guards against labels that anyone can make more of, and figures on the public port."""
    client, text = receiver
    client.get("/nobody/one")
    client.get("/AAAAAAAAAAAA")
    before = set(samples(text()))
    for n in range(40):
        client.post(f"/stranger{n}/dlr{n}")
        client.get(f"/file/token{n}/nothing{n}")
        client.get(f"/AAAAAAAAAAA{n}")
    more = set(samples(text())) - before
    assert {labels for _, labels in more} <= {("429",)}
    for path in ("/metrics", "/metrics/", "/metrics/all"):
        answer = client.get(path)
        assert answer.status_code in (404, 429) and "usergrowth_" not in answer.text


def test_a_process_shows_what_it_cut(tmp_path: Path) -> None:
    """Guards against figures that the command does not connect with its connections and its store."""
    port = unused_port()
    url = f"sqlite:///{tmp_path / 'control.db'}"
    server = Server(tmp_path / "home", url, "--metrics-port", str(port))
    server.start()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
        line.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000)
        with contextlib.suppress(ConnectionError):
            while line.recv(65_536):
                pass
    seen = scraped(port)
    assert seen["usergrowth_connections_cut_total", ("the head of a request is too long",)] == 1
    assert seen["usergrowth_store_up", ()] == 1
    assert seen["usergrowth_queue_messages", ("planned",)] == 0
    assert any(name == "usergrowth_build_info" for name, _ in seen)
    assert any(name == "process_resident_memory_bytes" for name, _ in seen)
    assert server.stop() in (0, -15)
