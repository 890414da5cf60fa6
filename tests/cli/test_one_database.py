"""A home whose records are all in PostgreSQL: ours, Dagster's and MLflow's."""

import json
import shutil
from pathlib import Path
from typing import Any

import psycopg
import pytest
from chain_world import D, World, approve, cli, copy_home, errors, succeeded, write_campaign
from database_fixtures import create_database

pytestmark = pytest.mark.postgres


def one_database(server: str) -> dict[str, str]:
    """Settings of a home that has everything in a new database."""
    return {
        "USERGROWTH_DATABASE_URL": create_database(server),
        "USERGROWTH_ONE_DATABASE": "true",
    }


def asked(values: dict[str, str], query: str) -> list[Any]:
    url = values["USERGROWTH_DATABASE_URL"].replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


MODELS = "select name, version, source from mlflow.model_versions order by 1, 2"
RUNS = "select run_id, status from dagster.runs order by 1"
MESSAGES = "select user_id, state, reason from message order by id"


def test_the_whole_chain_and_its_copy(
    world: World,
    postgres_server: str,
    tmp_path: Path,
    here: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guards against a part of the chain that works on SQLite alone, records that lie in files all
    the same, and a copy that lacks them or restores them half."""
    home, values = copy_home(world.landed, tmp_path / "home"), one_database(postgres_server)
    (home / "control.db").unlink()
    shutil.rmtree(home / "dagster")
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    file = write_campaign(home, "care", selection="{top_n: 40}")
    succeeded(cli(home, "apply", "-f", str(file), **values))
    approve(home, "care")
    succeeded(cli(home, "run", "--date", str(D), **values))
    succeeded(cli(home, "report", "care", **values))
    assert not [path for path in home.rglob("*.db") if path.name != "tables.db"]
    models, runs, messages = (asked(values, query) for query in (MODELS, RUNS, MESSAGES))
    assert models and messages
    assert {status for _, status in runs} == {"SUCCESS"}
    assert {state for _, state, _ in messages} <= {"accepted", "delivered", "skipped"}
    assert list((home / "reports").glob("*.html"))

    succeeded(cli(home, "backup", str(tmp_path / "copy"), **values))
    shutil.rmtree(home)
    other, again = one_database(postgres_server), tmp_path / "again"
    succeeded(cli(home, "restore", str(tmp_path / "copy"), "--home", str(again), **other))
    assert [asked(other, query) for query in (RUNS, MESSAGES)] == [runs, messages]
    listed = json.loads(succeeded(cli(again, "models", "list", "--json", **other)))
    assert len(listed) == len(models)
    for name, version, source in asked(other, MODELS):
        assert (name, version) in {(one[0], one[1]) for one in models}
        assert not source.startswith("file:") or str(again) in source


def test_one_database_is_chosen_in_time(world: World, postgres_server: str, tmp_path: Path) -> None:
    """Guards against models that vanish since their records are looked for elsewhere, and a setting
    that nothing can obey."""
    home = copy_home(world.decided, tmp_path / "home")
    (said,) = errors(cli(home, "models", "list", **one_database(postgres_server)))
    assert f"this home has its models in {home / 'mlflow/mlflow.db'}" in said
    (said,) = errors(cli(home, "status", USERGROWTH_ONE_DATABASE="true"))
    assert "setting 'one_database' needs setting 'database_url'" in said
