"""A service as a process of its own that can be killed, and clients that ask it without a pause."""

import http.client
import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from chain_world import environment

from support.patience import until
from support.scoring_service import free_port


class ServiceProcess:
    """A command that listens; its output goes to a file, over all of its starts.

    Args:
        home: that it serves.
        health: path that answers 200 once it is ready.
        command: words after ``usergrowth``, without its port.
    """

    def __init__(self, home: Path, health: str, *command: str) -> None:
        self.port, self._health = free_port(), health
        self._home, self._log = home, home.parent / "service.log"
        self._command = [sys.executable, "-m", "usergrowth_dagster", *command]
        self._process: subprocess.Popen[bytes] | None = None
        self.gone: list[tuple[float, float]] = []
        """By kill, the moments of it and of being ready again."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Started, and gone at the end."""
        try:
            self.start()
            yield
        finally:
            if self._process is not None:
                self._process.kill()
                self._process.wait()

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        command = [*self._command, "--port", str(self.port)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment(self._home), stdout=log, stderr=log
            )
        until(self._is_ready, self.text)

    def kill(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Kill it as a power cut does, do something, and start it again."""
        assert self._process is not None
        killed = time.monotonic()
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        meanwhile()
        self.start()
        self.gone.append((killed, time.monotonic()))

    def ask_to_end(self) -> None:
        """Send the signal of an operator."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def exit_code(self) -> int:
        """How it ended."""
        assert self._process is not None
        return self._process.wait(timeout=60)

    def text(self) -> str:
        """What it has printed."""
        return self._log.read_text("utf-8")

    def _is_ready(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self.text()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", self._health)
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


class Answered(NamedTuple):
    """An answer, the number of its request, and when that began and ended."""

    number: int
    began: float
    ended: float
    answer: Any


class Load:
    """Threads that ask without a pause, each on a connection of its own, again after it breaks.

    Args:
        port: of the service.
        ask: sends the request of a number and returns its answer.
        pause: seconds of a thread between two requests.
    """

    def __init__(
        self,
        port: int,
        ask: Callable[[http.client.HTTPConnection, int], Any],
        pause: float = 0.005,
        threads: int = 3,
    ) -> None:
        self.answers: list[Answered] = []
        self.broken: list[tuple[float, float]] = []
        """When requests began and broke off."""
        self.wrong: list[str] = []
        self._port, self._ask, self._pause = port, ask, pause
        self._numbers, self._ended = itertools.count(), threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def more(self, answers: int) -> None:
        """Wait for further answers."""
        wanted = len(self.answers) + answers
        self.until(lambda: len(self.answers) >= wanted)

    def until(self, done: Callable[[], bool]) -> None:
        """Wait until something holds, or a thread has ended with an error."""
        until(lambda: done() or bool(self.wrong), lambda: f"only {self.answers[-3:]}")
        assert not self.wrong, self.wrong

    def failed_while_up(self, gone: list[tuple[float, float]]) -> list[tuple[float, float]]:
        """Requests that broke off and did not overlap a time in which the service was gone."""
        return [
            (began, ended)
            for began, ended in self.broken
            if not any(killed <= ended and began <= ready for killed, ready in gone)
        ]

    def _run(self) -> None:
        while not self._ended.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            began = time.monotonic()
            try:
                while not self._ended.wait(self._pause):
                    number, began = next(self._numbers), time.monotonic()
                    answer = self._ask(connection, number)
                    self.answers.append(Answered(number, began, time.monotonic(), answer))
            except (OSError, http.client.HTTPException):
                self.broken.append((began, time.monotonic()))
                self._ended.wait(0.05)
            except Exception as error:
                self.wrong.append(repr(error))
                return
            finally:
                connection.close()
