"""Connections that bring nothing, little by little, or too much, at a really listening server."""

import asyncio
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from serving import Server, free_port
from support.ledger_rows import open_store
from support.patience import PATIENCE, no_hang

from usergrowth_dagster.serve.connections import Limits, guarded

SMALL = Limits(
    most_open=12,
    most_half_open=5,
    grace_seconds=0.3,
    head_seconds=0.6,
    request_seconds=1.2,
    head_bytes=4096,
    most_headers=20,
    most_pieces=50,
)
SLOW_SECONDS = 3.5
PATIENT = replace(SMALL, head_seconds=3, request_seconds=6)
"""For clients that must not be cut: a busy machine may hold this process up for a second."""
GOOD = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """An application that reads the body, and answers with its size."""
    size, more = 0, True
    while more and scope["path"] != "/early":
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        if message["type"] == "http.disconnect":
            return
    if scope["path"] == "/busy":
        time.sleep(1.0)  # on purpose: the whole server stands still
    if scope["path"] == "/slow":
        await asyncio.sleep(SLOW_SECONDS)
    body = str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def listening(limits: Limits) -> Iterator[int]:
    """A server with limits; its port."""
    port = free_port()
    config = uvicorn.Config(
        echo, port=port, http=guarded(limits), lifespan="off", log_config=None, ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield port
    finally:
        server.should_exit = True
        thread.join(timeout=PATIENCE)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with listening(SMALL) as listening_port:
        yield listening_port


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def said(line: socket.socket, until: bytes = b"") -> bytes:
    """What comes until the connection ends, or until a text."""
    answer = b""
    try:
        while not (until and until in answer):
            some = line.recv(65_536)
            if not some:
                return answer
            answer += some
    except ConnectionError:
        return answer
    return answer


def ends_with_newcomers(line: socket.socket, port: int) -> bool:
    """Whether a silent connection ends once others come, each of which is served.

    Newcomers come for ten seconds: a busy machine accepts a connection well after it was made, so
    that the first newcomer can find the silent ones younger than their grace.
    """
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with connect(port) as newcomer:
            newcomer.sendall(GOOD)
            said(newcomer, b"\r\n\r\n")
            if select.select([line], [], [], 0.1)[0]:
                return True
    return False


@pytest.mark.parametrize(
    ("first", "piece"),
    [
        (b"", b""),
        (b"GET /x HTTP/1.1\r\n", b""),
        (b"GET /x HTTP/1.1\r\n", b"A"),
        (b"GET /x HTTP/1.1\r\n", b"A: b\r\n"),
        (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (GOOD, b""),
        (GOOD, b"G"),
    ],
)
def test_slow_connections_end(port: int, first: bytes, piece: bytes) -> None:
    """Guards against a connection that is held for ever, silent or byte by byte."""
    with no_hang(), connect(port) as line:
        line.sendall(first)
        ended = threading.Event()

        def drip() -> None:
            while piece and not ended.wait(0.05):
                try:
                    line.sendall(piece)
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        said(line)
        ended.set()
        thread.join()


def test_good_connections_go_on() -> None:
    """Guards against limits that cut a client which asks again and again, or waits for an answer."""
    with listening(PATIENT) as port, connect(port) as line:
        for _ in range(12):
            time.sleep(0.3)  # longer in all than a head may take
            line.sendall(GOOD)
            assert b"200 OK" in said(line, b"\r\n\r\n0")
        line.sendall(GOOD.replace(b"/x", b"/slow") * 2)  # each answer takes longer than a head may
        assert said(line, b"\r\n\r\n0").count(b"200 OK") == 1
        assert said(line, b"\r\n\r\n0").count(b"200 OK") == 1
        body = b"x" * 200_000
        line.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + body)
        assert b"200000" in said(line, b"200000")


@pytest.mark.parametrize("requests", [1, 3])
def test_a_large_request_in_one_piece(requests: int) -> None:
    """Guards against a busy server that takes a body, read at once with its head, for a long head."""
    size = PATIENT.head_bytes * 5
    post = f"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode() + b"x" * size
    with listening(PATIENT) as port, connect(port) as busy, connect(port) as line:
        line.sendall(GOOD)
        assert b"200 OK" in said(line, b"\r\n\r\n0")
        busy.sendall(GOOD.replace(b"/x", b"/busy"))
        time.sleep(0.3)
        line.sendall(post * requests)
        answers = b""
        while answers.count(b"200 OK") < requests:
            some = said(line, str(size).encode())
            assert some, "the connection was cut"
            answers += some


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /x HTTP/1.1\r\n" + b"A: b\r\n" * 30 + b"\r\n", b"400"),
        (b"GET /x HTTP/1.1\r\nA: " + b"b" * 100_000, b""),
        (b"GET /" + b"x" * 100_000, b""),
        (b"\0" * 100_000, b"400"),
        (
            b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"1\r\nx\r\n" * 99,
            b"",
        ),
    ],
)
def test_too_much_is_refused(port: int, request_: bytes, status: bytes) -> None:
    """Guards against heads without end, and bodies of a million pieces."""
    with connect(port) as line:
        try:
            line.sendall(request_)
        except ConnectionError:
            return
        answer = said(line)
    assert status in answer.partition(b"\r\n")[0] and b"200" not in answer


