"""The yml beside a model: its schema for editors, and what is refused."""

from pathlib import Path

import pytest

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.model_files import ModelError, json_schema, models_root
from usergrowth_dagster.warehouse.models import ModelGraph, load_graph, read_model
from usergrowth_dagster.warehouse.quality import model_tests, refuse_failures, run_tests
from usergrowth_dagster.warehouse.unit_tests import run_unit_test, unit_tests

SQL = "select u.ds, u.user_id, u.age from stg_user as u"
YML = """
version: 2

models:
  - name: ages
    description: Ages of users.
    config:
      materialized: table
      meta:
        grain: [ds, user_id]
        inputs:
          stg_user: {snapshot: -1}
    columns:
      - {name: ds, data_type: DATE, description: the day, data_tests: [not_null]}
      - {name: user_id, data_type: VARCHAR, description: the user}
      - name: age
        data_type: BIGINT
        description: age in years
        data_tests:
          - dbt_utils.accepted_range: {arguments: {min_value: 18}, config: {severity: warn}}
          - accepted_values: {arguments: {values: [17, 18, 19]}}

unit_tests:
  - name: ages stay
    model: ages
    given:
      - input: ref('stg_user')
        rows:
          - {ds: 2024-03-11, user_id: u1, age: 18}
    expect:
      rows:
        - {user_id: u1, age: 18}
"""


def write(folder: Path, yml: str) -> Path:
    """A model of ages; its SQL file."""
    (folder / "ages.sql").write_text(SQL, "utf-8")
    (folder / "ages.yml").write_text(yml, "utf-8")
    return folder / "ages.sql"


def graph_of(folder: Path, yml: str = YML) -> ModelGraph:
    """The project's models with that of ages."""
    project = load_graph()
    return ModelGraph(project.models | {"ages": read_model(write(folder, yml))}, project.sources)


