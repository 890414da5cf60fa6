"""Views whose users do not fit the memory are made for some users after the others."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import Settings, load_settings
from usergrowth_dagster.warehouse import duckdb_rows
from usergrowth_dagster.warehouse.duckdb_rows import DuckDBRows, _is_of
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.models import load_graph

USERS, MANY = 20_000, 1_000_000
VIEW = "user_history"
ITEMS = f"""
select 'user ' || i % {USERS} as user_id, list('item ' || i order by i) as items
from range({MANY}) as t(i) group by all
"""
"""Ordered lists, which DuckDB cannot write to disk while it makes them."""


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return load_settings(tmp_path / "home", memory_limit="50MB", threads=2)


@pytest.fixture
def engine(home: Settings) -> Iterator[Engine]:
    with open_engine(home) as opened:
        yield opened


@pytest.fixture
def rows(home: Settings) -> DuckDBRows:
    return DuckDBRows(Storage(home.storage_root), load_graph(), home.memory_limit)


def counted(engine: Engine) -> tuple[int, int, int]:
    """Rows, users and items of the view."""
    sql = f"select count(*), count(distinct user_id), sum(len(items)) from {VIEW}"
    return engine.rows(sql)[0]  # type: ignore[return-value]


def test_users_that_do_not_fit_are_made_in_parts(engine: Engine, rows: DuckDBRows) -> None:
    """Guards against a home whose features end with DuckDB's complaint about memory, and against
    users who are lost or doubled between the parts."""
    with pytest.raises(duckdb.OutOfMemoryException):
        engine.run(f"create temp table whole as {ITEMS}")
    rows._make_view(engine, VIEW, ITEMS)
    assert counted(engine) == (USERS, USERS, MANY)
    rows._make_view(engine, VIEW, ITEMS, afresh=False)
    assert counted(engine) == (2 * USERS, USERS, 2 * MANY)


def test_what_never_fits_ends(
    engine: Engine, rows: DuckDBRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against parts without end where one user alone, or rows of no user, are too many."""
    one = ITEMS.replace(f"i % {USERS}", "'one'")
    monkeypatch.setattr(duckdb_rows, "MOST_PARTS", 8)
    with pytest.raises(duckdb.OutOfMemoryException):
        rows._make_view(engine, VIEW, one)
    with pytest.raises(duckdb.OutOfMemoryException):
        rows._make_view(engine, "kind_rank", ITEMS)
    assert engine.value("select 1") == 1


def test_what_does_not_fit_is_one_sentence(home: Settings) -> None:
    """Guards against DuckDB's advice about statements that a user of the product cannot give."""
    everything = ITEMS.replace(f"i % {USERS}", "'one'")
    sentence = r"^a query takes more memory than 50MB, the setting memory_limit$"
    with pytest.raises(UserError, match=sentence), open_engine(home) as engine:
        engine.run(f"create table items as {everything}")
    with pytest.raises(UserError, match=sentence) as error, open_engine(home) as engine:
        engine.stream(everything).read_all()
    assert error.value.code == "memory.exceeded"


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 64])
def test_each_user_is_of_one_part(engine: Engine, parts: int) -> None:
    """Guards against the ends of ranges: a hash that is of no part, or of two."""
    conditions = " + ".join(f"({_is_of(part, parts)})::int" for part in range(parts))
    least_and_most = f"select min(n), max(n) from (select {conditions} as n from"
    assert engine.rows(
        f"{least_and_most} (select i::varchar as user_id from range(5000) t(i)))"
    ) == [(1, 1)]
    ends = f"(select unnest([0, {2**63}, {2**64 - 1}]::ubigint[]) as user_id)"
    assert engine.rows(f"{least_and_most.replace('hash(user_id)', 'user_id')} {ends})") == [(1, 1)]
