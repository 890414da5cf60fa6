"""Every unit test that a model's yml declares, and the rules that all models keep."""

from datetime import date
from typing import Any

import pytest

from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.models import RUN_SETTING_NAMES, load_graph, table_refs
from usergrowth_dagster.warehouse.spark_dialect import to_spark
from usergrowth_dagster.warehouse.unit_tests import UnitTest, run_unit_test, unit_tests

GRAPH = load_graph()


@pytest.mark.parametrize("case", unit_tests(GRAPH), ids=lambda case: f"{case.model}: {case.name}")
def test_unit(case: UnitTest, tmp_path: Any) -> None:
    """A model's SQL does something else than its yml's example says."""
    settings = load_settings(tmp_path)
    assert run_unit_test(GRAPH, case, settings) == []


@pytest.mark.parametrize("model", GRAPH.order)
def test_model_keeps_the_rules(model: str) -> None:
    """A model without an example, a description, typed columns, or with SQL Spark lacks."""
    facts = GRAPH.models[model]
    assert facts.unit_tests, "no unit test"
    assert facts.description.endswith(".")
    columns = GRAPH.columns(model)
    assert "ds" in columns
    assert set(facts.grain) <= set(columns)
    assert all(column.description for column in columns.values())
    assert (
        "select"
        in to_spark(facts.sql, {ref: tuple(GRAPH.types(ref)) for ref in facts.refs}).lower()
    )


@pytest.mark.parametrize("model", GRAPH.order)
def test_tables_are_those_that_a_parser_finds(model: str) -> None:
    """A table that a model reads unseen: it would be built before its input, or not again."""
    import sqlglot
    from sqlglot import exp
    from sqlglot.optimizer.scope import traverse_scope

    tree = sqlglot.parse_one(GRAPH.models[model].sql, dialect="duckdb")
    assert isinstance(tree, exp.Query)
    read = {
        source.name
        for scope in traverse_scope(tree)
        for source in scope.sources.values()
        if isinstance(source, exp.Table)
    }
    assert table_refs(GRAPH.models[model].sql) == read


def test_comments_strings_and_functions_are_no_tables() -> None:
    """A word in a text or a comment that would make a circle of models."""
    sql = """
    with a as (select * from real_one) -- from a_comment
    select 'from a_text', a.x is distinct from a.y from a
    join second_one on true cross join unnest([1]) as u (v) left join range(3) on true
    """
    assert table_refs(sql) == {"real_one", "second_one"}


def test_output_columns_are_the_declared_ones(tmp_path: Any) -> None:
    """A column of the SQL that its yml forgets, or the other way round, would vanish silently."""
    from usergrowth_dagster.warehouse.duckdb_rows import bind_dates, bind_settings
    from usergrowth_dagster.warehouse.engine import open_engine

    settings = load_settings(tmp_path)
    with open_engine(settings) as engine:
        bind_dates(engine, [date(2024, 1, 1)])
        bind_settings(engine, dict.fromkeys(RUN_SETTING_NAMES, 1))
        for table, types in GRAPH.sources.items():
            engine.bind_files(table, [], types)
        for model in GRAPH.order:
            columns = engine.describe(GRAPH.models[model].sql)
            declared = GRAPH.types(model)
            assert set(columns) == set(declared), model
            engine.bind_files(model, [], declared)
