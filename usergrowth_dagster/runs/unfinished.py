"""Commands that share a home: one makes Dagster's databases, and the runs of killed ones end.

A killed process leaves its run "started" for ever, with its place in a pool, for which the next
run would wait without end.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from dagster import DagsterInstance

TAG = "usergrowth/command"
"""Tag of a command's runs: the name of the lock file that its process holds."""


def _try_lock(handle: IO[str]) -> bool:
    """Take a file's lock unless a process holds it; the system frees it with the process."""
    try:
        import fcntl
    except ImportError:  # pragma: no cover - not on Linux or macOS
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def open_instance() -> "Iterator[DagsterInstance]":
    """The Dagster instance of the home that the environment names.

    Processes that start at once wait for each other while its databases are made: two that make
    the same one leave it with two versions, which no later process can read.
    """
    import os

    from dagster import DagsterInstance

    with (Path(os.environ["DAGSTER_HOME"]) / ".lock").open("w") as handle:
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        except ImportError:  # pragma: no cover - not on Linux or macOS
            pass
        instance = DagsterInstance.get()
    with instance:
        yield instance


@contextmanager
def alive(folder: Path) -> Iterator[str]:
    """Show other processes that this one is at work; gives the value of :data:`TAG`.

    Args:
        folder: where the lock files are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = secrets.token_hex(8)
    path = folder / f"{name}.lock"
    with path.open("w") as handle:
        _try_lock(handle)
        try:
            yield name
        finally:
            path.unlink(missing_ok=True)


def end_killed_runs(instance: "DagsterInstance", folder: Path) -> list[str]:
    """End the unfinished runs of commands whose process is gone, and free their places in pools.

    Args:
        instance: the home's Dagster instance.
        folder: where the lock files are.

    Returns:
        Ids of the runs that were ended.
    """
    from dagster import DagsterRunStatus, RunsFilter

    open_statuses = [
        DagsterRunStatus.NOT_STARTED,
        DagsterRunStatus.STARTING,
        DagsterRunStatus.STARTED,
        DagsterRunStatus.CANCELING,
    ]
    ended = []
    for run in instance.get_runs(filters=RunsFilter(statuses=open_statuses)):
        name = run.tags.get(TAG)
        if name is None or not _is_gone(folder / f"{name}.lock"):
            continue
        instance.report_run_canceled(run, "its process ended before the run did")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        (folder / f"{name}.lock").unlink(missing_ok=True)
        ended.append(run.run_id)
    return ended


def _is_gone(path: Path) -> bool:
    try:
        with path.open("r") as handle:
            return _try_lock(handle)
    except FileNotFoundError:
        return True