def test_half_open_connections_of_one_peer() -> None:
    """Guards against one peer that takes all connections and sends nothing."""
    with listening(replace(SMALL, head_seconds=30)) as port:
        silent = [connect(port) for _ in range(SMALL.most_half_open + 3)]
        try:
            time.sleep(SMALL.grace_seconds)
            assert ends_with_newcomers(silent[3], port)
            assert [said(line) for line in silent[:4]] == [b""] * 4
            for line in silent[4:]:
                line.sendall(GOOD)  # the youngest are still served
                assert b"200 OK" in said(line, b"\r\n\r\n0")
        finally:
            for line in silent:
                line.close()


def test_a_burst_of_good_connections_passes() -> None:
    """Guards against a proxy that is cut off since it brings many requests at once."""
    limits = Limits()
    with listening(limits) as port:
        lines = []
        for _ in range(limits.most_open - 10):
            lines.append(connect(port))
            lines[-1].sendall(GOOD)
        try:
            for line in lines:
                assert b"200 OK" in said(line, b"\r\n\r\n0")
        finally:
            for line in lines:
                line.close()


@pytest.mark.parametrize(
    "begun",
    [
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
        GOOD + b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
        GOOD,
    ],
)
def test_slow_bodies_make_room(begun: bytes) -> None:
    """Guards against a service that is out of reach while bodies come slowly, or nothing does."""
    limits = Limits(most_open=6, most_half_open=100, head_seconds=30)
    with listening(limits) as port:
        slow = [connect(port) for _ in range(6)]
        try:
            for line in slow:
                line.sendall(begun)
            time.sleep(0.3)
            for _ in range(8):
                with connect(port) as line:
                    line.sendall(GOOD)
                    assert b"200 OK" in said(line, b"\r\n\r\n0")
        finally:
            for line in slow:
                line.close()


def test_a_full_server_makes_room() -> None:
    """Guards against a service that is out of reach while silent connections fill it."""
    limits = Limits(most_open=6, most_half_open=100, head_seconds=30)
    with listening(limits) as port:
        silent = [connect(port) for _ in range(30)]
        try:
            for _ in range(5):
                with connect(port) as line:
                    line.sendall(GOOD)
                    assert b"200 OK" in said(line, b"\r\n\r\n0")
            assert said(silent[0]) == b""
        finally:
            for line in silent:
                line.close()


def test_the_service_has_limits(tmp_path: Path) -> None:
    """Guards against limits that the command does not use."""
    url = f"sqlite:///{tmp_path / 'control.db'}"
    open_store(url).close()
    server = Server(tmp_path / "home", url)
    server.start()
    silent = [connect(server.port) for _ in range(Limits().most_half_open + 10)]
    try:
        time.sleep(Limits().grace_seconds)
        assert ends_with_newcomers(silent[10], server.port)
        assert [said(line) for line in silent[:11]] == [b""] * 11
    finally:
        for line in silent:
            line.close()
    assert server.get("/healthz")[0] == 200
    assert server.stop() in (0, -15)
