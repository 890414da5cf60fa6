"""A person who is forgotten leaves the results of affinity jobs, and does not come back by a run."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import duckdb
import pytest
from support.affinity_world import simulate, write_world
from typer.testing import CliRunner

from usergrowth_dagster.affinity.export import WITH_IDS, people_of
from usergrowth_dagster.affinity.landed import job_folders
from usergrowth_dagster.affinity.run import open_job, run_job
from usergrowth_dagster.affinity.train import sha256
from usergrowth_dagster.cli import app
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.settings import load_settings

JOB = '{"itemAttributes": ["ITEMS.genres = \\"Action\\"", "ITEMS.genres = \\"War\\""], "numResults": 60}'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with one job that has run twice; its endpoints have no ids of their own."""
    for name in [key for key in os.environ if key.startswith("USERGROWTH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("USERGROWTH_HOME", str(tmp_path / "home"))  # commands set it; it is put back
    made = make_home(tmp_path / "home", {}).home
    folder = write_world(made / "landing" / "affinity" / "films", simulate(200, 40, 2000), JOB)
    endpoints = [
        line.split(",", 1)[1] for line in (folder / "endpoints.csv").read_text().splitlines()
    ]
    (folder / "endpoints.csv").write_text("\n".join(endpoints) + "\n")
    for _ in range(2):
        run_job(open_job(folder, load_settings(made)))
    return made


def forget(home: Path, user: str, *options: str, code: int = 0) -> Any:
    """What the command says."""
    ran = CliRunner().invoke(app, ["forget", user, "--home", str(home), "--json", *options])
    assert ran.exit_code == code, (ran.output, ran.exception)
    return json.loads(ran.stdout)


def parquet_users(output: Path) -> set[str]:
    """Every user of the Parquet files."""
    files = [str(path) for path in (output / "train").glob("*.parquet")]
    assert len(files) == 6
    sql = "select distinct user_id from read_parquet(?, union_by_name = true)"
    return {user for (user,) in duckdb.execute(sql, [files]).fetchall()}


def test_a_person_leaves_every_file_and_stays_away(home: Path) -> None:
    """An id or address that stays in a score, a segment, an export or a file of endpoints; a manifest
    that is of other rows; others who go along; a person who is back after the next run."""
    output = home / "affinity" / "films"
    with (output / WITH_IDS).open(newline="") as handle:
        endpoints = list(csv.DictReader(handle))
    exports = sorted(path for path in output.glob("*.csv") if path.name != WITH_IDS)
    before = {path: path.read_text().splitlines() for path in exports}
    common = set.intersection(*(set(lines) for lines in before.values())) - {"Id"}
    user = next(e["User.UserId"] for e in endpoints if e["Id"] in common)
    ids = {e["Id"] for e in endpoints if e["User.UserId"] == user}
    everyone = parquet_users(output)
    (output / f".{exports[0].name}.x.tmp").write_text(user)
    os.utime(output / f".{exports[0].name}.x.tmp", (0, 0))
    counted = forget(home, user, "--dry-run")
    assert {path: path.read_text().splitlines() for path in exports} == before
    said = forget(home, user)
    rows = {line["where"]: line["rows"] for line in said["rows"]}
    expected = sum(len(ids & set(lines)) for lines in before.values()) + 2 + 2 + len(ids)
    assert rows["rows of affinity jobs' results"] == expected
    assert {line["where"]: line["rows"] for line in counted["rows"]} == rows
    assert parquet_users(output) == everyone - {user}
    for path, lines in before.items():
        assert path.read_text().splitlines() == [line for line in lines if line not in ids]
        manifest = json.loads(path.with_suffix(".json").read_text())
        assert manifest["sha256"] == sha256(path) and manifest["erased"] == 1
        assert manifest["endpoints"] == len(lines) - 1 - len(ids & set(lines))
    with (output / WITH_IDS).open(newline="") as handle:
        kept = list(csv.DictReader(handle))
    assert kept == [one for one in endpoints if one["User.UserId"] != user]
    assert not list(output.rglob("*.tmp"))
    again = forget(home, user)
    assert not any("affinity" in line["where"] for line in again.get("rows", []))
    folder = home / "landing" / "affinity" / "films"
    ran = CliRunner().invoke(app, ["affinity", "run", str(folder), "--home", str(home), "--json"])
    assert ran.exit_code == 0 and "the person was forgotten" in ran.stdout
    with (output / WITH_IDS).open(newline="") as handle:
        assert user not in {one["User.UserId"] for one in csv.DictReader(handle)}
    sql = f"select count(*) from read_parquet('{output}/train/*.parquet', union_by_name = true) where user_id = ?"
    assert duckdb.execute(sql, [user]).fetchall() == [(0,)]


def test_files_of_an_earlier_version_are_looked_up_or_named(home: Path) -> None:
    """An exported file that holds the person and is passed over in silence."""
    output = home / "affinity" / "films"
    exports = sorted(path for path in output.glob("*.csv") if path.name != WITH_IDS)
    for path in exports:
        people_of(output, path.name).unlink()
    with (output / WITH_IDS).open(newline="") as handle:
        ids = {one["Id"]: one["User.UserId"] for one in csv.DictReader(handle)}
    first, second = exports[0].read_text().splitlines()[1:3]
    forget(home, ids[first])
    assert first not in exports[0].read_text().splitlines()
    (output / WITH_IDS).unlink()
    said = forget(home, ids[second], code=2)
    (sentence,) = said["failures"]
    assert "affinity job films: whether the person is in ITEMSgenresAction" in sentence
    assert "delete the file" in sentence


def test_jobs_in_an_object_store_are_named(home: Path) -> None:
    """Jobs that are never run, without a word, since no disk of this machine has them."""
    import fsspec

    fsspec.filesystem("memory").pipe("/landing/affinity/films/job_config.json", b"{}")
    settings = load_settings(home).model_copy(update={"landing": "memory://landing"})
    with pytest.raises(
        UserError, match="the affinity jobs films below the landing root are not run"
    ):
        job_folders(settings)
