"""The doctor names each thing that is wrong, and changes nothing."""

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chain_world import World, copy_home

from usergrowth_dagster.homes import doctor
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings


def examined(home: Path) -> dict[str, str]:
    """What is wrong with a home, by check."""
    return {f.name: f.detail for f in doctor.examine(load_settings(home)) if not f.well}


def contents(home: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(home)): (
            path.stat().st_mtime_ns,
            path.stat().st_mode,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None,
        )
        for path in [home, *home.rglob("*")]
    }


@pytest.fixture
def home(tmp_path: Path, here: None) -> Path:
    """A new home, with its ledger."""
    made = make_home(tmp_path / "home", {})
    Project(made).store.close()
    return made.home


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the check of the code location, which takes seconds and has its own tests."""
    monkeypatch.setattr(doctor, "_code_location", lambda: "left out")


def test_nothing_is_changed(world: World, tmp_path: Path, here: None) -> None:
    """Looking at a home makes folders in it, migrates it, or fails where it cannot be written."""
    home = copy_home(world.decided, tmp_path / "home")
    home.chmod(0o500)
    for path in home.rglob("*"):
        path.chmod(0o500 if path.is_dir() else 0o400)
    before = contents(home)
    wrong = examined(home)
    assert contents(home) == before
    home.chmod(0o700)
    if os.geteuid():
        assert set(wrong) == {"folders"} and "cannot be written" in wrong["folders"]
    else:  # root may write anything
        assert wrong == {}


def test_a_new_home_is_well(home: Path) -> None:
    """A finding on a home that was just made."""
    assert examined(home) == {}


def put(home: Path, path: str) -> None:
    file = home / "landing" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("x", encoding="utf-8")


STRAYS = {
    "behaviour/ds=20240101/a.csv": "behaviour/: nothing reads this folder; did you mean behavior/?",
    "exports/a.csv": "exports/: nothing reads this folder; tables are user, item",
    "a.csv": "a.csv: nothing reads a file here",
    "behavior/a.csv": "behavior/a.csv: landing files lie in a folder ds=yyyymmdd",
    "user/2024/a.csv": "user/2024: ",
    "item/ds=20240101/a.xlsx": "item/ds=20240101/a.xlsx: ",
    "operation/ds=20240101/_only.csv": "operation/ds=20240101: holds no landing file",
    "population/a.csv": "population/a.csv: nothing reads a file here",
    "population/spring sale/a.csv": "population/spring sale: a task's name is",
    "population/spring/a.json": "population/spring/a.json: ",
}


def test_every_file_that_nothing_reads_is_named(home: Path) -> None:
    """A misspelt folder is passed over in silence for weeks."""
    put(home, "population_output/spring/output.csv")
    put(home, "behavior/ds=20240101/a.csv")
    put(home, "population/good/a.csv")
    put(home, "population/good/_SUCCESS")
    assert "landing files" not in examined(home)
    for path in STRAYS:
        put(home, path)
    sentences = examined(home)["landing files"].splitlines()
    assert len(sentences) == len(STRAYS)
    for sentence in STRAYS.values():
        assert len([line for line in sentences if line.startswith(sentence)]) == 1, (
            sentence,
            sentences,
        )


def _later(home: Path) -> None:
    os.utime(home / "usergrowth.toml", (time.time() + 3_600,) * 2)


def _open(home: Path) -> None:
    home.chmod(0o755)


def _open_ledger(home: Path) -> None:
    (home / "control.db").chmod(0o644)


def _open_output(home: Path) -> None:
    put(home, "population_output/spring/output.csv")
    (home / "landing/population_output/spring/output.csv").chmod(0o640)


def _open_secret(home: Path) -> None:
    (home / "secret.key").write_text("x" * 40, encoding="ascii")
    (home / "secret.key").chmod(0o644)


def _newer(home: Path) -> None:
    import contextlib
    import sqlite3

    with contextlib.closing(sqlite3.connect(home / "control.db")) as database, database:
        database.execute("update alembic_version set version_num = '9999'")


def _damaged(home: Path) -> None:
    (home / "mlflow").mkdir()
    (home / "mlflow" / "mlflow.db").write_bytes(b"no database" * 500)


@pytest.mark.parametrize(
    ("harm", "check", "sentence"),
    [
        (_later, "clock", "set the clock"),
        (_open, "privacy", "chmod 700"),
        (_open_ledger, "privacy", "control.db"),
        (_open_output, "privacy", "output.csv"),
        (_open_secret, "secret", "chmod 600"),
        (_newer, "control store", "newer version"),
        (_damaged, "MLflow", "cannot be read"),
    ],
)
def test_what_is_wrong_is_named(
    harm: Callable[[Path], None], check: str, sentence: str, home: Path
) -> None:
    """The doctor says "ok" of a home that cannot work or that others read."""
    harm(home)
    assert sentence in examined(home)[check]


@pytest.mark.parametrize(
    ("variable", "value", "check", "sentence"),
    [
        ("GATEWAY", "twilio", "gateway, sms", "twilio"),
        ("GATEWAY", "aliyun", "gateway, sms", "aliyun"),
        ("GATEWAY", "kannel", "gateway, sms", "kannel_user"),
        ("GATEWAY", "webhook", "gateway, sms", "webhook_secret"),
        ("GATEWAY", "pigeon", "gateway, sms", "is not known"),
        ("EMAIL_GATEWAY", "smtp", "gateway, email", "smtp"),
    ],
)
def test_a_gateway_without_its_keys_is_named(
    variable: str,
    value: str,
    check: str,
    sentence: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That a key is missing is found out when the texts are due."""
    monkeypatch.setenv(f"USERGROWTH_{variable}", value)
    assert sentence in examined(home)[check]


def test_homes_that_share_a_store_are_named(home: Path) -> None:
    """Two homes decide into the same tables, and each undoes what the other decided."""
    other = home.parent / "other"
    shutil.copytree(home, other)
    assert "other homes" not in examined(other)
    with (other / "usergrowth.toml").open("a", encoding="utf-8") as settings:
        settings.write(f'storage = "{home}/storage"\nlanding = "{home}/landing"\n')
    for one, second in ((home, other), (other, home)):
        sentence = examined(one)["other homes"]
        assert f"storage {home}/storage is also that of the home {second}" in sentence
        assert "landing" not in sentence
    with (other / "usergrowth.toml").open("a", encoding="utf-8") as settings:
        settings.write(f'database_url = "sqlite:///{home}/control.db"\n')
    assert "database" in examined(home)["other homes"]


def test_a_lost_secret_is_named(world: World, tmp_path: Path, here: None) -> None:
    """A ledger whose numbers nobody can read is well until it is to be sent."""
    home = copy_home(world.decided, tmp_path / "home")
    (home / "secret.key").unlink()
    before = contents(home)
    assert "restore your copy" in examined(home)["secret"]
    assert contents(home) == before


def test_a_full_disk_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up stops the chain half-way."""
    monkeypatch.setattr(doctor, "FREE_BYTES", 1 << 62)
    assert "make room" in examined(home)["disk"]
