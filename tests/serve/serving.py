"""A really running `usergrowth serve`, and clients that come again as providers do."""

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.patience import PATIENCE, until

SECRET = "0123456789abcdef"
TOKEN = "unguessable"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """The command in a process of its own; its output goes to a file."""

    def __init__(self, home: Path, database_url: str, *options: str) -> None:
        self._options = options
        home.mkdir(parents=True, exist_ok=True)
        self.home, self.port, self.log = home, free_port(), home.parent / "serve.log"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("USERGROWTH_")},
            "USERGROWTH_HOME": str(home),
            "USERGROWTH_DATABASE_URL": database_url,
            "USERGROWTH_SECRET_KEY": SECRET,
            "USERGROWTH_CALLBACK_TOKEN": TOKEN,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = [sys.executable, "-m", "usergrowth_dagster", "serve"]
        command = [*program, "--port", str(self.port), *self._options]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=subprocess.STDOUT
            )
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < end:
            try:
                if self.get("/healthz")[0] == 200:
                    return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(self.log.read_text())

    def kill(self) -> None:
        """As a power cut does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """As an operator does; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def get(self, path: str) -> tuple[int, str]:
        return self.call("GET", path)

    def call(self, method: str, path: str, body: bytes = b"") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body or None)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


@dataclass
class Clients:
    """A provider that posts everything, from several connections, until each got its 200."""

    port: int
    path: str
    posts: Sequence[list[dict[str, Any]]]
    at_once: int = 6
    acknowledged: set[int] = field(default_factory=set)
    refused: list[int] = field(default_factory=list)

    def start(self) -> None:
        self._left = list(range(len(self.posts)))
        random.Random(1).shuffle(self._left)
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work) for _ in range(self.at_once)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, share: float) -> None:
        """Until so much has been acknowledged."""
        until(
            lambda: len(self.acknowledged) >= share * len(self.posts),
            lambda: f"{len(self.acknowledged)} of {len(self.posts)}",
        )

    def join(self) -> None:
        for thread in self._threads:
            thread.join(timeout=PATIENCE)

    def _work(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while True:
            with self._lock:
                if not self._left:
                    if len(self.acknowledged) == len(self.posts):
                        return
                    place = None
                else:
                    place = self._left.pop()
            if place is None:
                time.sleep(0.02)
                continue
            try:
                connection.request("POST", self.path, json.dumps(self.posts[place]).encode())
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):
                connection.close()
                status = 0
                time.sleep(0.05)
            with self._lock:
                if status == 200:
                    self.acknowledged.add(place)
                else:
                    self._left.append(place)
                    if status:
                        self.refused.append(status)
