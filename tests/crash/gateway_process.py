"""A provider in a process of its own, which writes down what it accepts, and can misbehave.

    python gateway_process.py <file> [<trouble> [<seed> [<seconds> [<room>]]]]

It prints its port. Each accepted message is a line of the file: world, out_id, phone, batch_id and
the template's code; it is on disk before anything is answered. ``trouble`` is the share of calls that go wrong: refused
or lost before or after acceptance, answered in part, throttled, stopped. ``seconds`` is what a call
takes at least, as it does over a network. ``room`` is a file with a number of messages: once so many
have been accepted, calls wait until the file has a larger number or is gone; a client that ends
meanwhile takes its messages with it.

    POST /<world>/submit   {"batch_id", "code", "messages": [{"out_id", "phone"}]} → {"results"}
    POST /<world>/look_up  {"out_ids": [...]}                                    → {"accepted"}

Worlds whose name begins with ``hostile`` speak the webhook gateway's format, at ``/<world>/hook``
and ``/<world>/hook/lookup``, and have answers of :mod:`hostile_answers` besides. How often each
fault came is kept in ``<file>.faults``.
"""

import contextlib
import json
import math
import os
import random
import socket
import struct
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from hostile_answers import HOSTILE, hostile_findings, hostile_response

Gone = Callable[[], bool]
"""Whether a client has hung up."""

SLOW = 0.8
"""Seconds after which a call that times out is answered; clients of the crash test wait less."""

_CALLS = (
    *("error_before", "error_after", "timeout_before", "timeout_after"),
    *("reset_before", "reset_after", "reset_half", "torn", "throttled", "stopped"),
)


