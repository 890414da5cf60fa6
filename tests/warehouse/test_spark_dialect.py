"""Each rewrite of the dialect: what DuckDB makes of a SELECT, Spark makes of its translation."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.parity_world import equal
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse import spark_dialect
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.spark_dialect import spark_type, to_spark
from usergrowth_dagster.warehouse.spark_session import open_spark

ROWS = """
(values
    (1, 1, 'a|b|', 'x', [cast(1.5 as double), null, 2.5], null),
    (1, 2, '', null, [], 3),
    (2, 3, null, 'y', null, 2),
    (2, 4, 'b', 'x', [null], 1)
) as t(g, n, s, k, l, z)
"""
CASES = {
    "fold_lists": f"select n, list_sum(l) as v from {ROWS}",
    "split_at_patterns": f"select n, string_split(s, '|') as v from {ROWS}",
    "list_all_rows": f"""
        select g, list_sort(list(k)) as nulls_stay,
            list_sort(list(struct_pack(k := n, v := k))) as one,
            list_sort(list(struct_pack(k := -n, v := z))) as two,
            list(n) filter (where n > 9) as none, list(n) filter (where n in (1, 3)) as some
        from {ROWS} group by g
    """,
    "list_all_rows of no row": f"select 1 as n, list(k) as v from {ROWS} where n > 9",
    "leave_nulls_out_of_max_by": f"""
        select g, max_by(z, -n) as a, min_by(k, n) as b, max_by(k, n) filter (where n < 4) as c
        from {ROWS} group by g
    """,
    "count_in_doubles": f"select n, cast(1.0 / (n * 3000) as double) as v from {ROWS}",
    "map_entries_as_maps": f"""
        select n, map_keys(as_map([struct_pack(k := n, v := k)])) as v from {ROWS}
    """,
    "order of NULL": f"""
        select n, row_number() over (order by z, n) as up, row_number() over (order by z desc, n)
            as down from {ROWS}
    """,
    "whole numbers": f"select n, n / 2 as half, -n % 3 as rest, n // 2 as whole from {ROWS}",
    "one row": f"select n, stddev_samp(z) as v, avg(z) as m from {ROWS} group by n",
    "concat": f"select n, concat(k, '=', s) as v from {ROWS}",
    "distinct from": f"select n, z is not distinct from null as a, k is distinct from 'x' as b from {ROWS}",
    "unnest": f"select n, unnest(l) as v from {ROWS}",
    "dates": """
        select 1 as n, date_diff('day', date '2024-02-28', date '2024-03-01') as days,
            cast(strptime('20240229', '%Y%m%d') as date) as day
    """,
    "missing key": f"select n, as_map([struct_pack(k := k, v := n)])['x'] as v from {ROWS} where k <> ''",
}
"""SELECTs with a first column that is unique, by the rewrite or the difference that they try."""


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with open_spark(load_settings(tmp_path_factory.mktemp("spark"), engine="spark")) as session:
        yield session


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with open_engine(load_settings(tmp_path_factory.mktemp("home"))) as opened:
        yield opened


def made(spark: Any, sql: str) -> list[list[Any]]:
    rows = [list(row.values()) for row in spark.sql(sql).toArrow().to_pylist()]
    return sorted(rows, key=repr)


@pytest.mark.parametrize("case", CASES)
def test_a_translation_makes_the_same_rows(case: str, spark: Any, engine: Engine) -> None:
    """Guards against a rewrite that is wrong, or lacks an edge: NULL, no row, an empty list."""
    wanted = [list(row.values()) for row in engine.arrow(CASES[case]).to_pylist()]
    assert equal(sorted(wanted, key=repr), made(spark, to_spark(CASES[case], {})))


@pytest.mark.parametrize("rewrite", spark_dialect.REWRITES, ids=lambda one: one.__name__)
def test_no_rewrite_is_without_need(
    rewrite: Any, spark: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a rewrite that a newer sqlglot or Sail has made needless, or never tried."""
    others = tuple(one for one in spark_dialect.REWRITES if one is not rewrite)
    monkeypatch.setattr(spark_dialect, "REWRITES", others)
    sql = CASES[rewrite.__name__]
    wanted = [list(row.values()) for row in engine.arrow(sql).to_pylist()]
    try:
        rows = made(spark, to_spark(sql, {}))
    except Exception:  # sqlglot or Spark refuses it
        return
    assert not equal(sorted(wanted, key=repr), rows)


def test_a_star_without_columns_becomes_names(spark: Any) -> None:
    """Guards against a column that a star would lose or show again."""
    tables = {"left_one": ("a", "b", "c"), "right_one": ("a", "d")}
    for name, columns in tables.items():
        listed = ", ".join(f"1 as {column}" for column in columns)
        spark.sql(f"select {listed}").createOrReplaceTempView(name)
    sql = "select l.*, r.* exclude (a) from left_one as l join right_one as r on l.a = r.a"
    assert spark.sql(to_spark(sql, tables)).columns == ["a", "b", "c", "d"]
    for unknown in (
        "select * exclude (a) from left_one",
        "with left_one as (select 1 as a, 2 as z) select l.* exclude (a) from left_one as l",
    ):
        with pytest.raises(ValueError, match="name the columns"):
            to_spark(unknown, tables)


@pytest.mark.parametrize(
    "sql",
    [
        "select unnest([1]) as a, unnest([2]) as b",
        "select list(a order by b) as l from t",
        "select list(distinct a) as l from t",
        "select string_split(a, b) as l from t",
        "select string_split(a, '^') as l from t",
        "select bar(a) as l from t",
        "drop table t",
    ],
)
def test_what_spark_reads_in_another_way_is_refused(sql: str) -> None:
    """Guards against SQL that Spark runs, to other rows than DuckDB."""
    with pytest.raises(ValueError, match=r"in Spark|DuckDB alone|not a SELECT"):
        to_spark(sql, {"t": ("a", "b")})


def test_types() -> None:
    """Guards against a column whose type Spark reads as another."""
    assert spark_type("MAP(VARCHAR, DOUBLE)") == "MAP<STRING, DOUBLE>"
    assert [spark_type(kind) for kind in ("VARCHAR[]", "BIGINT")] == ["ARRAY<STRING>", "BIGINT"]
