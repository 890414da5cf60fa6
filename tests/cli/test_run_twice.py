"""A decided date run again, and what must never leave the landing folder and the ledger."""

import contextlib
import json
import re
import sqlite3
from datetime import date
from pathlib import Path

from chain_world import (
    PHONE,
    D,
    World,
    cli,
    copy_home,
    errors,
    ledger,
    outbox,
    output,
    rows,
    succeeded,
    warehouse,
    write_people,
)

from usergrowth_dagster.examples.datasets import Example
from usergrowth_dagster.examples.demo import read_summary
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings


def everything(home: Path) -> dict[str, object]:
    """All that a second run could change, write times of files included."""
    tables = warehouse(home)
    with contextlib.closing(sqlite3.connect(home / "mlflow" / "mlflow.db")) as connection:
        models = connection.execute("select name, version, run_id from model_versions").fetchall()
        runs = connection.execute("select count(*) from runs").fetchall()
    written = home / "landing" / "population_output"
    return {
        "versions": {table: tables.version(table) for table in tables.tables()},
        "output": {task: output(home, task) for task in ("care", "comeback")},
        "written": {str(path): path.stat().st_mtime_ns for path in written.rglob("*")},
        "ledger": ledger(home),
        "outbox": outbox(home),
        "models": models,
        "runs": runs,
    }


def test_world_is_as_it_should_be(world: World) -> None:
    """The other tests compare with an empty world, and so prove nothing."""
    home = world.decided
    outcomes = dict(
        rows(
            home,
            "decisions",
            columns="task_id || ' ' || outcome, count(*)",
            where="true group by 1",
        )
    )
    assert outcomes["care selected"] + outcomes["care holdout"] >= 40
    assert outcomes["comeback selected"] > 10
    for task in ("care", "comeback"):
        lines = output(home, task).decode().splitlines()
        assert len(lines) == outcomes[f"{task} selected"]
        assert all(re.fullmatch(r"u\d+,i\d+,\+999\d{10},0\.\d+", line) for line in lines), lines[0]
    planned = ledger(home)
    assert {row[2] for row in planned} == {"accepted"}
    assert (
        len(planned)
        == len(outbox(home))
        == outcomes["care selected"] + outcomes["comeback selected"]
    )


def test_second_run_changes_nothing(world: World, tmp_path: Path) -> None:
    """Running a date again decides anew, sends again, or trains again."""
    home = copy_home(world.decided, tmp_path / "home")
    before = everything(home)
    printed = succeeded(cli(home, "run", "--date", str(D)))
    assert everything(home) == before
    assert "| unchanged |" in printed or "unchanged" in printed


def test_changed_inputs_of_a_sent_task(world: World, tmp_path: Path) -> None:
    """An upload that changes after the texts went out remakes the decision or fails the date.

    The decision, its output and the ledger stay; the change is reported, and other tasks go on.
    """
    home = copy_home(world.decided, tmp_path / "home")
    before = everything(home)
    write_people(home, "care")  # 60 people instead of 500
    (home / "landing" / "population" / "comeback" / "population.csv").unlink()
    late = home / "landing" / "behavior" / "ds=20170501" / "late.csv"
    late.write_text("user_id,behavior,item_id,kvs_num,kvs_str\nu00000001,login,\\N,hh14:1,\\N\n")
    printed = succeeded(cli(home, "run", "--date", str(D)))
    after = everything(home)
    assert after["versions"]["raw_behavior"] != before["versions"]["raw_behavior"]  # type: ignore[index]
    for key in ("output", "written", "ledger", "outbox"):
        assert after[key] == before[key], key
    for table in ("population", "scores", "decisions"):
        assert after["versions"][table] == before["versions"][table], table  # type: ignore[index]
    for task in ("care", "comeback"):
        assert f"population/{task} has changed since the task's send plan was made" in printed


def test_edited_output_of_a_sent_task(world: World, tmp_path: Path) -> None:
    """An output.csv that a person edited is overwritten, or stops the other task."""
    home = copy_home(world.decided, tmp_path / "home")
    path = home / "landing" / "population_output" / "care" / "output.csv"
    path.write_bytes(path.read_bytes() + b"u1,i1,+9990000000000,0.9\n")
    edited, before = path.read_bytes(), everything(home)
    sentences = errors(cli(home, "run", "--date", str(D)))
    assert len(sentences) == 1
    assert (
        "population_output/care/output.csv: this file was not written by task 'care'"
        in sentences[0]
    )
    assert everything(home) == before
    assert path.read_bytes() == edited


def test_the_figures_of_a_demo_add_up(world: World) -> None:
    """Guards against a population that is another one than was decided, or fewer than none eligible."""
    home = world.decided
    summary = read_summary(
        Project(load_settings(home)), Example("synthetic", D, date(2017, 1, 1), {}, {}), {}
    )
    for name, task in summary["tasks"].items():
        decided = rows(home, "decisions", f"task_id = '{name}'", "outcome")
        assert task["population"] == len(decided) > task["selected"] > 0
        assert task["population"] == (
            task["selected"] + task["held_out"] + sum(task["skipped"].values())
        )
        assert task["selected"] + task["held_out"] <= task["eligible"] <= task["population"]
        assert sum(task["ledger"].values()) == task["selected"]


def test_phones_stay_where_they_belong(world: World) -> None:
    """A phone number in a log, in metadata, in a model or in a table that many people read."""
    home = world.decided
    known = {str(row[0])[1:].encode() for row in rows(home, "population", columns="phone")}
    assert len(known) >= 400

    def phones(content: bytes) -> set[bytes]:
        return known.intersection(PHONE.findall(content))

    summary = read_summary(
        Project(load_settings(home)), Example("synthetic", D, date(2017, 1, 1), {}, {}), {}
    )
    assert summary["tasks"]["care"]["selected"] > 0
    assert not phones(json.dumps(summary).encode())
    allowed = (
        "landing/population/",
        "landing/population_output/",
        "outbox/",
        "storage/tables/population/",
    )
    scanned: dict[str, int] = {}
    for path in sorted(p for p in home.rglob("*") if p.is_file()):
        place = path.relative_to(home).as_posix()
        if place.startswith(allowed):
            continue
        assert not phones(path.read_bytes()), place
        top = place.split("/")[0]
        scanned[top] = scanned.get(top, 0) + 1
    assert scanned["dagster"] >= 4  # index, run logs, runs, schedules
    assert scanned["mlflow"] >= 10 and scanned["storage"] > 100 and scanned["control.db"] == 1
    # Parquet is compressed: look at the values too.
    for table in warehouse(home).tables():
        if table != "population":
            text = repr(rows(home, table, where="ds >= '2017-04-24'")).encode()
            assert not phones(text), table
    assert phones(repr(rows(home, "population")).encode()) == known  # the scan can find them
    assert phones("\n".join(outbox(home)).encode())
