"""A small synthetic world through the whole chain, made once and copied by the tests that change it.

``landed``: landing files and facts up to the eve of D, no campaign. ``decided``: two campaigns
applied, models trained, D decided and sent.
"""

import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from support.processes import run_command

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.tables import Warehouse

START = date(2017, 1, 2)
FIRST = START - timedelta(days=7)
D = date(2017, 5, 4)
"""A Thursday: the newest churn label that is closed by then ends on April 30th."""
USERS = 500
PHONE = re.compile(rb"(?=(999\d{10}))")
"""Thirteen digits that may be a phone, also in the middle of others."""


def day(back: int) -> date:
    """So many days before D."""
    return D - timedelta(days=back)


def campaign(name: str, **changes: str) -> str:
    """A campaign file; ``changes`` are lines of YAML by top-level key."""
    lines = {
        "algorithm": "churn",
        "training": "{window_days: 60}",
        "population": f"population/{name}",
        "execution_date": str(D),
        "selection": "{threshold: 0.3}",
        "holdout": "{share: 0.1}",
        "signature": "{name: Example}",
        "template": f"{{name: {name}, content: 'Hello ${{name}}, come back. 拒收请回复R'}}",
        "schedule": f"{{name: {name}}}",
        **changes,
    }
    return "\n".join([f"name: {name}", *(f"{key}: {value}" for key, value in lines.items())]) + "\n"


def people_of(home: Path) -> list[list[str]]:
    """The cells of the world's uploaded population, line by line, the header first."""
    path = home / "landing" / "population" / "care" / "population.csv"
    return [line.split(",") for line in path.read_text("utf-8").splitlines()]


