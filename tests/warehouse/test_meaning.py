"""Versions of SQL models: what changes them, what does not, and what an earlier home keeps."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import sqlglot
import yaml
from sqlglot import exp

from usergrowth_dagster.settings import Settings, load_settings
from usergrowth_dagster.warehouse import build, earlier
from usergrowth_dagster.warehouse.build import Builder
from usergrowth_dagster.warehouse.earlier import TEXT_VERSIONS
from usergrowth_dagster.warehouse.meaning import columns_read, sql_meaning
from usergrowth_dagster.warehouse.model_files import models_root
from usergrowth_dagster.warehouse.models import (
    RUN_SETTING_NAMES,
    Model,
    ModelGraph,
    Window,
    load_graph,
    read_model,
)
from usergrowth_dagster.warehouse.tables import Warehouse

GRAPH = load_graph()
D = date(2024, 3, 11)


def commented(sql: str) -> str:
    """The same text with a comment before each line and one after the last."""
    return "\n".join(f"-- why not\n{line}" for line in sql.splitlines()) + "\n-- the end"


def reformatted(sql: str) -> str:
    """The same tree in sqlglot's own layout, with keywords in capitals."""
    return sqlglot.parse_one(sql, dialect="duckdb").sql("duckdb", pretty=True)


@pytest.mark.parametrize("name", sorted(GRAPH.models))
@pytest.mark.parametrize("change", [commented, reformatted, lambda sql: f"\n\n{sql}  ;\n"])
def test_a_text_that_means_the_same_has_the_same_version(
    name: str, change: Callable[[str], str]
) -> None:
    """A corrected comment that rebuilds every home."""
    model = GRAPH.models[name]
    changed = replace(model, sql=change(model.sql))
    assert changed.sql != model.sql
    assert changed.own_version == model.own_version


@pytest.mark.parametrize("name", sorted(GRAPH.models))
def test_words_for_people_and_the_folder_are_no_part_of_a_version(
    name: str, tmp_path: Path
) -> None:
    """A description, a meaning, a test or another folder that rebuilds a table."""
    folders = [models_root() / "sql", models_root() / "dbt_like_models"]
    (path,) = (path for folder in folders for path in folder.rglob(f"{name}.sql"))
    facts = yaml.safe_load(path.with_suffix(".yml").read_text("utf-8"))
    facts["unit_tests"] = []
    (keys,) = facts["models"]
    keys["description"] = "another"
    for column in keys.get("columns", ()):
        column |= {"description": "another", "data_tests": []}
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / path.name).write_text(path.read_text("utf-8"), "utf-8")
    (folder / f"{name}.yml").write_text(yaml.safe_dump(facts, sort_keys=False), "utf-8")
    moved, model = read_model(folder / path.name), GRAPH.models[name]
    assert moved.folder == "elsewhere" != model.folder
    assert moved.description != model.description
    assert moved.own_version == model.own_version


def with_other_constant(model: Model) -> Model:
    tree = sqlglot.parse_one(model.sql, dialect="duckdb")
    for literal in list(tree.find_all(exp.Literal))[:1]:
        literal.args["this"] = f"{literal.this}7"
    return replace(model, sql=tree.sql("duckdb")) if tree.find(exp.Literal) else model


def with_other_join(model: Model) -> Model:
    return replace(model, sql=model.sql.replace("inner join", "left join", 1))


def with_other_function(model: Model) -> Model:
    return replace(model, sql=model.sql.replace("min(", "max(", 1))


def with_other_type(model: Model) -> Model:
    column = model.own_columns[0]
    other = column.model_copy(update={"data_type": "TEXT"})
    return replace(model, own_columns=(other, *model.own_columns[1:]))


def with_other_days(model: Model) -> Model:
    return replace(model, inputs={**model.inputs, "stg_user": Window(-3, -1)})


@pytest.mark.parametrize(
    "change",
    [
        with_other_constant,
        with_other_join,
        with_other_function,
        with_other_type,
        with_other_days,
        lambda model: replace(model, grain=(*model.grain, "kind")),
        lambda model: replace(model, complete_with={"user_day": "churn_days"}),
        lambda model: replace(model, inherit=("user_day",)),
    ],
)
@pytest.mark.parametrize("name", ["user_kind_history", "user_windows"])
def test_a_text_that_means_something_else_has_another_version(
    name: str, change: Callable[[Model], Model]
) -> None:
    """A table that keeps rows which its model would not make any more."""
    model = GRAPH.models[name]
    changed = change(model)
    assert changed != model
    assert changed.own_version != model.own_version
    models = GRAPH.models | {name: changed}
    readers = [table for table in GRAPH.tables if name == table or name in GRAPH.views(table)]
    assert readers
    for table in readers:
        graph = ModelGraph(models, GRAPH.sources)
        assert graph.code_version(table) != GRAPH.code_version(table)


