"""Relations as values: names that never collide, and the files that each is made from."""

from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.relation import (
    Relation,
    bind_arrow,
    bind_days,
    bind_files,
    bind_query,
    files_fingerprint,
)
from usergrowth_dagster.warehouse.tables import Warehouse

KINDS = {"ds": "DATE", "task_id": "VARCHAR", "row": "BIGINT"}


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    """A table ``scores`` of two tasks on two days; a row's number is ten times the day, or more."""
    tables = Warehouse(Storage(str(tmp_path / "storage")))
    for task, extra in (("a", 0), ("b", 5)):
        for number in (1, 2):
            day = date(2026, 1, number)
            rows = pa.table(
                {"ds": [day], "task_id": [task], "row": pa.array([10 * number + extra], pa.int64())}
            )
            tables.replace("scores", rows, days=[day], scope={"task_id": task})
    return tables


def test_two_relations_of_a_kind_live_in_one_engine(
    settings: Settings, warehouse: Warehouse
) -> None:
    """A second population, decision or score view replaces the first, and both read the same."""
    with open_engine(settings) as engine:
        relations = {
            task: bind_days(engine, warehouse, "scores", [date(2026, 1, 2)], KINDS, task_id=task)
            for task in ("a", "b")
        }
        rows = {task: engine.rows(f'select "row" from {one}') for task, one in relations.items()}
    assert rows == {"a": [(20,)], "b": [(25,)]}
    assert relations["a"].name != relations["b"].name


def test_a_query_is_made_from_the_files_of_what_it_reads(
    settings: Settings, warehouse: Warehouse
) -> None:
    """A derived relation forgets a data file, so that a decision's provenance lacks it."""
    days = [date(2026, 1, n) for n in (1, 2)]
    with open_engine(settings) as engine:
        one, other = (
            bind_days(engine, warehouse, "scores", [day], KINDS, task_id="a") for day in days
        )
        joined = bind_query(
            engine, "joined", f"from {one} union all from {other}", of=[one, other, one]
        )
        view = bind_query(engine, "view", f"from {one}", of=[one])
        kept = bind_query(engine, "kept", f"from {one}", of=[one], keep=True)
        files = [path for paths in warehouse.files("scores").values() for path in paths]
        assert sorted(joined.files) == sorted(path for path in files if "/task_id=a/" in path)
        assert joined.columns == KINDS == one.columns
        assert view.fingerprint == kept.fingerprint == one.fingerprint != other.fingerprint
        kinds = dict(engine.rows("select table_name, table_type from information_schema.tables"))
        assert kinds[view.name] == kinds[kept.name] == "VIEW"


def test_kept_rows_lie_in_a_file_as_they_were(settings: Settings) -> None:
    """Guards against rows that stay in memory while an engine is open, that a reader computes once
    more, and whose integers of 128 bits Parquet rounds."""
    row = "{'whole': n, 'text': 'x'} as pair, [n] as all_n, map {'k': n} as by_key, null as nothing"
    with open_engine(settings) as engine:
        engine.run(f"create table given as select {2**100 + 1}::hugeint as n")
        rows = f"select n, {row}, n + 0.1::decimal(2, 1) as more from given"
        kinds, wanted = engine.describe(rows), engine.rows(rows)
        kept = bind_query(engine, "kept", rows, keep=True)
        engine.run("drop table given")
        assert engine.rows(f"from {kept}") == wanted
        assert kept.columns == kinds
        many = bind_query(engine, "many", "select range as n from range(2_000_000)", keep=True)
        held = "select coalesce(sum(memory_usage_bytes), 0) from duckdb_memory()"
        assert engine.value(f"select sum(n) from {many}") == 1_999_999_000_000
        assert engine.value(f"{held} where tag = 'IN_MEMORY_TABLE'") == 0


def test_the_fingerprint_is_of_the_files_names(settings: Settings) -> None:
    """A home that was moved, or files listed in another order, count as other content."""
    names = ["/here/tables/scores/ds=2026-01-01/a.parquet", "/here/tables/scores/b.parquet"]
    moved = [name.replace("/here", "s3://there") for name in reversed(names)]
    assert files_fingerprint(names) == files_fingerprint(moved) != files_fingerprint(names[:1])
    assert files_fingerprint([]) == ""
    with open_engine(settings) as engine:
        empty = bind_files(engine, "nothing", [], KINDS)
        assert engine.rows(f"select * from {empty}") == [] and empty.fingerprint == ""
        given = bind_arrow(engine, "rows", pa.table({"n": [1]}), "mark")
        assert (given.fingerprint, given.columns) == ("mark", {"n": "BIGINT"})


def test_a_name_is_quoted_in_sql(settings: Settings) -> None:
    """A name that SQL reserves, or that holds a quote, breaks the statement that reads it."""
    assert str(Relation('a"b', {})) == '"a""b"'
    with open_engine(settings) as engine:
        made = bind_query(engine, "order", "select 1 as n")
        assert engine.value(f"select n from {made}") == 1
