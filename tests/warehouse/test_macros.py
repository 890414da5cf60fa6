"""Macros of the SQL models: a call and the text that it stands for give the same rows."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlglot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlglot import exp

from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse import meaning
from usergrowth_dagster.warehouse.duckdb_rows import bind_settings
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.macros import expand, project_macros, read_macros
from usergrowth_dagster.warehouse.meaning import expanded, sql_meaning
from usergrowth_dagster.warehouse.model_files import ModelError
from usergrowth_dagster.warehouse.models import AS_OF_DATES, RUN_SETTING_NAMES, load_graph
from usergrowth_dagster.warehouse.unit_tests import UnitTest, bind_rows, unit_tests

GRAPH = load_graph()
MACROS = read_macros(
    "create macro twice(x) as 2 * x; create macro less(a, b) as a - b;"
    "create macro four_times(x) as twice(twice(x)); create macro field_of(e, name) as "
    "struct_extract(e, name); create macro rest(x, y) as x % y"
)


def calls(sql: str) -> set[str]:
    """The project's macros that a SELECT calls."""
    tree = sqlglot.parse_one(sql, dialect="duckdb")
    return {call.name.lower() for call in tree.find_all(exp.Anonymous)} & set(project_macros())


@pytest.mark.parametrize("case", unit_tests(GRAPH), ids=lambda case: f"{case.model}: {case.name}")
def test_a_model_means_what_its_expanded_text_means(case: UnitTest, tmp_path: Path) -> None:
    """A version or a lineage of other rows than those that DuckDB makes."""
    sql = GRAPH.models[case.model].sql
    settings = load_settings(tmp_path)
    values = {name: int(getattr(settings, name)) for name in RUN_SETTING_NAMES}
    with open_engine(settings) as engine:
        bind_settings(engine, {**values, **case.settings})
        bind_rows(engine, AS_OF_DATES, case.given.get(AS_OF_DATES, ()), {"as_of": "DATE"})
        for ref in GRAPH.models[case.model].refs:
            bind_rows(engine, ref, case.given.get(ref, ()), GRAPH.types(ref))
        require_equal(engine, sql, expanded(sql).sql("duckdb"))


def require_equal(engine: Engine, one: str, other: str) -> None:
    """Two SELECTs give the same rows, any number of times each."""
    assert engine.describe(one) == engine.describe(other)
    assert engine.rows(f"({one}) except all ({other})") == []
    assert engine.rows(f"({other}) except all ({one})") == []
    assert engine.value(f"select count(*) from ({one})") > 0


def test_each_macro_stands_in_a_model() -> None:
    """A macro that nothing calls any more."""
    called = set().union(*(calls(model.sql) for model in GRAPH.models.values()))
    called |= set().union(*(calls(macro.body.sql("duckdb")) for macro in project_macros().values()))
    assert called == set(project_macros())