def test_every_constant_of_every_model_is_part_of_its_version() -> None:
    """A form that drops a part of a statement, so that its change is not seen."""
    for model in GRAPH.models.values():
        count = len(list(sqlglot.parse_one(model.sql, dialect="duckdb").find_all(exp.Literal)))
        forms = {sql_meaning(model.sql)}
        for place in range(count):
            tree = sqlglot.parse_one(model.sql, dialect="duckdb")
            literal = list(tree.find_all(exp.Literal))[place]
            literal.args["this"] = f"{literal.this}7"
            forms.add(sql_meaning(tree.sql("duckdb")))
        assert len(forms) == count + 1, model.name


def test_only_the_settings_that_a_model_reads_are_its_own() -> None:
    """``top_n`` that rebuilds the labels, or a setting that changes rows and rebuilds nothing."""
    assert GRAPH.settings("churn_label") == ["active_days", "churn_days", "label_horizon_days"]
    assert GRAPH.settings("stg_user") == []
    assert GRAPH.settings("user_features") == [
        "history_days", "label_horizon_days", "lookback_days", "top_n",
    ]  # fmt: skip
    two = ("lookback_days", "top_n")
    sql = "with a as (select s.lookback_days from run_settings as s) select t.top_n from a, t"
    assert columns_read(sql, "run_settings", two) == {"lookback_days"}
    assert columns_read("select * from run_settings", "run_settings", two) == set(two)
    assert columns_read("select s.* from run_settings as s", "run_settings", two) == set(two)
    assert columns_read("select top_n from run_settings", "run_settings", two) == {"top_n"}
    assert columns_read("select top_n from elsewhere", "run_settings", two) == set()
    assert set(RUN_SETTING_NAMES) >= {*two}


def test_a_statement_that_cannot_be_read_is_named() -> None:
    """A model whose version is that of nothing."""
    with pytest.raises(ValueError, match="Expecting"):
        sql_meaning("select (1")


def land(warehouse: Warehouse) -> None:
    """Three weeks of two users' days."""
    days = [D - timedelta(days=i) for i in range(-10, 11)]
    rows = [{"ds": day, "user_id": user} for day in days for user in ("a", "b")]
    schema = pa.schema([("ds", pa.date32()), ("user_id", pa.string())])
    warehouse.replace("user_day", pa.Table.from_pylist(rows, schema=schema), days=days)


def test_a_setting_rebuilds_the_tables_that_read_it(
    settings: Settings, warehouse: Warehouse
) -> None:
    """A change of ``top_n`` that rebuilds labels, or one of ``churn_days`` that leaves them."""
    land(warehouse)
    assert Builder(settings, warehouse).build("churn_label", [D]).built == [D]
    other = load_settings(settings.home, memory_limit="2GB", top_n=settings.top_n + 1)
    assert Builder(other, warehouse).build("churn_label", [D]).unchanged == [D]
    shorter = load_settings(settings.home, memory_limit="2GB", churn_days=5)
    assert Builder(shorter, warehouse).build("churn_label", [D]).built == [D]


def test_a_table_of_an_earlier_home_is_kept(
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upgrade that rebuilds every table, or one that keeps rows of another meaning."""
    land(warehouse)
    version, text = TEXT_VERSIONS["churn_label"]
    with monkeypatch.context() as patch:  # a home as the version before would have written it
        patch.setattr(
            Builder,
            "fingerprint",
            lambda self, model, day: build._fingerprint_of(
                text, self.run_settings, self._input_files(model, day)
            ),
        )
        assert Builder(settings, warehouse).build("churn_label", [D]).built == [D]
    assert Builder(settings, warehouse).build("churn_label", [D]).unchanged == [D]
    # another setting or other code than then is no reason to keep it
    other = load_settings(settings.home, memory_limit="2GB", active_days=20)
    builder = Builder(other, warehouse)
    known = warehouse.fingerprint("churn_label", D)
    assert not builder._is_current("churn_label", D, "new", known)
    monkeypatch.setattr(earlier, "TEXT_VERSIONS", {"churn_label": (f"{version}x", text)})
    assert Builder(settings, warehouse).build("churn_label", [D]).built == [D]
    assert Builder(settings, warehouse).build("churn_label", [D]).unchanged == [D]


def test_the_earlier_texts_are_those_of_present_versions() -> None:
    """A line for a model that has changed since: it does nothing and looks as if it did."""
    present = {table: GRAPH.code_version(table) for table in TEXT_VERSIONS}
    stale = [table for table, (version, _) in TEXT_VERSIONS.items() if version != present[table]]
    assert not stale, f"delete the lines of {stale} in warehouse/earlier.py: they were changed"
