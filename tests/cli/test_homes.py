"""A home in a folder of any name, and a home that was moved or copied."""

import contextlib
import hashlib
import os
import shutil
import sqlite3
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from chain_world import (
    D,
    World,
    approve,
    copy_home,
    outbox,
    warehouse,
    write_campaign,
    write_people,
)
from typer.testing import CliRunner

from usergrowth_dagster.cli import app
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.homes.home import DAGSTER_YAML, make_home, open_home
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.landing import land_days

WORK = [
    "plain",
    "sp ace",
    "数据 e\u0301é",
    "hash#1",
    "q?x=1",
    "star *",
    'dq"x',
    "plus+amp&",
    "qu'ote",
    ";$HOME${HOME}`x`@:a",
    "100%d%s% (home)s",
    "{a,b}!~",
    "env=prod",
    "-dash ",
]
REFUSED = [
    "pct%20dir",
    "a%41b",
    "br[1]",
    "back\\slash",
    "ca^ret",
    "pi|pe",
    "new\nline",
    "bell\x07",
    "line\u2028end",
    "ds=20240101",
    "Task_Id=x",
]
EVENT = date(2024, 1, 5)
ODD = '# 数据?x=1 100% ;$*@:{a} "qu\'ote" +&~'
"""A name with all the characters that work."""


def run(home: Path, *arguments: str) -> tuple[int, str]:
    """A command in this process: exit code and everything it says."""
    done = CliRunner().invoke(app, [*arguments, "--home", str(home)], env={"COLUMNS": "200"})
    if isinstance(done.exception, UserError):  # what the command's main turns into a sentence
        return 2, f"error: {done.exception}\n"
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def land_one_event(landing: Path) -> None:
    """A landing folder of one day with one row."""
    folder = landing / "behavior" / f"ds={EVENT:%Y%m%d}"
    folder.mkdir()
    (folder / "a.csv").write_text(
        "user_id,behavior,item_id,kvs_num,kvs_str\nu1,buy,i1,price:1,\\N\n", encoding="utf-8"
    )


def land(settings: Settings) -> None:
    """Land the one event twice, and read it back."""
    project = Project(settings)
    for status in ("landed", "unchanged"):
        done = land_days(settings, project.landing, project.warehouse, "behavior", [EVENT])
        assert [one.status for one in done] == [status]
    files = project.warehouse.files("raw_behavior")
    with open_engine(settings) as engine:
        engine.bind_files("seen", files[EVENT], {"user_id": "VARCHAR", "ds": "DATE"})
        assert engine.rows("select user_id, ds from seen") == [("u1", EVENT)]
    assert set(project.warehouse.fingerprints("raw_behavior")) == {EVENT}
    project.store.close()


@pytest.mark.parametrize("name", WORK)
def test_a_home_of_any_name_works(name: str, tmp_path: Path, here: None) -> None:
    """A path that is read as a URL or a pattern puts a database elsewhere, or finds other files."""
    for decoy in ("star xyz", "q-x=1"):  # what a pattern would find too
        land(_made(tmp_path / decoy))
    home = tmp_path / name
    land(_made(home))
    assert (home / "control.db").is_file()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([name, "q-x=1", "star xyz"])


def _made(home: Path) -> Settings:
    settings = make_home(home, {"start_date": "2024-01-01"})
    land_one_event(Path(settings.landing_root))
    return settings


@pytest.mark.parametrize("setting", ["home", "storage", "landing"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_before_anything_is_written(
    name: str, setting: str, tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that Delta Lake cannot open is found out half-way, with a panic."""
    home = tmp_path / (name if setting == "home" else "home")
    if setting != "home":
        monkeypatch.setenv(f"USERGROWTH_{setting.upper()}", str(tmp_path / name))
    code, printed = run(home, "init")
    if setting == "landing" and name.isprintable():  # landing files are opened by name alone
        assert code == 0, printed
        return
    assert code == 2 and printed.count("\n") == 1 and printed.startswith("error: "), printed
    assert list(tmp_path.iterdir()) == []


def test_storage_and_landing_of_any_name(
    tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings of both folders take another way than the home's own."""
    storage, landing = tmp_path / f"s {ODD}", tmp_path / f"l [1] \\ %41 {ODD}"
    monkeypatch.setenv("USERGROWTH_STORAGE", str(storage))
    monkeypatch.setenv("USERGROWTH_LANDING", str(landing))
    home = tmp_path / "br[1] a%41b"  # its tables are elsewhere
    land(_made(home))
    assert (storage / "tables" / "raw_behavior").is_dir()
    assert sorted(tmp_path.iterdir()) == sorted([home, storage, landing])


def contents(home: Path) -> dict[str, Any]:
    """Every file of a home: size, time of change, hash."""
    return {
        str(path.relative_to(home)): (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None,
        )
        for path in home.rglob("*")
    }


def test_a_copied_home_leaves_its_original_alone(world: World, tmp_path: Path, here: None) -> None:
    """Dagster's history and the models of a copy go into the original, or its files are read.

    The copy lies in a folder with all the odd characters, so that training, scoring and sending
    are tried in one.
    """
    original = tmp_path / "original"
    shutil.copytree(world.decided, original)
    (original / "dagster" / "dagster.yaml").write_text(
        # As earlier versions wrote it, with an edit.
        "event_log_storage:\n  module: usergrowth_dagster.defs.event_log\n"
        "  class: BatchingSqliteEventLogStorage\n  config:\n"
        f"    base_dir: {original}/dagster/history/runs\n"
        "telemetry:\n  enabled: false\n",
        encoding="utf-8",
    )
    open_home(original)
    before = contents(original)
    home = copy_home(original, tmp_path / ODD)
    for path in (home / "landing").rglob("*.csv"):  # as cp -r does
        path.touch()
    versions = {name: warehouse(home).version(name) for name in ("raw_behavior", "raw_user")}
    write_people(home, "short")
    path = write_campaign(home, "short", training="{window_days: 45}", selection="{top_n: 20}")
    assert run(home, "apply", "-f", str(path))[0] == 0
    approve(home, "short")
    code, printed = run(home, "run", "--date", str(D))
    assert code == 0, printed
    assert "has changed since" not in printed
    assert versions == {name: warehouse(home).version(name) for name in versions}
    assert sum('"schedule": "short"' in line for line in outbox(home)) > 5
    for command in (["status"], ["models"], ["doctor"], ["delivery"], ["why", "1"]):
        run(home, *command)
    assert contents(original) == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(["original", ODD])
    with contextlib.closing(sqlite3.connect(home / "mlflow" / "mlflow.db")) as connection:
        assert not [line for line in connection.iterdump() if str(original) in line]
    mended = (home / "dagster" / "dagster.yaml").read_text(encoding="utf-8")
    assert str(tmp_path) not in mended and "HomeStorage" in mended and "telemetry" in mended


def test_no_folder_is_named_in_dagster_yaml() -> None:
    """An absolute folder sends the runs of a copy into the original."""
    assert "{" not in DAGSTER_YAML and os.sep not in DAGSTER_YAML.replace("dagster/partition", "")
