"""Execute a run in a process beside this one, while this one executes another.

The other process has an interpreter and a Dagster run of its own. Its progress and its report come
back through a pipe. It ends with this process, however this one ends.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context, resource_tracker
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.interrupts import is_interrupt, keep_interrupts
from usergrowth_dagster.runs.execute import execute
from usergrowth_dagster.runs.reports import RunReport

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

_PARENT_SECONDS = 1.0
"""How often the other process looks whether this one is still there."""

_END_SECONDS = 20.0
"""How long an interrupted process may take to end its run before it is killed."""

_NICE = 10
"""Niceness of the other process. With equal shares both engines end late, and then the fits run
alone; this way a fit of one runs beside the engine of the other."""


@dataclass(frozen=True)
class Work:
    """A run: the job, its partition, and the assets of the job that it makes.

    ``label`` precedes the stages of its progress.
    """

    job: str
    partition: str
    assets: Sequence[str]
    label: str


@dataclass
class Beside:
    """A run in another process.

    Attributes:
        work: the run.
        process: where it is executed.
    """

    work: Work
    process: "SpawnProcess"
    _pipe: "Connection"
    _answers: list[RunReport | UserError] = field(default_factory=list)
    _reader: threading.Thread | None = None

    def report(self) -> RunReport:
        """Wait for the run's report.

        Raises:
            UserError: the run failed, or its process ended without a report.
        """
        if self._reader is not None:
            self._reader.join()
        self.process.join()
        if not self._answers:
            raise UserError(
                f"{self.work.label}: the process of its run ended before the run did (exit code "
                f"{self.process.exitcode}); the same command goes on where it stopped",
                code="run.failed",
            )
        answer = self._answers[0]
        if isinstance(answer, UserError):
            raise answer
        return answer

    def _read(self) -> None:
        """Pass the progress on, and keep the answer."""
        from usergrowth_dagster.defs.resources import report_progress

        while True:
            try:
                message = self._pipe.recv()
            except (EOFError, OSError):
                return
            if isinstance(message, tuple):
                report_progress(*message)
            else:
                self._answers.append(message)


@contextmanager
def beside(work: Work) -> Iterator[Beside]:
    """Execute a run in a process of its own meanwhile; leaving early interrupts it.

    The environment names the home, as for :func:`execute`.
    """
    context = get_context("spawn")  # a fork would copy locks that threads of libraries hold
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_execute, args=(sender, work, os.getpid()), daemon=True)
    with _interrupts_wait():  # the other process takes them once it can end its run
        process.start()
    sender.close()  # the pipe ends with the other process
    running = Beside(work, process, receiver)
    running._reader = threading.Thread(target=running._read, daemon=True)
    running._reader.start()
    try:
        yield running
    finally:
        _end(process)
        running._reader.join()
        receiver.close()


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Hold back interrupts; a process started meanwhile holds them back by itself."""
    resource_tracker.ensure_running()  # its start would let interrupts through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(process: "SpawnProcess") -> None:
    """Interrupt a process that is still at work, as a person's Ctrl-C would."""
    if process.is_alive() and process.pid is not None:
        os.kill(process.pid, signal.SIGINT)
        process.join(_END_SECONDS)
    if process.is_alive():
        process.kill()
    process.join()


def _execute(pipe: "Connection", work: Work, parent: int) -> None:
    """The other process: execute the run, send its progress, then its report or its error."""
    from usergrowth_dagster.defs.resources import listen

    keep_interrupts()
    os.nice(_NICE)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    sending = threading.Lock()  # a run's steps may report from threads

    def send(message: Any) -> None:
        with sending:
            pipe.send(message)

    def progress(stage: str, done: int, total: int) -> None:
        named = stage if stage.startswith(f"{work.label}:") else f"{work.label}: {stage}"
        send((named, done, total))

    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        with listen(progress):
            send(execute(work.job, partition=work.partition, assets=work.assets))
    except UserError as error:
        send(error)
    except BaseException as error:
        if not is_interrupt(type(error).__name__, str(error)):
            raise
        sys.exit(1)  # before its run began; this process was not asked for a word


def _end_with(parent: int) -> None:
    """End this process when the one that started it is gone; the next command ends its run."""
    while os.getppid() == parent:
        time.sleep(_PARENT_SECONDS)
    os._exit(1)