def write_people(
    home: Path, task: str, rows: list[str] | None = None, *, done: bool = True
) -> Path:
    """Upload a population: the given CSV lines (header first), else the world's first 60 users."""
    folder = home / "landing" / "population" / task
    folder.mkdir(parents=True, exist_ok=True)
    if rows is None:
        rows = [",".join(line) for line in people_of(home)[:61]]
    (folder / "population.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    if done:
        (folder / "_SUCCESS").touch()
    return folder


def write_campaign(home: Path, name: str, **changes: str) -> Path:
    """A campaign file in the home."""
    path = home / "campaigns" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(campaign(name, **changes), encoding="utf-8")
    return path


def environment(home: Path, **extra: str) -> dict[str, str]:
    """The environment of a command that works on a home, with no other project setting."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("USERGROWTH_", "DAGSTER_"))}
    return {**kept, "USERGROWTH_HOME": str(home), "COLUMNS": "200", **extra}


def cli(home: Path, *arguments: str, **extra: str) -> "subprocess.CompletedProcess[str]":
    """Run the real command in a process of its own, with the libraries loaded."""
    values = environment(home, **extra)
    return run_command(arguments, environment=values, folder=home.parent)


def new_cli(home: Path, *arguments: str, **extra: str) -> "subprocess.CompletedProcess[str]":
    """The same in a new interpreter: with another seed of hashes, and its own search path."""
    return subprocess.run(
        [sys.executable, "-m", "usergrowth_dagster", *arguments],
        env=environment(home, **extra),
        cwd=home.parent,
        capture_output=True,
        text=True,
        timeout=900,  # a hang, not a busy machine
    )


def errors(done: "subprocess.CompletedProcess[str]") -> list[str]:
    """The sentences of a command that failed as it should: exit code 2, no traceback."""
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith("error: ")]


def succeeded(done: "subprocess.CompletedProcess[str]") -> str:
    """The output of a command that did what it should."""
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done.stdout


def warehouse(home: Path) -> Warehouse:
    """The tables of a home."""
    return Warehouse(Storage(str(home / "storage")))


def rows(home: Path, table: str, where: str = "true", columns: str = "*") -> list[Any]:
    """Rows of a table, ordered by all their columns."""
    files = [f for names in warehouse(home).files(table).values() for f in names]
    if not files:
        return []
    with duckdb.connect(config={"threads": 2}) as connection:
        return connection.execute(
            f"select {columns} from read_parquet(?, hive_partitioning=true, union_by_name=true) "
            f"where {where} order by all",
            [files],
        ).fetchall()


def rounded(value: Any) -> Any:
    """A value whose floats have nine digits: the last ones depend on the order of a sum."""
    if isinstance(value, float):
        return float(f"{value:.9g}") + 0.0
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    if isinstance(value, dict):
        return {key: rounded(value[key]) for key in sorted(value)}
    return value


def same_rows(one: Path, other: Path, tables: list[str]) -> None:
    """Two homes hold the same rows, however they came about."""
    for table in tables:
        listed = sorted(warehouse(one).columns(table))
        first = [name for name in ("ds", "user_id", "item_id", "task_id", "row") if name in listed]
        listed = [*first, *(name for name in listed if name not in first)]
        columns = ", ".join(f'"{name}"' for name in listed)
        left, right = rows(one, table, columns=columns), rows(other, table, columns=columns)
        assert left, table
        assert len(left) == len(right), (table, len(left), len(right))
        different = [(a, b) for a, b in zip(left, right, strict=True) if rounded(a) != rounded(b)]
        assert not different, (table, different[0])


def ledger(home: Path) -> list[Any]:
    """Rows of the send ledger."""
    with contextlib.closing(sqlite3.connect(home / "control.db")) as connection:
        return connection.execute(
            "select o.task_id, m.user_id, m.state, m.reason, m.attempts "
            "from message m join occurrence o on o.id = m.occurrence_id order by 1, 2"
        ).fetchall()


def control_dump(home: Path) -> list[str]:
    """Everything in the control store."""
    with contextlib.closing(sqlite3.connect(home / "control.db")) as connection:
        return list(connection.iterdump())


def outbox(home: Path) -> list[str]:
    """Lines of the file gateway."""
    files = sorted((home / "outbox").rglob("*.jsonl")) if (home / "outbox").exists() else []
    return [line for path in files for line in path.read_text(encoding="utf-8").splitlines()]


def output(home: Path, task: str) -> bytes:
    """A task's output.csv."""
    return (home / "landing" / "population_output" / task / "output.csv").read_bytes()


def copy_home(source: Path, target: Path) -> Path:
    """A home of its own with the same content, and Dagster's history."""
    shutil.copytree(source, target)
    return target


@dataclass(frozen=True)
class World:
    """The two homes; only to be copied or read."""

    landed: Path
    decided: Path


def build(root: Path) -> None:
    """Make both homes below a folder."""
    from usergrowth_dagster.examples.worlds import synthetic
    from usergrowth_dagster.homes.home import make_home

    landed = root / "landed"
    settings = make_home(
        landed, {"today": str(D), "start_date": str(FIRST), "simulated_people": True}
    )
    world = synthetic.SyntheticWorld(users=USERS, days=(D - START).days + 1, start=START, items=60)
    project = Project(settings)
    synthetic.write_landing(world, project.landing)
    for task in ("care", "comeback"):
        synthetic.write_population(world, project.landing, task, D)
    (landed / "landing" / "population" / "comeback" / "_SUCCESS").touch()
    succeeded(cli(landed, "backfill", "--from", str(FIRST), "--to", str(day(1)), "--only-ingest"))
    decided = copy_home(landed, root / "decided")
    files = [
        write_campaign(decided, "care", selection="{top_n: 40}"),
        write_campaign(
            decided,
            "comeback",
            algorithm="{kind: winback, return_days: 14}",
            training="{window_days: 90}",
        ),
    ]
    succeeded(cli(decided, "apply", *(part for path in files for part in ("-f", str(path)))))
    approve(decided, "care", "comeback")
    succeeded(cli(decided, "run", "--date", str(D)))


def refuse(project: Project, **who: str) -> None:
    """Suppress a user or an address, as somebody does by hand."""
    from usergrowth_dagster.messaging.people.phones import open_vault
    from usergrowth_dagster.messaging.policy.suppression import suppress
    from usergrowth_dagster.messaging.schedules.occurrences import business_now

    suppress(
        project.store,
        open_vault(project.settings.home),
        reason="by_hand",
        source="test",
        now=business_now(project.settings),
        **who,  # type: ignore[arg-type]
    )


def approve(home: Path, *templates: str) -> None:
    """Approve the texts of campaigns."""
    from usergrowth_dagster.control.review import review

    store = Project(load_settings(home)).store
    review(store, "signature", "Example", True, "", "test")
    for name in templates:
        review(store, "template", name, True, "", "test")
    store.close()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The world, made by the first worker that wants it.

    To save a minute while writing tests: ``python tests/chain_world.py <folder>`` makes one, and
    CHAIN_WORLD=<folder> uses it.
    """
    import fcntl

    if "CHAIN_WORLD" in os.environ:
        root = Path(os.environ["CHAIN_WORLD"])
        yield World(root / "landed", root / "decided")
        return
    base = tmp_path_factory.getbasetemp()
    # The chain runs in a folder with spaces and letters that no URL holds.
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "chain world 数据 #1%"
    root.mkdir(exist_ok=True)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "done").exists():
            subprocess.run([sys.executable, __file__, str(root)], check=True, env=environment(root))
            (root / "done").touch()
    yield World(root / "landed", root / "decided")


@pytest.fixture
def home(world: World, tmp_path: Path) -> Path:
    """A copy of the decided home; no person has reviewed the one approved churn version."""
    return copy_home(world.decided, tmp_path / "home")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets jobs run in this process: what they set in the environment is undone afterwards."""
    for name in [key for key in os.environ if key.startswith(("USERGROWTH_", "DAGSTER_"))]:
        monkeypatch.delenv(name)
    for name in ("DAGSTER_HOME", "USERGROWTH_HOME", "DAGSTER_EVENT_BATCH_SIZE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    yield


if __name__ == "__main__":
    build(Path(sys.argv[1]))
