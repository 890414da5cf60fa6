"""Dagster's daemon at work while the code server, run workers and a command are killed."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from chain_world import (
    D,
    World,
    approve,
    cli,
    copy_home,
    day,
    environment,
    outbox,
    rounded,
    rows,
    succeeded,
    write_campaign,
    write_people,
)
from sqlalchemy import func, select
from support.patience import PATIENCE, until

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.homes.home import DAGSTER_YAML
from usergrowth_dagster.settings import load_settings

UPLOADS = ("fresh-1", "fresh-2")
INGEST = ("backfill", "--from", str(day(4)), "--to", str(day(1)), "--only-ingest")
SOON = "run_monitoring:\n  poll_interval_seconds: 1\n  start_timeout_seconds: 60\n"
OPEN = [
    *(dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING),
    *(dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING),
]
DECIDED = "task_id, row, user_id, item_id, score, rank, arm, outcome, model_name, model_version"


def prepare(world: World, home: Path, **values: str) -> Path:
    """A home with models and facts, and a campaign that decides uploads as they arrive.

    Its control store is new, so that it can lie in either database.
    """
    copy_home(world.decided, home)
    (home / "control.db").unlink()
    shutil.rmtree(home / "dagster")
    shutil.rmtree(home / "outbox")
    (home / "dagster").mkdir()
    config = DAGSTER_YAML.replace("run_monitoring:\n", SOON)
    (home / "dagster" / "dagster.yaml").write_text(config, encoding="utf-8")
    file = write_campaign(
        home,
        "fresh",
        population="population/fresh-*",
        execution_date="on upload",
        selection="{top_n: 20}",
    )
    succeeded(cli(home, "apply", "-f", str(file), **values))
    approve(home, "fresh")
    return home


@pytest.fixture(scope="module")
def undisturbed(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home with the same uploads, decided by one command."""
    home = prepare(world, tmp_path_factory.mktemp("undisturbed") / "home")
    for upload in UPLOADS:
        write_people(home, upload)
    succeeded(cli(home, "run", "--date", str(D)))
    return home


def settings_now() -> dict[str, str]:
    """What a command on the disturbed home needs in its environment."""
    return {key: value for key, value in os.environ.items() if key.startswith("USERGROWTH_")}


@pytest.fixture
def disturbed(
    world: World,
    database_url: str,
    tmp_path: Path,
    here: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The home that is disturbed; in PostgreSQL with Dagster's records too."""
    home = tmp_path / "home"
    if database_url.startswith("postgres"):
        monkeypatch.setenv("USERGROWTH_DATABASE_URL", database_url)
        monkeypatch.setenv("USERGROWTH_ONE_DATABASE", "true")
        models = f"sqlite:///{home / 'mlflow/mlflow.db'}"
        monkeypatch.setenv("USERGROWTH_MLFLOW_TRACKING_URI", models)
    return prepare(world, home, **settings_now())


@contextmanager
def running(home: Path, *command: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A program of Dagster with its children, which end with it."""
    place = {"DAGSTER_HOME": str(home / "dagster"), "DAGSTER_EVENT_BATCH_SIZE": "500"}
    with (home.parent / "dagster.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=environment(home, **settings_now(), **place),
            cwd=home.parent,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Kill a program and its children."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


LOCATION = """
import dagster as dg
from usergrowth_dagster.defs import executors

# a process for each step would take minutes
for name in executors.EXECUTORS:
    executors.EXECUTORS[name] = lambda *_: dg.in_process_executor

from usergrowth_dagster.defs.build import build_definitions

defs = build_definitions()
"""


def code_server(home: Path, port: int) -> Any:
    location = home.parent / "location.py"
    location.write_text(LOCATION)
    return running(home, "dagster", "api", "grpc", "-f", str(location), "-p", str(port))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def workers(server: "subprocess.Popen[bytes]") -> list[int]:
    """Processes in which the code server executes runs."""
    pids = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, tail = status.read_text().rpartition(")")
            command = status.with_name("cmdline").read_bytes()
        except OSError:
            continue
        if int(tail.split()[1]) == server.pid and b"spawn_main" in command:
            pids.append(int(head.split()[0]))
    return pids


def texted(home: Path) -> Counter[tuple[str, str]]:
    """How many messages each person of each task has in the ledger."""
    store = ControlStore(load_settings(home).database)
    message, occurrence = schema.message, schema.occurrence
    query = (
        select(occurrence.c.task_id, message.c.user_id, func.count())
        .join(occurrence, occurrence.c.id == message.c.occurrence_id)
        .group_by(occurrence.c.task_id, message.c.user_id)
    )
    with store.read() as connection:
        counted = Counter({(row[0], row[1]): row[2] for row in connection.execute(query)})
    store.close()
    return counted


def test_killed_while_the_daemon_is_at_work(
    undisturbed: Path, disturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against an upload that is lost or decided twice when the code server restarts under
    the sensor or a run worker dies, a pool whose place nobody gives back, and a backfill beside
    them that loses days."""
    home, port, chance = disturbed, free_port(), random.Random(7)
    shutil.rmtree(home / "storage" / "tables" / "daily_activity")
    (tmp_path / "workspace.yaml").write_text(
        f"load_from:\n  - grpc_server: {{host: 127.0.0.1, port: {port}, location_name: ug}}\n"
    )
    with ExitStack() as stack:
        server = stack.enter_context(code_server(home, port))
        until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "a code server")
        stack.enter_context(
            running(home, "dagster._daemon", "run", "-w", str(tmp_path / "workspace.yaml"))
        )
        monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
        instance = stack.enter_context(dg.DagsterInstance.from_config(str(home / "dagster")))
        backfill = stack.enter_context(running(home, "usergrowth_dagster", *INGEST))
        write_people(home, UPLOADS[0])
        until(lambda: bool(workers(server)), "at work on the first upload")
        time.sleep(chance.uniform(0, 3))
        end(server)  # and the run workers with it
        end(backfill)
        server = stack.enter_context(code_server(home, port))
        again = stack.enter_context(running(home, "usergrowth_dagster", *INGEST))
        until(lambda: len(texted(home)) == 20, "retried the first upload")
        write_people(home, UPLOADS[1])
        until(lambda: bool(workers(server)), "a run worker at work")
        time.sleep(chance.uniform(0, 3))
        for worker in workers(server):
            os.kill(worker, signal.SIGKILL)
        until(lambda: len(texted(home)) == 40, "retried the second upload")
        until(
            lambda: not instance.get_runs(dg.RunsFilter(statuses=OPEN), limit=1),
            "the end of all runs",
        )
        assert again.wait(PATIENCE) == 0
        storage = instance.event_log_storage
        claimed = {key: storage.get_concurrency_info(key) for key in storage.get_concurrency_keys()}
        assert all(not info.claimed_slots for info in claimed.values()), claimed
    succeeded(cli(home, "dispatch", **settings_now()))
    assert set(texted(home).values()) == {1}
    assert len(outbox(home)) == 40

    of_backfill = f"ds >= '{day(4)}'"
    made = [rows(one, "daily_activity", of_backfill) for one in (home, undisturbed)]
    assert made[0] == made[1] and made[0]
    fresh = "task_id like 'fresh-%'"
    decided = [rows(one, "decisions", fresh, DECIDED) for one in (home, undisturbed)]
    assert rounded(decided[0]) == rounded(decided[1])
    assert len(decided[0]) == 120
