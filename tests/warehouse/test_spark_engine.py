"""The engine spark builds the tables that DuckDB builds, from the same versions, and says what fails."""

import random
import socket
import sys
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.s3_server import running_s3

from tests.support.parity_world import (
    FIRST,
    GRAPH,
    bind_drawn,
    differences,
    drawn_rows,
)
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import SetUpError, UserError
from usergrowth_dagster.settings import Settings, load_settings
from usergrowth_dagster.warehouse import spark_rows
from usergrowth_dagster.warehouse.build import Builder
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.spark_rows import copy_rows
from usergrowth_dagster.warehouse.spark_session import open_spark, spark_errors
from usergrowth_dagster.warehouse.tables import Warehouse

DAYS = [FIRST + timedelta(days=n) for n in range(35)]
DATES = [DAYS[20], DAYS[21]]
ENGINES = ("duckdb", "spark")


def home(folder: Path, engine: str) -> tuple[Settings, Warehouse]:
    """A home with rows at random in its raw tables, in a folder whose name a URL would escape."""
    settings = load_settings(
        folder / "home 数据 #1%",
        engine=engine,
        lookback_days=14,
        history_days=30,
        label_horizon_days=10,
        top_n=2,
        memory_limit="1GB",
    )
    warehouse = Warehouse(Storage(settings.storage_root))
    with open_engine(settings) as opened:
        for table, rows in drawn_rows(random.Random(7)).items():
            landed = [row for row in rows if row["ds"] in DAYS]
            bind_drawn(opened, table, landed, GRAPH.sources[table])
            scope = {"task_id": "t"} if table == "population" else None
            warehouse.replace(table, opened.arrow(f"from {table}"), days=DAYS, scope=scope)
    return settings, warehouse


def build_all(settings: Settings, warehouse: Warehouse) -> dict[str, int]:
    """Days that are built, by table."""
    builder = Builder(settings, warehouse)
    return {
        model: len(
            builder.build(
                model, DAYS if GRAPH.models[model].folder in ("staging", "facts") else DATES
            ).built
        )
        for model in GRAPH.tables
    }


def note_statements(monkeypatch: pytest.MonkeyPatch, model: str) -> list[set[date]]:
    """The dates of each statement of Spark that makes rows of a model, in a list that grows."""
    statements: list[set[date]] = []

    def noted(engine: Engine, name: str, frame: Any, columns: Mapping[str, str]) -> None:
        before = set(engine.rows(f"select distinct ds from {name}"))
        copy_rows(engine, name, frame, columns)
        if columns == GRAPH.types(model):
            after = set(engine.rows(f"select distinct ds from {name}"))
            statements.append({day for (day,) in after - before})

    monkeypatch.setattr(spark_rows, "copy_rows", noted)
    return statements


def rows(settings: Settings, warehouse: Warehouse, table: str) -> list[dict[str, Any]]:
    files = [name for names in warehouse.files(table).values() for name in names]
    with open_engine(settings) as engine:
        engine.bind_files(table, files, GRAPH.types(table))
        made: list[dict[str, Any]] = engine.arrow(f"from {table}").to_pylist()
    return made


