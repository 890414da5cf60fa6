"""Steps of one run on two of Celery's workers, which really run, over a Redis that really runs."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from chain_world import D, World, cli, environment, same_rows, succeeded
from support.source_databases import free_port, need

from usergrowth_dagster.defs.build import build_definitions
from usergrowth_dagster.defs.executors import BROKER, RESULTS
from usergrowth_dagster.errors import SetUpError
from usergrowth_dagster.homes.home import make_home

FIRST, LAST = D - timedelta(days=4), D - timedelta(days=1)
RUN = """
import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableRepository
from usergrowth_dagster.defs.jobs import range_tags
from usergrowth_dagster.runs.execute import open_instance
from datetime import date
place = ReconstructableRepository.for_module("usergrowth_dagster.definitions", "defs")
with open_instance() as instance:
    done = dg.execute_job(
        place.get_reconstructable_job("ingest"), instance, raise_on_error=True,
        tags=range_tags(date.fromisoformat("{first}"), date.fromisoformat("{last}")),
    )
    assert done.success
"""


@contextmanager
def process(command: list[str], folder: Path, **extra: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program in the background; its output is in a file named after it."""
    with (folder / f"{Path(command[0]).name}-{free_port()}.log").open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **extra)  # type: ignore[call-overload]
        try:
            yield running
        finally:
            running.kill()
            running.wait()


def landed_home(world: World, folder: Path) -> Path:
    """A home with landing files and no table."""
    make_home(folder, {"today": str(D), "start_date": str(FIRST), "simulated_people": True})
    shutil.rmtree(folder / "landing")
    shutil.copytree(world.landed / "landing", folder / "landing")
    return folder


@pytest.mark.redis
def test_two_workers_make_the_same_tables(world: World, tmp_path: Path) -> None:
    """Guards against steps that need the process, or the memory, of another step of their run."""
    need("redis-server")
    port = free_port()
    urls = {name: f"redis://127.0.0.1:{port}/{n}" for n, name in enumerate((BROKER, RESULTS))}
    alone = landed_home(world, tmp_path / "alone")
    days = ["--from", str(FIRST), "--to", str(LAST)]
    succeeded(cli(alone, "backfill", *days, "--only-ingest"))
    home = landed_home(world, tmp_path / "shared")
    variables = environment(home, USERGROWTH_EXECUTOR="celery", **urls)
    variables["DAGSTER_HOME"] = str(home / "dagster")
    worker = [sys.executable, "-m", "celery", "-A", "usergrowth_dagster.defs.celery_app", "worker"]
    with ExitStack() as stack:
        redis = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        stack.enter_context(process(redis, tmp_path))
        for name in ("one", "two"):
            named = [*worker, "--pool", "solo", "-n", f"{name}@here"]
            stack.enter_context(process(named, tmp_path, env=variables))  # type: ignore[arg-type]
        script = RUN.format(first=FIRST, last=LAST)
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=variables,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    same_rows(home, alone, ["stg_user", "stg_behavior", "stg_operation", "user_day"])
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        (run,) = instance.get_runs()
        events = [record.dagster_event for record in instance.all_logs(run.run_id)]
    workers = {
        str(event.engine_event_data.metadata["Celery worker"].value)
        for event in events
        if event is not None
        and event.is_engine_event
        and "Celery worker" in event.engine_event_data.metadata
    }
    assert workers == {"one@here", "two@here"}


def test_what_is_missing_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against runs that wait for ever at the broker of another program."""
    monkeypatch.setenv("USERGROWTH_EXECUTOR", "celery")
    monkeypatch.delenv(BROKER, raising=False)
    with pytest.raises(SetUpError, match=f"the variable {BROKER} is not set"):
        build_definitions(str(tmp_path / "home"))