class Provider:
    """What has been accepted, and which call goes wrong next."""

    def __init__(self, path: Path, trouble: float, seed: int, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.trouble, self.random = trouble, random.Random(seed)
        self.lock = threading.Lock()
        self.accepted: defaultdict[str, set[str]] = defaultdict(set)
        self.faults: Counter[str] = Counter()
        self.faults_file = path.with_name(path.name + ".faults")
        self.room: Path | None = None

    def is_full(self) -> bool:
        """Whether the room is taken."""
        try:
            most = math.inf if self.room is None else int(self.room.read_text())
        except FileNotFoundError:
            most = math.inf
        return sum(map(len, self.accepted.values())) >= most

    def fault(self, world: str) -> str:
        """The next call's fault, or ""."""
        with self.lock:
            hostile = world.startswith("hostile")
            if self.random.random() >= self.trouble * (1.5 if hostile else 1):
                return ""
            drawn = self.random.choice((*_CALLS, *HOSTILE, *HOSTILE) if hostile else _CALLS)
            if drawn.startswith("error") and world.startswith("stop"):
                drawn = "stopped"
            elif drawn == "stopped" and not world.startswith("stop"):
                drawn = "throttled"
            self.faults[drawn] += 1
            self.faults_file.write_text(json.dumps(self.faults))
            return drawn

    def accept(
        self, world: str, batch: dict[str, str], messages: list[dict[str, str]], gone: Gone
    ) -> None:
        """Take messages for good, once there is room.

        Raises:
            ConnectionAbortedError: there is a room, and the client has gone before it had a place.
        """
        end = f"{batch['batch_id']}\t{batch['code']}\n"
        lines = "".join(f"{world}\t{m['out_id']}\t{m['phone']}\t{end}" for m in messages)
        while True:
            with self.lock:
                if self.room is not None and gone():
                    raise ConnectionAbortedError
                if not self.is_full():
                    os.write(self.file, lines.encode())
                    os.fsync(self.file)
                    self.accepted[world].update(m["out_id"] for m in messages)
                    return
            time.sleep(0.005)

    def results(
        self, world: str, batch: dict[str, str], messages: list[dict[str, str]], gone: Gone
    ) -> list[Any]:
        """Accept a batch, but for some of its rows when there is trouble."""
        if not self.trouble:
            self.accept(world, batch, messages, gone)
            request = f"r{batch['batch_id']}"
            return [[m["out_id"], "accepted", "OK", request] for m in messages]
        entries: list[Any] = []
        taken = []
        for message in messages:
            dice = self.random.random()
            if dice < 0.03:
                entries.append([message["out_id"], "rejected", "bad_number", None])
                continue
            if dice < 0.07:
                entries.append([message["out_id"], "deferred", "slow_down", None])
                continue
            if dice < 0.10:  # answered, but not taken
                entries.append([message["out_id"], "in_doubt", "system_error", None])
                continue
            taken.append(message)
            if dice < 0.12:  # taken, but not answered
                continue
            answer = "in_doubt" if dice < 0.14 else "accepted"
            entries.append([message["out_id"], answer, "", f"r{message['out_id']}"])
        self.accept(world, batch, taken, gone)
        return entries[::-1]


def handler(provider: Provider) -> type[BaseHTTPRequestHandler]:
    """The handler class of a provider."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            time.sleep(provider.seconds)
            _, world, action = self.path.split("/", 2)
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            fault = provider.fault(world)
            if action.startswith("hook"):
                return self.hook(world, body, fault, asks=action.endswith("lookup"))
            if action == "look_up":
                if fault:
                    return self.answer({"error": fault}, 503)
                known = provider.accepted[world]
                return self.answer({"accepted": [o for o in body["out_ids"] if o in known]})
            return self.submit(world, body, body["messages"], fault)

        def has_hung_up(self) -> bool:
            """Whether the client is gone."""
            try:
                return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except OSError:
                return True

        def hook(self, world: str, body: Any, fault: str, *, asks: bool) -> None:
            """The webhook gateway's format."""
            if asks:
                known = provider.accepted[world]
                honest = [
                    {"out_id": out_id, "found": "accepted" if out_id in known else "not_found"}
                    for out_id in (one["out_id"] for one in body["messages"])
                ]
                if fault in HOSTILE:
                    return self.raw(hostile_findings(fault, honest))
                return self.answer({"results": honest}, 503 if fault else 200)
            messages = [{"out_id": m["out_id"], "phone": m["to"]} for m in body["messages"]]
            batch = {"batch_id": body["batch_id"], "code": body["template_code"]}
            if fault in ("throttled", "stopped"):
                return self.answer({"error": fault}, 429)
            if fault.endswith("_before"):
                return self.misbehave(fault, None)
            some = messages[: len(messages) // 2] if fault == "reset_half" else messages
            results = provider.results(world, batch, some, self.has_hung_up)
            honest = [
                {"out_id": out_id, "answer": answer, "code": code, "request_id": request}
                for out_id, answer, code, request in results
            ]
            if fault not in HOSTILE:
                return self.misbehave(fault, {"results": honest})
            return self.raw(hostile_response(fault, honest))

        def raw(self, pieces: Any) -> None:
            """Bytes as they come, until the client has enough."""
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.settimeout(5)
                for piece in pieces:
                    self.connection.sendall(piece)

        def submit(
            self, world: str, batch: dict[str, str], messages: list[Any], fault: str
        ) -> None:
            if fault in ("throttled", "stopped"):
                answer = "stop" if fault == "stopped" else "deferred"
                answers = [[m["out_id"], answer, fault, None] for m in messages]
                return self.answer({"results": answers})
            if fault.endswith("_before"):
                return self.misbehave(fault, None)
            some = messages[: len(messages) // 2] if fault == "reset_half" else messages
            return self.misbehave(
                fault, {"results": provider.results(world, batch, some, self.has_hung_up)}
            )

        def misbehave(self, fault: str, answer: Any) -> None:
            if fault.startswith("timeout"):
                time.sleep(SLOW)
            if fault.startswith("reset"):
                linger = struct.pack("ii", 1, 0)  # close with RST
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
                return self.connection.close()
            if fault.startswith("error") or answer is None:
                return self.answer({"error": "internal"}, 500)
            return self.answer(answer, torn=fault == "torn")

        def answer(self, body: Any, status: int = 200, *, torn: bool = False) -> None:
            data = json.dumps(body).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: len(data) // 2] if torn else data)
            except OSError:  # the client is gone
                self.close_connection = True
            self.close_connection = self.close_connection or torn

        def finish(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                super().finish()

        def log_message(self, *_: object) -> None:
            pass

    return Handler


class Server(ThreadingHTTPServer):
    """Many clients that die at any time."""

    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """A client that was killed is no news."""


def main() -> None:
    """Serve until killed."""
    path = Path(sys.argv[1])
    trouble = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    seconds = float(sys.argv[4]) if len(sys.argv) > 4 else 0.0
    provider = Provider(path, trouble, seed, seconds)
    if len(sys.argv) > 5:
        provider.room = Path(sys.argv[5])
    server = Server(("127.0.0.1", 0), handler(provider))
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
