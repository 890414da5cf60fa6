"""A run that would change nothing is answered from the record of one; every change makes it anew."""

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from chain_world import (
    D,
    World,
    cli,
    copy_home,
    ledger,
    outbox,
    succeeded,
    warehouse,
    write_campaign,
    write_people,
)

from usergrowth_dagster.runs.last_run import FILE, LastRun
from usergrowth_dagster.runs.reports import ChainReport, Rows, RunReport
from usergrowth_dagster.settings import load_settings

OUTPUT = "population_output/care/output.csv"


def last_run(home: Path, day: date = D) -> LastRun:
    return LastRun(load_settings(home), day, asked=True)


def unchanged(**more: object) -> ChainReport:
    """A report of a run that changed nothing."""
    table = Rows(["task", "file"], [["care", OUTPUT]])
    metadata = {"selection_output": {"by_task": table, "lineage": object(), "tasks": 1}, **more}
    return ChainReport(RunReport("a"), RunReport("b", metadata=metadata), warnings=["a warning"])  # type: ignore[arg-type]


def kept_home(world: World, folder: Path) -> Path:
    """A home whose last run of the date is on record."""
    home = copy_home(world.decided, folder)
    last = last_run(home)
    last.begin()
    assert last.keep(unchanged())
    assert last_run(home).report() is not None
    return home


@pytest.mark.usefixtures("here")
def test_same_run_is_answered_from_its_record(world: World, tmp_path: Path) -> None:
    """A run of an unchanged date goes through every step again, or says other things."""
    home = copy_home(world.decided, tmp_path / "home")
    succeeded(cli(home, "run", "--date", str(D)))  # MLflow notes where the copy lies
    first = succeeded(cli(home, "run", "--date", str(D)))
    runs = (home / "dagster" / "history" / "runs.db").read_bytes()
    before = ledger(home), outbox(home)
    again = succeeded(cli(home, "run", "--date", str(D)))
    assert again.startswith("Nothing has changed since the run of ")
    assert again.partition("\n\n")[2].strip() == first.strip()
    assert (ledger(home), outbox(home)) == before
    assert (home / "dagster" / "history" / "runs.db").read_bytes() == runs
    as_json = json.loads(succeeded(cli(home, "run", "--date", str(D), "--json")))
    assert as_json
    every = succeeded(cli(home, "run", "--date", str(D), "--every-step"))
    assert every == first


def execute_sql(file: str, sql: str) -> Callable[[Path], object]:
    def change(home: Path) -> None:
        with contextlib.closing(sqlite3.connect(home / file)) as connection:
            connection.execute(sql)
            connection.commit()

    return change


def new_landing_day(home: Path) -> None:
    day = D - timedelta(days=1)
    (home / f"landing/behavior/ds={day:%Y%m%d}/late.csv").write_text("user_id\n")


def commit(home: Path) -> None:
    table = pa.table({"ds": pa.array([D], pa.date32()), "x": [1]})
    warehouse(home).replace("other", table, days=[D])


def same_size(home: Path) -> None:
    """Another content of the same size and, to the second, the same time."""
    path = home / "landing" / OUTPUT
    content = path.read_bytes()
    path.write_bytes(content[:-2] + b"1\n" if content[-2:] != b"1\n" else content[:-2] + b"2\n")