def test_a_home_is_the_same_by_both_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against rows, or marks of days, that depend on the engine: a change of it would make
    all tables and models anew, or mix two kinds of rows. Guards against a server that has the wide
    rows of many dates in memory at once, too: it ended at the features of 142 dates."""
    dates_of_statements = note_statements(monkeypatch, "user_features")
    homes = {engine: home(tmp_path / engine, engine) for engine in ENGINES}
    built = {engine: build_all(*homes[engine]) for engine in ENGINES}
    assert built["spark"] == built["duckdb"]
    assert min(built["spark"].values()) == len(DATES)
    assert dates_of_statements == [{day} for day in DATES]
    for table in GRAPH.tables:
        duckdb, spark = (rows(*homes[engine], table) for engine in ENGINES)
        assert differences(table, duckdb, spark)[:3] == [], table
    for engine, other in (ENGINES, ENGINES[::-1]):
        changed = homes[engine][0].model_copy(update={"engine": other})
        assert set(build_all(changed, homes[engine][1]).values()) == {0}


@pytest.mark.parametrize("engine", ENGINES)
def test_inputs_are_read_at_the_version_of_the_first_look(engine: str, tmp_path: Path) -> None:
    """Guards against a day that is marked with files other than those that its rows are made of."""
    settings, warehouse = home(tmp_path, engine)
    builder = Builder(settings, warehouse)
    before = builder.fingerprint("stg_user", DAYS[0])
    emptied = rows(settings, warehouse, "raw_user")
    with open_engine(settings) as opened:
        bind_drawn(opened, "raw_user", [], GRAPH.sources["raw_user"])
        warehouse.replace("raw_user", opened.arrow("from raw_user"), days=DAYS)
    builder.build("stg_user", DAYS)
    assert len(rows(settings, warehouse, "stg_user")) == len(emptied)
    assert warehouse.fingerprint("stg_user", DAYS[0]) == before
    assert len(Builder(settings, warehouse).build("stg_user", DAYS).built) > 0
    assert rows(settings, warehouse, "stg_user") == []


def test_a_column_that_a_table_lacks_is_null(tmp_path: Path) -> None:
    """Guards against a home of before, whose files have fewer columns, that Spark cannot read."""
    settings, warehouse = home(tmp_path, "spark")
    older = Warehouse(Storage(str(tmp_path / "older")))
    for table in ("raw_user", "raw_behavior"):
        with open_engine(settings) as opened:
            files = [name for names in warehouse.files(table).values() for name in names]
            opened.bind_files(table, files, GRAPH.types(table))
            older.replace(
                table, opened.arrow(f"select * exclude (kvs_str) from {table}"), days=DAYS
            )
    Builder(settings, older).build("stg_user", DAYS)
    made = rows(settings, older, "stg_user")
    assert made and {row["kvs_str"] for row in made} == {None}


def test_tables_in_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a server that takes an object store's URI for a folder, or for another."""
    with running_s3(monkeypatch, "lake"):
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        settings = load_settings(tmp_path, engine="spark", storage="s3://lake/growth")
        warehouse = Warehouse(Storage(settings.storage_root))
        rows = drawn_rows(random.Random(7))["raw_user"]
        with open_engine(settings) as opened:
            bind_drawn(opened, "raw_user", rows, GRAPH.sources["raw_user"])
            landed = [day for (day,) in opened.rows("select distinct ds from raw_user")]
            warehouse.replace("raw_user", opened.arrow("from raw_user"), days=landed)
        assert Builder(settings, warehouse).build("stg_user", landed).rows == len(rows)


def test_what_is_wrong_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a traceback, or minutes of tries, where a user has to mend a setting."""
    for remote, rule in (
        ("spark://host:7077", "is not a Spark Connect server"),
        ("sc://host:99999", "is not a Spark Connect server"),
        ("sc://host/;token=abc", "SPARK_CONNECT_AUTHENTICATE_TOKEN"),
    ):
        with pytest.raises(UserError, match=rule) as wrong:
            load_settings(tmp_path, spark_remote=remote)
        assert "abc" not in str(wrong.value)
    with pytest.raises(UserError, match="'duckdb' or 'spark'"):
        load_settings(tmp_path, engine="presto")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else answers there
        remote = f"sc://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match="Connection refused") as refused:
            opening(tmp_path, remote)
    assert refused.value.code == "engine.unreachable"
    monkeypatch.setitem(sys.modules, "pyspark.logger", None)
    with pytest.raises(SetUpError, match=r"pip install 'usergrowth-dagster\[spark\]'"):
        opening(tmp_path, None)


def opening(folder: Path, remote: str | None) -> None:
    with open_spark(load_settings(folder, engine="spark", spark_remote=remote)):
        pass


def test_what_spark_says_is_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Guards against a stack trace of the server, or SQL in the log, where a model fails."""
    settings = load_settings(tmp_path, engine="spark")
    with (
        pytest.raises(UserError, match=r"^model x: Spark says: .*nothing_such") as failed,
        open_spark(settings) as spark,
        spark_errors("model x"),
    ):
        spark.sql("select * from nothing_such").toArrow()
    assert "\n" not in str(failed.value)
    assert failed.value.code == "engine.failed"
    assert capfd.readouterr() == ("", "")
