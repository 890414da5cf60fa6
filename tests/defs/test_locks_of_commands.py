"""The lock files of the processes that run jobs: no file stays of one that is gone."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from dagster import DagsterInstance

from usergrowth_dagster.runs import execute

HOLDER = """
import sys, time
from pathlib import Path
from usergrowth_dagster.runs.execute import _alive
with _alive(Path(sys.argv[1])) as name:
    print(name, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def instance(tmp_path: Path) -> DagsterInstance:
    return DagsterInstance.ephemeral(str(tmp_path))


def hold(folder: Path) -> "tuple[subprocess.Popen[str], Path]":
    """A process that holds a lock file and has no run: killed before one is recorded or after."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, folder / f"{process.stdout.readline().strip()}.lock"


def test_a_process_killed_outside_its_run(instance: DagsterInstance, tmp_path: Path) -> None:
    """A kill before the run is recorded, or after it has ended, leaves its file for ever."""
    folder = tmp_path / "commands"
    (killed, left), (alive, kept) = hold(folder), hold(folder)
    killed.kill()
    killed.wait(30)
    try:
        execute._end_killed_runs(instance, folder)
        assert not left.exists()
        assert kept.exists(), "the file of a process at work"
    finally:
        alive.kill()
        alive.wait(30)
    execute._end_killed_runs(instance, folder)
    assert list(folder.iterdir()) == []


def test_a_file_is_never_taken_from_a_process_at_work(
    instance: DagsterInstance, tmp_path: Path
) -> None:
    """A file that is made but not locked yet counts as one of a killed process."""
    folder = tmp_path / "commands"
    folder.mkdir()
    stop = threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            for path in folder.glob("*.lock"):
                execute._is_gone(path, remove=True)

    sweepers = [threading.Thread(target=sweep) for _ in range(3)]
    for sweeper in sweepers:
        sweeper.start()
    try:
        for _ in range(300):
            with execute._alive(folder) as name:
                assert not execute._is_gone(folder / f"{name}.lock")
    finally:
        stop.set()
        for sweeper in sweepers:
            sweeper.join(30)
    assert list(folder.iterdir()) == []
