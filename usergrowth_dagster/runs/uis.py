"""The Dagster UI and the MLflow UI of a home, side by side."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.store import client
from usergrowth_dagster.runs.execute import open_instance
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.settings.places import sqlite_file


def free_port(wanted: int) -> int:
    """The wanted port, or the next free one of the twenty after it.

    Raises:
        UserError: all of them are taken.
    """
    for port in range(wanted, wanted + 20):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise UserError(
        f"ports {wanted} to {wanted + 19} are all taken; name another with --port",
        code="machine.port_taken",
    )


def _commands(settings: Settings, dagster_port: int, mlflow_port: int) -> list[list[str]]:
    # Not the scripts of these names: the first line of one does not bear every path.
    dagster = f"dagster dev -m usergrowth_dagster.definitions -h 127.0.0.1 -p {dagster_port}"
    mlflow = f"mlflow server --host 127.0.0.1 --port {mlflow_port} --workers 1"
    places = ["--default-artifact-root", settings.artifacts_root]
    python = [sys.executable, "-m"]
    return [[*python, *dagster.split()], [*python, *mlflow.split(), *places]]


@contextlib.contextmanager
def _running(
    commands: list[list[str]], log: Path, tracking_uri: str
) -> Iterator[list[subprocess.Popen[bytes]]]:
    processes = []
    # every user of the machine sees the arguments of a process, and a URI may hold a password
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": tracking_uri}
    with log.open("ab") as out:
        try:
            for number, command in enumerate(commands):
                target = None if number == 0 else out  # Dagster's own log is shown
                processes.append(
                    subprocess.Popen(
                        command,
                        stdout=target,
                        stderr=target,
                        start_new_session=True,
                        env=environment,
                    )
                )
            yield processes
        finally:
            for process in processes:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGINT)
            for process in processes:
                try:
                    process.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)


def serve_uis(
    settings: Settings, dagster_port: int, mlflow_port: int, say: Callable[[str], None]
) -> None:
    """Run both UIs until interrupted, or until one of them ends.

    Raises:
        UserError: one of them ended by itself.
    """
    # A service manager stops with SIGTERM; without this the UIs would outlive their parent.
    signal.signal(signal.SIGTERM, lambda _number, _frame: signal.raise_signal(signal.SIGINT))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with open_instance():  # makes its databases, before several processes open them at once
        pass
    if sqlite_file(settings.tracking_uri) is not None or settings.one_database:
        client(settings)  # makes its database, and takes a copied home's for its own
    first, second = free_port(dagster_port), free_port(mlflow_port)
    log = settings.home / "mlflow-ui.log"
    with _running(_commands(settings, first, second), log, settings.tracking_uri) as processes:
        say(f"Dagster UI  http://127.0.0.1:{first}\nMLflow UI   http://127.0.0.1:{second}")
        say("Ctrl-C ends both.\n")
        with contextlib.suppress(KeyboardInterrupt):
            while all(process.poll() is None for process in processes):
                time.sleep(0.5)
            ended = "the Dagster UI" if processes[0].poll() is not None else f"MLflow (see {log})"
            raise UserError(f"{ended} ended by itself", code="program.ended")