def test_a_question_of_another_package_brings_macros(tmp_path: Path) -> None:
    """SQL beside a question that can call the macros of this project only."""
    package, information = tmp_path / "other", tmp_path / "other-1.dist-info"
    (package / "sql" / "macros").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "sql" / "macros" / "own.sql").write_text("create macro half(x) as x / 2;")
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[usergrowth.problems]\nother = other:Other\n")
    program = (
        "from usergrowth_dagster.settings import load_settings\n"
        "from usergrowth_dagster.warehouse.engine import open_engine\n"
        "from usergrowth_dagster.warehouse.meaning import sql_meaning\n"
        f"with open_engine(load_settings({str(tmp_path)!r})) as engine:\n"
        "    print(engine.value('select half(3.0)'), sql_meaning('select half(a)'))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    shown = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert shown.stdout == "1.5 SELECT a / 2\n"


def test_another_body_is_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed macro whose tables keep the rows of before."""
    before = {name: sql_meaning(model.sql) for name, model in GRAPH.models.items()}
    changed = read_macros("create macro sum_where(value, condition) as max(value)")
    with monkeypatch.context() as patch:
        patch.setattr(meaning, "project_macros", lambda: {**project_macros(), **changed})
        sql_meaning.cache_clear()
        expanded.cache_clear()
        after = {name: sql_meaning(model.sql) for name, model in GRAPH.models.items()}
    sql_meaning.cache_clear()
    expanded.cache_clear()
    readers = {name for name, model in GRAPH.models.items() if "sum_where" in calls(model.sql)}
    assert {name for name in before if before[name] != after[name]} == readers
    assert {"user_windows", "user_kind_history"} <= readers


texts = st.one_of(
    st.none(),
    st.just(""),
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "hh09", "é"]), st.sampled_from(["1", "-2.5", "1e3"])),
        min_size=1,
        max_size=3,
        unique_by=lambda pair: pair[0],
    ).map(lambda pairs: " ".join(f"{key}:{value}" for key, value in pairs)),
)
rows = st.lists(
    st.tuples(
        st.sampled_from(["u", "v"]),
        st.one_of(st.none(), st.floats(-1e6, 1e6)),
        st.one_of(st.none(), st.integers(0, 99)),
        texts,
    ),
    min_size=1,
    max_size=8,
)
WRITTEN = {
    "sum_where(x, n <= 7)": "coalesce(sum(x) filter (where n <= 7), 0)",
    "sum_where(x + 1, n <= 7 or n > 50)": "coalesce(sum(x + 1) filter (where n <= 7 or n > 50), 0)",
    "1 - share_where(n, n between 3 and 9)": (
        "1 - (coalesce(sum(n) filter (where n between 3 and 9), 0) / nullif(sum(n), 0))"
    ),
    "stable_sum(x - n)": "round(sum(x - n), 9)",
    "sorted_map(i, n + i)": ("map_from_entries(list_sort(list(struct_pack(k := i, v := n + i))))"),
    "sorted_map_where(i, x, n > 5)": (
        "map_from_entries(list_sort(list(struct_pack(k := i, v := x)) filter (where n > 5)))"
    ),
    "field_map(list_sort(list(struct_pack(k := i, a := n, b := x))), 'b')": (
        "as_map(list_transform(list_sort(list(struct_pack(k := i, a := n, b := x))), "
        "lambda e: struct_pack(k := e.k, v := e.b)))"
    ),
    "bool_or(has_churned(n - 1, 7 + 1))": "bool_or(coalesce((n - 1) >= (7 + 1), true))",
    "list(kvs_strings(t))": (
        "list(as_map(list_transform(string_split(t, ' '), lambda pair: "
        "struct_pack(k := split_part(pair, ':', 1), v := split_part(pair, ':', 2)))))"
    ),
    "list(kvs_numbers(nullif(t, '')))": (
        "list(as_map(list_transform(string_split(nullif(t, ''), ' '), lambda pair: "
        "struct_pack(k := split_part(pair, ':', 1), "
        "v := cast(split_part(pair, ':', 2) as double)))))"
    ),
}
"""By a call, the text as the models had it before there were macros."""


@given(data=rows)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_call_gives_what_the_text_gives(data: list[tuple[object, ...]], tmp_path: Path) -> None:
    """A macro of other values, or one whose expansion loses a parenthesis."""
    with open_engine(load_settings(tmp_path)) as engine:
        engine.run("create table r (i integer, g varchar, x double, n integer, t varchar)")
        for place, row in enumerate(data):
            engine.run("insert into r values (?, ?, ?, ?, ?)", [place, *row])
        for call, text in WRITTEN.items():
            select = "select g, {} as y from (select * from r order by i) group by g order by g"
            made = engine.rows(select.format(call))
            assert made == engine.rows(select.format(text)), call
            assert made == engine.rows(expanded(select.format(call)).sql("duckdb")), call


def test_a_call_is_planned_as_the_text_is(tmp_path: Path) -> None:
    """A macro that takes longer than what it stands for."""
    with open_engine(load_settings(tmp_path)) as engine:
        engine.run("create table r (i integer, g varchar, x double, n integer, t varchar)")
        for call, text in WRITTEN.items():
            plans = [engine.rows(f"explain select {y} from r group by g") for y in (call, text)]
            assert plans[0] == plans[1], call


def test_the_written_texts_mean_the_same() -> None:
    """A macro that rebuilds the tables of a home from the version before."""
    assert set().union(*(calls(f"select {call}") for call in WRITTEN)) == {
        *project_macros(),
    } - {"number_entries"}
    for call, text in WRITTEN.items():
        if not call.startswith("1 -"):  # there the text has parentheses of its own
            assert sql_meaning(f"select {call}") == sql_meaning(f"select {text}"), call


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("twice(a + b)", "2 * (a + b)"),
        ("less(a, b - c)", "a - (b - c)"),
        ("c - less(a, b)", "c - (a - b)"),
        ("-less(a, b)", "-(a - b)"),
        ("less(a, b)[1]", "(a - b)[1]"),
        ("less(a, b) between 1 and 2", "(a - b) between 1 and 2"),
        ("TWICE(less(a, b))", "2 * (a - b)"),
        ("four_times(a)", "2 * (2 * a)"),
        ("less(x, twice(a))", "x - (2 * a)"),
        ("twice(t.x)", "2 * t.x"),
        ("less(b, a)", "b - a"),
        ("list_transform(l, lambda e: field_of(e, 'v'))", "list_transform(l, lambda e: e.v)"),
        ("rest(a, least(b, c))", "a % least(b, c)"),
        ("abs(less(a, b))", "abs(a - b)"),
        ("other(twice(a))", "other(2 * a)"),
    ],
)
def test_an_expansion_keeps_the_order_of_operations(call: str, text: str) -> None:
    """An argument that an operator of the body takes apart, or that is filled in twice."""
    tree = sqlglot.parse_one(f"select {call}", dialect="duckdb")
    whole = tree.sql("duckdb")
    assert expand(tree, MACROS).sql("duckdb") == sqlglot.parse_one(
        f"select {text}", dialect="duckdb"
    ).sql("duckdb")
    assert tree.sql("duckdb") == whole


@pytest.mark.parametrize(
    ("attempt", "sentence"),
    [
        (lambda: expanded("select sum_where(a)"), "sum_where takes 2 arguments, not 1"),
        (lambda: read_macros("select 1"), "expected create macro"),
        (
            lambda: read_macros("create macro a(x) as x; create macro A(x) as x"),
            "creates the macro a twice",
        ),
        (
            lambda: expand(
                sqlglot.parse_one("a(1)", dialect="duckdb"),
                read_macros("create macro a(x) as b(x); create macro b(x) as a(x)"),
            ),
            "the macro a calls itself",
        ),
    ],
)
def test_a_macro_that_cannot_be_expanded_is_named(
    attempt: Callable[[], object], sentence: str
) -> None:
    """An expansion without an end, or one that leaves a parameter in the text."""
    with pytest.raises(ModelError, match=sentence):
        attempt()
