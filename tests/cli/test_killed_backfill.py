"""Kill, crowd and split a backfill: the rows are those of one that went through undisturbed."""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chain_world import (
    D,
    World,
    approve,
    cli,
    copy_home,
    day,
    environment,
    ledger,
    outbox,
    output,
    rounded,
    rows,
    same_rows,
    succeeded,
    write_campaign,
    write_people,
)
from support.patience import PATIENCE

LATER = {"USERGROWTH_TODAY": "2017-07-01"}
FACTS = ["raw_user", "raw_behavior", "raw_operation", "stg_user", "stg_behavior", "stg_operation"]
FACTS += ["user_day", "user_item_day", "item_category", "daily_activity"]
TASKS = {"early": 2, "late": 0}
LAND = ("backfill", "--from", str(day(45)), "--to", str(day(1)), "--only-ingest")
DECIDE = ("backfill", "--from", str(day(3)), "--to", str(D))


def fresh(world: World, home: Path) -> Path:
    """A home with the landing files of 45 days and a task on two of the dates; no table yet."""
    succeeded(cli(world.landed, "init", "--home", str(home), "--start-date", str(day(46))))
    for table in ("user", "item", "behavior", "operation"):
        days = sorted((world.landed / "landing" / table).iterdir())
        oldest = f"ds={day(46):%Y%m%d}"
        for path in days if len(days) > 1 else []:
            if path.name >= oldest:
                shutil.copytree(path, home / "landing" / table / path.name)
        if len(days) == 1:  # the items land once, before all events
            shutil.copytree(days[0], home / "landing" / table / oldest)
    people = world.landed / "landing/population/care/population.csv"
    lines = people.read_text(encoding="utf-8").splitlines()
    for task, back in TASKS.items():
        write_people(home, task, lines[:301])
        path = write_campaign(
            home, task, execution_date=str(day(back)), training="{window_days: 42}"
        )
        succeeded(cli(home, "apply", "-f", str(path)))
        approve(home, task)
    return home


@pytest.fixture(scope="module")
def undisturbed(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The backfill that nothing disturbs."""
    home = fresh(world, tmp_path_factory.mktemp("undisturbed") / "home")
    for command in (LAND, DECIDE):
        succeeded(cli(home, *command, **LATER))
    return home


def start(home: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "usergrowth_dagster", *arguments],
        env=environment(home, **LATER),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_past_dates_are_decided_but_not_sent(undisturbed: Path) -> None:
    """A backfill texts people weeks after their day, or cannot decide for a day of the past."""
    for task, back in TASKS.items():
        decided = rows(undisturbed, "decisions", f"task_id = '{task}'", "distinct ds")
        assert [str(row[0]) for row in decided] == [str(day(back))]
        assert output(undisturbed, task)
    planned = ledger(undisturbed)
    assert {row[0] for row in planned} == set(TASKS)
    assert {(state, reason, tries) for _, _, state, reason, tries in planned} == {
        ("expired", "send_by_passed", 0)
    }
    assert outbox(undisturbed) == []


def test_killed_again_and_again(world: World, undisturbed: Path, tmp_path: Path) -> None:
    """A kill leaves half a day, a day twice, a run that blocks the next, or a second model.

    Every kill is later in the work than the one before; the last call goes through.
    """
    home = fresh(world, tmp_path / "home")
    chance = random.Random(os.environ.get("USERGROWTH_KILLS", "17"))
    moments = {
        "storage/tables/stg_behavior": LAND,
        "storage/tables/daily_activity": LAND,
        "storage/tables/churn_training": DECIDE,
        "storage/tables/scores": DECIDE,
    }
    for place, command in moments.items():
        process = start(home, *command)
        until = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < until:
            if (home / place).exists():
                break
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.4))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, f"not killed at {place}"
    for command in (LAND, DECIDE):
        succeeded(cli(home, *command, **LATER))
    same_rows(undisturbed, home, [*FACTS, "user_features", "churn_training", "population"])
    same_rows(undisturbed, home, ["scores"])
    kept = "task_id, row, user_id, score, rank, arm, outcome, model_name, model_version"
    decided = [rows(one, "decisions", columns=kept) for one in (home, undisturbed)]
    assert rounded(decided[0]) == rounded(decided[1])
    for task in TASKS:
        written = [output(one, task).decode().splitlines() for one in (home, undisturbed)]
        people = [[line.rsplit(",", 1)[0] for line in lines] for lines in written]
        assert people[0] == people[1]
    assert ledger(home) == ledger(undisturbed)
    assert outbox(home) == []
    assert not list((home / "dagster" / "commands").glob("*.lock"))


def test_two_processes_on_different_days(world: World, undisturbed: Path, tmp_path: Path) -> None:
    """Two backfills at once collide on a table's first commit, its log, or the run history."""
    home = fresh(world, tmp_path / "home")
    halves = [(45, 23), (22, 0)]
    processes = [
        start(home, "backfill", "--from", str(day(a)), "--to", str(day(b)), "--only-ingest")
        for a, b in halves
    ]
    outputs = [process.communicate(timeout=200) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    # The later days may have been made before the items of the first day had landed: the next
    # run sees that their inputs have changed, and makes those days anew.
    again = ("backfill", "--from", str(day(45)), "--to", str(D), "--only-ingest")
    succeeded(cli(home, *again, **LATER))
    same_rows(undisturbed, home, FACTS)


def test_two_dates_decided_at_once(undisturbed: Path, tmp_path: Path) -> None:
    """Two dates collide on the tables that both write first, or on the control store."""
    home = copy_home(undisturbed, tmp_path / "home")
    for table in ("population", "quarantine", "scores", "decisions"):
        shutil.rmtree(home / "storage" / "tables" / table)
    shutil.rmtree(home / "landing" / "population_output")
    with contextlib.closing(sqlite3.connect(home / "control.db")) as connection, connection:
        for table in ("message", "batch", "occurrence"):
            connection.execute(f"delete from {table}")
    processes = [start(home, "run", "--date", str(day(back))) for back in TASKS.values()]
    outputs = [process.communicate(timeout=200) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    same_rows(undisturbed, home, ["population", "scores"])
    decided = dict(rows(home, "decisions", "true group by 1", "task_id, count(*)"))
    assert decided == {"early": 300, "late": 300}
    assert ledger(home) == ledger(undisturbed)
    assert outbox(home) == []
