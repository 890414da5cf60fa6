"""The SELECT of a segment: what it may read, and everything that it may not."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from support.hostile_sql import READS, SETTINGS, WRITES
from support.segment_world import D, phone, write_population, write_world

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.segments import people
from usergrowth_dagster.segments.definition import Named, Segment
from usergrowth_dagster.segments.people import bind_people
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import open_engine

OWN = [
    "select user_id from decisions_of_others",
    "select user_id from raw_user",
    "select user_id from churn_label",
    "select user_id from control.message",
    "select user_id from control.audit",
    "select phone as user_id from population",
    "select table_name as user_id from information_schema.tables",
    "select table_name as user_id from duckdb_tables()",
    "show tables",
    "describe user_features",
    "explain select user_id from user_features",
    "explain analyze select user_id from user_features",
    "summarize user_features",
    "select user_id from user_features where random() < 0.5",
    "select user_id from user_features tablesample 10%",
    "select user_id from user_features using sample 10 rows",
    "select user_id from (select * from user_features using sample 10 rows)",
    "select cast(now() as varchar) as user_id",
    "select user_id from user_features where ds = current_date",
    "select user_id from user_features where ds = today()",
    "select cast(uuid() as varchar) as user_id",
    "select current_setting('memory_limit') as user_id",
    "select getvariable('x') as user_id",
    "select user_id from user_features; select user_id from user_features",
    "select user_id from user_features; drop table user_features",
    "",
    ";",
    "-- nothing",
    "select 1 as user_id",
    "select ds from user_features",
    "select user_id from user_features union all select content from read_text('/etc/passwd')",
    "with a as (select * from read_csv('/etc/passwd')) select user_id from user_features, a",
    "select user_id from user_features where user_id in (select content from read_blob('/etc/*'))",
    "select user_id from 's3://bucket/x.parquet'",
    "select user_id from 'https://example.com/x.csv'",
    "select user_id from read_parquet('https://example.com/x.parquet')",
    "select user_id from postgres_scan('host=127.0.0.1', 'public', 'x')",
    "select user_id from delta_scan('{out}')",
    "select user_id from iceberg_scan('{out}')",
    "select user_id from read_json('/etc/passwd')",
    "select user_id from read_ndjson('/etc/passwd')",
]
"""Attempts beyond those that the shell of `usergrowth sql` has to withstand."""


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A home with the world, numbers, and a table of the day's decisions."""
    with pytest.MonkeyPatch.context() as patch:
        import os

        for name in [key for key in os.environ if key.startswith("USERGROWTH_")]:
            patch.delenv(name)
        project = write_world(tmp_path_factory.mktemp("selects") / "home")
        write_population(project, [("u01", phone(1), None)])
        yield project


def selected(project: Project, sql: str) -> list[str]:
    """The users that a SELECT finds."""
    named = Named("wild", Segment(select=sql or " "), "wild.yml")
    with open_engine(project.settings) as engine:
        made = bind_people(engine, project, named, D)
        return sorted(user for (user,) in engine.rows(f"select user_id from {made.members}"))


@pytest.mark.parametrize("sql", [*WRITES, *SETTINGS, *READS, *OWN])
def test_what_a_select_may_not(reading: Project, tmp_path: Path, sql: str) -> None:
    """A SELECT that writes, or reads a file, the network, a setting, the clock or a number."""
    (file,) = reading.warehouse.files("population")[D]
    data = {path: path.stat().st_mtime_ns for path in Path(file).parents[3].rglob("*.parquet")}
    statement = sql.replace("{out}", str(tmp_path / "out")).replace("{data}", file)
    with pytest.raises(UserError) as error:
        selected(reading, statement.replace("facts", "user_features"))
    sentence = str(error.value)
    assert sentence.startswith("wild.yml: select: ") and "\n" not in sentence
    assert "root:" not in sentence and phone(1) not in sentence
    assert not (tmp_path / "out").exists()
    after = {path: path.stat().st_mtime_ns for path in Path(file).parents[3].rglob("*.parquet")}
    assert data == after


def test_there_are_enough_attempts() -> None:
    """A list of attempts that shrinks unseen."""
    assert len({*WRITES, *SETTINGS, *READS, *OWN}) >= 60


def test_a_select_sees_nothing_of_the_date_or_later(reading: Project) -> None:
    """A segment that knows what people did on the day, or on the day after."""
    engine_days = reading.warehouse.files("stg_behavior")
    assert max(engine_days) >= D + timedelta(days=1)
    future = f"select user_id from stg_behavior where ds >= date '{D}'"
    assert selected(reading, future) == []
    assert selected(reading, f"select user_id from user_features where ds > date '{D}'") == []
    assert (
        selected(reading, f"select user_id from user_features where age > 17 and ds > '{D}'") == []
    )
    newest = f"select user_id from user_features where ds = date '{D}'"
    assert len(selected(reading, newest)) == 60


def test_what_becomes_of_rows_that_are_no_people(reading: Project) -> None:
    """Rows that vanish without a count: twice, without a user, or of somebody unknown."""
    sql = (
        "select user_id from user_features union all select user_id from user_features "
        "union all select null union all select 'stranger'"
    )
    named = Named("wild", Segment(select=sql), "wild.yml")
    with open_engine(reading.settings) as engine:
        made = bind_people(engine, reading, named, D)
        assert engine.value(f"select count(*) from {made.members}") == 60
    assert made.notes == (
        "the SELECT gave 122 rows: 61 people, 1 without a user, the others twice",
        f"1 of 61 people of the SELECT are not known as of {D}",
    )


@pytest.mark.parametrize(
    ("setting", "sql", "said"),
    [
        ({"segment_rows": 59}, "select user_id from user_features", "more than 59 rows"),
        (
            {"segment_seconds": 1},
            "select user_id from user_features, range(100000000000) group by 1",
            "longer than 1 seconds, the setting segment_seconds",
        ),
        (
            {"memory_limit": "50MB"},
            "select 'u' || i as user_id, list(i || 'x' order by i) from range(3000000) t(i), "
            "(select 1 from user_features limit 1) group by 1",
            "more memory than 50MB, the setting memory_limit",
        ),
    ],
)
def test_the_limits_of_a_select(
    reading: Project, setting: dict[str, int], sql: str, said: str
) -> None:
    """A query that runs on, or fills the disk."""
    limited = Project(load_settings(reading.settings.home, **setting))
    with pytest.raises(UserError, match=said) as error:
        selected(limited, sql)
    assert error.value.code == "segment.too_large"


@pytest.mark.parametrize(
    "sql",
    [
        "select content as user_id from read_text('/etc/passwd')",
        "select user_id from read_parquet('{other}')",
        "select 'x' as user_id; set memory_limit = '99GB'",
        "select 'x' as user_id; copy user_features to '{out}'",
    ],
)
def test_the_engine_of_a_tree_is_locked(
    reading: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    """Guards against a way out of a tree's statement, if one should ever be written wrongly."""
    import duckdb

    (other,) = reading.warehouse.files("population")[D]
    hostile = sql.format(other=other, out=tmp_path / "out")
    monkeypatch.setattr(people, "compile_segment", lambda *_, **__: hostile)
    tree = Segment.model_validate({"where": {"feature": {"name": "age", "cmp": "set"}}})
    with open_engine(reading.settings) as engine, pytest.raises(duckdb.Error):
        bind_people(engine, reading, Named("wild", tree, "wild.yml"), D)
    assert not (tmp_path / "out").exists()
