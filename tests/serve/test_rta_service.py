"""The service on a socket: answers of each exchange, strangers, a swap under load, and too much."""

import json
import logging
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from support.patience import PATIENCE, until
from support.rta_service import Service, policy, running, today, write

from usergrowth_dagster.acquisition.adapters.tencent_pb2 import Request, Response
from usergrowth_dagster.acquisition.devices import Device, hashed
from usergrowth_dagster.acquisition.snapshot import Known
from usergrowth_dagster.serve.rta.app import Limits

HERE = Device("oaid", hashed("oaid", "here"))
RULES = policy(
    strategies=[
        {"name": "lapsed", "device": "known", "active": False, "score_at_least": 0.5},
        {"name": "new", "device": "unknown"},
    ]
)


def asked(device: Device = HERE, **fields: Any) -> bytes:
    sent = Request(id="r", device=Request.Device(oaid_md5sum=device.md5), **fields)
    return bytes(sent.SerializeToString())


def answer(service: Service, body: bytes) -> Response:
    status, content = service.post("/rta/tencent", body)
    assert status == 200
    return Response.FromString(content)


def test_a_home_without_and_with_a_snapshot_answers_and_swaps(tmp_path: Path) -> None:
    """Guards against a service that answers by old facts once new ones are there."""
    with running(tmp_path, RULES) as service:
        assert service.post("/health", b"")[0] == 503 and service.post("/live", b"")[0] == 200
        assert answer(service, asked()).code == 1
        for known, targets in (
            (Known(False, 0.75), ["lapsed"]),
            (Known(True, 0.75), []),
            (Known(False, 0.25), []),
        ):
            write(tmp_path, {HERE: known})
            service.answering.look()
            said = answer(service, asked())
            assert (said.request_id, said.out_target_id) == ("r", targets)
            assert said.code == (0 if targets else 1)
        assert service.post("/health", b"")[0] == 200
        assert answer(service, asked(Device("oaid", hashed("oaid", "x")))).out_target_id == ["new"]
        assert answer(service, asked(is_ping=True)).code == 0
        body = json.dumps({"reqId": "j", "dids": [{"type": "OAID", "did": "new one"}]}).encode()
        status, content = service.post("/rta/json", body)
        assert (status, json.loads(content)["result"]["data"]) == (200, [{"rtaId": "new"}])
        bid = {"id": "1", "device": {"ifa": "here"}}
        assert service.post("/rta/openrtb", json.dumps(bid).encode()) == (204, b"")
        assert service.figure("ping") == 1 and service.figure("reject") == 3
    assert (
        service.registry.get_sample_value(
            "usergrowth_rta_answers_total", {"exchange": "json", "outcome": "accept"}
        )
        == 1
    )


def test_strangers_get_a_refusal_and_nobody_waits_for_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Guards against a slow, oversized or broken request that costs others their answer."""
    caplog.set_level(logging.INFO)
    write(tmp_path, {HERE: Known(False, 0.75)})
    with running(
        tmp_path, RULES, Limits(body=1000, body_seconds=0.5, budget_seconds=30)
    ) as service:
        slow = [socket.create_connection(("127.0.0.1", service.port), 20) for _ in range(20)]
        head = b"POST /rta/tencent HTTP/1.1\r\nHost: x\r\n"
        for one in slow:
            one.sendall(head + b"Content-Length: 50\r\n\r\nabc")
        assert answer(service, asked()).code == 0
        assert service.post("/rta/tencent", b"\xff\xff")[0] == 400
        assert service.post("/rta/json", HERE.md5.encode())[0] == 400
        assert service.post("/rta/none", b"")[0] == 404
        assert service.post("/rta/tencent", b"x" * 1001)[0] == 413
        for one in slow:
            assert b" 408 " in one.recv(200)
            one.close()
        with socket.create_connection(("127.0.0.1", service.port), 20) as pieces:
            pieces.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
            for _ in range(11):
                pieces.sendall(b"64\r\n" + b"x" * 100 + b"\r\n")
            assert b" 413 " in pieces.recv(200)
        with socket.create_connection(("127.0.0.1", service.port), 20) as gone:
            gone.sendall(head + b"Content-Length: 50\r\n\r\nabc")
        with socket.create_connection(("127.0.0.1", service.port), 20) as get:
            get.sendall(b"GET /rta/tencent HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 405 " in get.recv(200)
        assert answer(service, asked()).code == 0
        assert service.figure("413") == 2 and service.figure("408") == 20
    assert HERE.md5 not in caplog.text


def test_no_request_fails_while_snapshots_are_swapped(tmp_path: Path) -> None:
    """Guards against a request that reads a snapshot which is taken away under it."""
    others = {Device("oaid", hashed("oaid", str(n))): Known(True, None) for n in range(2_000)}
    write(tmp_path, others | {HERE: Known(False, 0.5)})
    wrong, done, ended = [], [0], threading.Event()
    with running(tmp_path, RULES) as service:

        def ask() -> None:
            while not ended.is_set():
                try:
                    if answer(service, asked()).out_target_id != ["lapsed"]:
                        wrong.append("another answer")
                    done[0] += 1
                except Exception as error:
                    wrong.append(repr(error))

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for one in threads:
            one.start()
        swapped = set()
        for number in range(12):
            write(tmp_path, others | {HERE: Known(False, 0.5 + number / 100)}, today())
            service.answering.look()
            snapshot = service.answering()
            assert snapshot is not None
            swapped.add(snapshot.name)
            wanted = done[0] + 5
            until(lambda wanted=wanted: done[0] >= wanted or wrong)
        ended.set()
        for one in threads:
            one.join()
    assert not wrong and len(swapped) == 12 and done[0] >= 60


def test_too_much_is_rejected_unread(tmp_path: Path) -> None:
    """Guards against a queue that makes every answer late, instead of a few that say no."""
    write(tmp_path, {HERE: Known(False, 0.75)})
    with running(tmp_path, RULES, Limits(per_second=3, budget_seconds=30)) as service:
        codes = [answer(service, asked()).code for _ in range(8)]
        assert codes[:3] == [0, 0, 0] and codes.count(1) >= 1
        assert service.figure("shed") == codes.count(1)
    with running(tmp_path, RULES, Limits(budget_seconds=1e-9)) as service:
        assert answer(service, asked()).code == 1
        assert service.figure("late") == 1
    one_only = Limits(open=1, body_seconds=2 * PATIENCE, budget_seconds=30)
    with (
        running(tmp_path, RULES, one_only) as service,
        socket.create_connection(("127.0.0.1", service.port), 20) as slow,
    ):
        slow.sendall(b"POST /rta/tencent HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nabc")
        until(lambda: answer(service, asked()).code != 0)
        assert service.figure("shed") == 1
