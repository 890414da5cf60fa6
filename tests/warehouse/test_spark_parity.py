"""Every model makes the same rows on Spark as on DuckDB, column by column.

Spark is the engine's own server (Sail), or the one that ``SPARK_PARITY_REMOTE`` names, such as
``sc://localhost:15002``, which must read this machine's files.
"""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from chain_world import World, world

from tests.support.parity_world import (
    GRAPH,
    ParityWorld,
    differences,
    example_world,
    random_world,
)
from usergrowth_dagster.quoting import identifier
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.models import AS_OF_DATES, RUN_SETTINGS
from usergrowth_dagster.warehouse.spark_dialect import to_spark
from usergrowth_dagster.warehouse.spark_rows import copy_rows, make_table
from usergrowth_dagster.warehouse.spark_session import open_spark

__all__ = ["world"]


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("spark")
    remote = os.environ.get("SPARK_PARITY_REMOTE")
    with open_spark(load_settings(home, engine="spark", spark_remote=remote)) as session:
        yield session


@pytest.fixture(scope="module")
def worlds(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ParityWorld]:
    return {
        "example": example_world(world.landed, tmp_path_factory.mktemp("example")),
        "random": random_world(tmp_path_factory.mktemp("random")),
    }


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with open_engine(load_settings(tmp_path_factory.mktemp("home"))) as opened:
        yield opened


def rows(engine: Engine, relation: str, columns: dict[str, str]) -> list[dict[str, Any]]:
    """A relation's rows with the declared types."""
    body = ", ".join(f"cast({identifier(c)} as {k}) as {identifier(c)}" for c, k in columns.items())
    made: list[dict[str, Any]] = engine.arrow(f"select {body} from {relation}").to_pylist()
    return made


@pytest.mark.parametrize("name", ["example", "random"])
@pytest.mark.parametrize("model", GRAPH.order)
def test_spark_makes_the_rows_of_duckdb(
    model: str, name: str, spark: Any, worlds: dict[str, ParityWorld], engine: Engine
) -> None:
    """Guards against a model that Spark cannot run, or of which it makes other rows."""
    world, facts, columns = worlds[name], GRAPH.models[model], GRAPH.types(model)
    for relation in (*facts.refs, RUN_SETTINGS):
        spark.read.parquet(world.file(relation)).createOrReplaceTempView(relation)
    spark.read.parquet(world.dates(model)).createOrReplaceTempView(AS_OF_DATES)
    sql = to_spark(facts.sql, {ref: tuple(GRAPH.types(ref)) for ref in facts.refs})
    engine.run("drop table if exists made")
    make_table(engine, "made", columns)
    copy_rows(engine, "made", spark.sql(sql), columns)
    wanted = rows(engine, f"'{world.file(model)}'", columns)
    assert wanted or name == "example", "rows at random that leave a model empty prove nothing"
    assert differences(model, wanted, rows(engine, "made", columns))[:5] == []