CHANGES: dict[str, Callable[[Path], object]] = {
    "a late landing file": new_landing_day,
    "a new landing day": lambda home: (home / "landing/user/ds=20160101").mkdir(),
    "a stray file": lambda home: (home / "landing" / "stray.csv").touch(),
    "an upload": lambda home: write_people(home, "care"),
    "a new upload": lambda home: write_people(home, "new", ["user_id", "u1"]),
    "a withdrawn upload": lambda home: (home / "landing/population/care/population.csv").unlink(),
    "an edited output": same_size,
    "a lost output": lambda home: (home / "landing" / OUTPUT).unlink(),
    "a setting": lambda home: (home / "usergrowth.toml").write_text(
        (home / "usergrowth.toml").read_text() + "catch_up_days = 8\n"
    ),
    "the secret": lambda home: (home / "secret.key").unlink(),
    "a campaign": lambda home: succeeded(
        cli(home, "apply", "-f", str(write_campaign(home, "third")))
    ),
    "a record": execute_sql("control.db", "update campaign set updated_time = updated_time || '0'"),
    "a model": execute_sql("mlflow/mlflow.db", "update model_versions set status = status || '1'"),
    "a table": commit,
    "a lost report": lambda home: next((home / "reports").iterdir()).unlink(),
    "a broken record": lambda home: (home / FILE).write_text("{"),
    "a record of another form": lambda home: (home / FILE).write_text('{"marks": 1}'),
    "no record": lambda home: (home / FILE).unlink(),
}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", CHANGES)
def test_every_change_makes_the_run_anew(world: World, tmp_path: Path, name: str) -> None:
    """A change of something that a run reads is not seen, and the date keeps its old decision."""
    home = kept_home(world, tmp_path / "home")
    if name == "a lost report":
        (home / "reports").mkdir(exist_ok=True)
        (home / "reports" / "care.json").write_text("{}")
        last = last_run(home)
        last.begin()
        assert last.keep(unchanged())
    CHANGES[name](home)
    assert last_run(home).report() is None


@pytest.mark.usefixtures("here")
def test_other_dates_clocks_and_places(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of one date answers for another one, for tomorrow, or in a copy of the home."""
    home = kept_home(world, tmp_path / "home")
    assert last_run(home, D - timedelta(days=1)).report() is None
    assert LastRun(load_settings(home), D, asked=False).report() is None
    assert last_run(copy_home(home, tmp_path / "copy")).report() is None
    tomorrow = load_settings(home, today=D + timedelta(days=1))
    assert LastRun(tomorrow, D, asked=True).report() is None
    monkeypatch.setenv("USERGROWTH_GATEWAY", "file")
    assert LastRun(load_settings(home), D, asked=True).report() is None
    monkeypatch.delenv("USERGROWTH_GATEWAY")
    elsewhere = load_settings(home, database_url="postgresql://localhost/x")
    last = LastRun(elsewhere, D, asked=True)
    last.begin()
    assert last.before is None and not last.keep(unchanged()) and last.report() is None
    assert last_run(home).report() is not None


@pytest.mark.usefixtures("here")
def test_what_is_not_kept(world: World, tmp_path: Path) -> None:
    """A run that changed something, failed, or left a message to its hour is never made again."""
    home = copy_home(world.decided, tmp_path / "home")

    def keeps(report: ChainReport, meanwhile: Callable[[Path], object] = lambda home: None) -> bool:
        last = last_run(home)
        last.begin()
        meanwhile(home)
        return last.keep(report)

    assert not keeps(ChainReport(RunReport("a"), None, failures=["no"]))
    assert not keeps(ChainReport(RunReport("a", failures=["no"]), None))
    assert not keeps(ChainReport(RunReport("a"), None, RunReport("m")))
    assert not keeps(ChainReport(RunReport("a"), None, rehearsed=[]))
    assert not keeps(unchanged(scores={"left_to_another_run": "care"}))
    assert not keeps(unchanged(), commit)
    assert not keeps(unchanged(), new_landing_day)
    assert not keeps(unchanged(), lambda home: os.utime(home / "landing" / OUTPUT))
    message = "id = (select min(id) from message where state = 'accepted')"
    message = f"{message} or state in ('planned', 'claimed', 'submitting', 'in_doubt')"
    for state in ("planned", "claimed", "submitting", "in_doubt"):
        execute_sql("control.db", f"update message set state = '{state}' where {message}")(home)
        assert not keeps(unchanged()), state
    execute_sql("control.db", f"update message set state = 'accepted' where {message}")(home)
    for state in ("planning", "ready", "sending", "stopped"):
        execute_sql("control.db", f"update occurrence set state = '{state}'")(home)
        assert not keeps(unchanged()), state
    execute_sql("control.db", "update occurrence set state = 'done'")(home)
    assert not (home / FILE).exists()
    assert keeps(unchanged())
    kept = last_run(home).report()
    assert kept is not None and kept.decide is not None and kept.repeated
    assert kept.warnings == ["a warning"]
    assert kept.decide.metadata["selection_output"] == {
        "by_task": Rows(["task", "file"], [["care", OUTPUT]]),
        "tasks": 1,
    }