def test_the_schema_file_is_that_of_the_format() -> None:
    """An editor that accepts a key which the program refuses, or the other way round.

    Write it again: python -m usergrowth_dagster.warehouse.model_files > sql/model.schema.json
    """
    root = models_root()
    assert (root / "sql" / "model.schema.json").read_text("utf-8") == json_schema()
    for path in [*root.glob("sql/*/*.yml"), *root.glob("dbt_like_models/*/*.yml")]:
        first = path.read_text("utf-8").partition("\n")[0]
        schema = first.removeprefix("# yaml-language-server: $schema=")
        assert (path.parent / schema).resolve() == root.resolve() / "sql" / "model.schema.json"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("version: 2", "verzion: 2", "ages.yml: verzion: unknown key; did you mean 'version'?"),
        (
            "data_type: BIGINT",
            "datatype: BIGINT",
            "ages.yml: models.0.columns.2.datatype: unknown key; did you mean 'data_type'?",
        ),
        (
            "grain:",
            "grains:",
            "ages.yml: models.0.config.meta.grains: unknown key; did you mean 'grain'?",
        ),
        (
            "severity: warn",
            "severity: block",
            "models.0.columns.2.data_tests.0.dbt_utils.accepted_range.config.severity: must be "
            "'error' or 'warn', not 'block'",
        ),
        (
            "[not_null]",
            "[unique]",
            "models.0.columns.0.data_tests.0.unique: unknown key; known keys are not_null, "
            "accepted_values, dbt_utils.accepted_range",
        ),
        ("[not_null]", "[{}]", "models.0.columns.0.data_tests.0: name one test"),
        (
            "{snapshot: -1}",
            "{snapshot: -1, last: 0}",
            "models.0.config.meta.inputs.stg_user: give first and last, or snapshot",
        ),
        (
            "ref('stg_user')",
            "stg_user",
            "unit_tests.0.given.0.input: write ref('model') or source('landing', 'table')",
        ),
        ("materialized: table", "materialized: [", "ages.yml: not valid YAML: "),
        ("  - name: ages\n", "  - name: age\n", "ages.yml: describes the model 'age', not 'ages'"),
        (
            "    model: ages\n",
            "    model: age\n",
            "ages.yml: describes the model 'age', not 'ages'",
        ),
    ],
)
def test_a_mistake_is_one_sentence_with_the_file_and_the_key(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    """A misspelled key that is ignored, or a traceback of pydantic instead of a place to mend."""
    assert YML.count(old) == 1
    with pytest.raises(UserError) as raised:
        read_model(write(tmp_path, YML.replace(old, new)))
    assert sentence in str(raised.value)
    assert str(raised.value).startswith(str(tmp_path))
    assert "\n" not in str(raised.value)
    assert raised.value.code == "sql_model.invalid"


def test_a_model_without_a_yml_is_refused(tmp_path: Path) -> None:
    """A model whose columns nobody declared."""
    path = write(tmp_path, YML)
    path.with_suffix(".yml").unlink()
    with pytest.raises(ModelError, match=r"ages\.yml: not there"):
        read_model(path)


def test_errors_block_and_warnings_do_not(tmp_path: Path) -> None:
    """A severity that is read the wrong way round."""
    tests = model_tests(graph_of(tmp_path), "ages")
    assert [(test.name, test.blocking) for test in tests] == [
        ("grain_is_unique", True),
        ("ds_not_null", True),
        ("age_in_range", False),
        ("age_accepted", True),
    ]
    with open_engine(load_settings(tmp_path)) as engine:
        engine.run(
            "create table made as select date '2024-03-11' as ds, * from "
            "(values ('u1', 17), ('u2', 18), ('u3', null)) as t (user_id, age)"
        )
        results = run_tests(engine, "made", tests)
        assert {result.name: result.failing for result in results} == {
            "grain_is_unique": 0,
            "ds_not_null": 0,
            "age_in_range": 1,
            "age_accepted": 0,
        }
        refuse_failures("ages", "2024-03-11", results)
        engine.run("insert into made values (null, 'u4', 20)")
        with pytest.raises(UserError, match="ds_not_null: 1 rows; age_accepted: 1 rows"):
            refuse_failures("ages", "2024-03-11", run_tests(engine, "made", tests))


def test_rows_with_a_key_that_comes_twice_are_counted(tmp_path: Path) -> None:
    """Two null keys that count as different, one row too few, or two keys of one hash."""
    grain = model_tests(graph_of(tmp_path), "ages")[0]
    with open_engine(load_settings(tmp_path)) as engine:

        def failing(keys: str) -> int:
            engine.run(
                f"create or replace table made as select * from (values {keys}) as t (ds, user_id)"
            )
            return run_tests(engine, "made", [grain])[0].failing

        assert grain.unique == ("ds", "user_id")
        assert failing("(1, 'a'), (1, 'b'), (2, 'a'), (null, 'a'), (1, null)") == 0
        assert failing("(1, 'a'), (1, 'b'), (1, 'a'), (2, 'a'), (1, 'a')") == 3
        assert failing("(null, 'a'), (1, 'b'), (null, 'a'), (null, null), (null, null)") == 4
        engine.run("create macro hash(ds, user_id) as 7")
        assert failing("(1, 'a'), (1, 'b'), (2, 'a')") == 0
        assert failing("(1, 'a'), (1, 'a'), (2, 'a')") == 2


def test_a_unit_test_gives_only_what_its_model_reads(tmp_path: Path) -> None:
    """Rows of a misspelled table, so that the example shows something else than it says."""
    settings = load_settings(tmp_path)
    other = YML.replace("u1, age: 18}\n    expect", "u1, age: 19}\n    expect")
    for yml, differences in ((YML, 0), (other, 1)):
        graph = graph_of(tmp_path, yml)
        (case,) = (case for case in unit_tests(graph) if case.model == "ages")
        assert len(run_unit_test(graph, case, settings)) == differences
    graph = graph_of(tmp_path, YML.replace("ref('stg_user')", "ref('stg_item')"))
    (case,) = (case for case in unit_tests(graph) if case.model == "ages")
    with pytest.raises(ModelError, match=r"'ages stay': reads no \['stg_item'\]"):
        run_unit_test(graph, case, settings)
