"""A refresh of a segment with five conditions, beside a bare scan of the same columns, twice."""

import statistics
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import duckdb
from measured import Row, Size

from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.project import Project
from usergrowth_dagster.segments.files import segment_named
from usergrowth_dagster.segments.refresh import refresh
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.landing import row_stream

DAY = date(2024, 7, 1)
DAYS = 60
USERS: dict[Size, int] = {"tiny": 2_000, "normal": 1_000_000, "full": 1_000_000}
TIMES: dict[Size, int] = {"tiny": 1, "normal": 3, "full": 5}
CONDITIONS = """
where:
  all:
    - event: {behavior: buy, at_least: 1, within_days: 60}
    - not: {event: {behavior: cart, within_days: 7}}
    - any:
        - attribute: {key: age, cmp: lt, value: 40}
        - tag: {key: likes, cmp: any, value: [tea]}
    - rfm: {types: [high_value, key_retain]}
"""
ROWS = (
    "select date '{day}' as ds, format('u{{:07d}}', i) as user_id, %s from range({users}) as r (i)"
)
FEATURES = ROWS % "18 + i * 7 % 60 as age"
TAGS = ROWS % "case i % 3 when 0 then ['tea'] when 1 then ['rum', 'tea'] else [] end as likes"
RFM = ROWS % "['high_value', 'key_retain', 'potential'][1 + i % 3] as rfm_type"
USER_DAY = """
select ds, user_id, cast(2 as double) as events,
    map {{['buy', 'cart', 'view'][1 + cast(h % 3 as bigint)]: cast(1 as double),
        'login': cast(1 as double)}} as kinds,
    map {{'pay': cast(h % 100 as double)}} as amounts
from (
    select date '{day}' - cast(n as integer) as ds, format('u{{:07d}}', i) as user_id,
        hash(i, n) as h
    from range({users}) as r (i), range(1, {days} + 1) as s (n)
) where h % 10 = 0
"""


def measure(size: Size, work: Path) -> Iterator[Row]:
    """The one row of this module; see :class:`measured.Measure`."""
    project = make(work / "home", USERS[size])
    expected = plain(project)
    ours, scans = [], []
    for turn in range(TIMES[size]):  # in turns, so that a busy minute hits both
        scans.append(scanned_twice(project))
        named = segment_named(project.settings.home, "five")
        began = time.perf_counter()
        made = refresh(project, named, DAY, actor="bench", reason=f"turn {turn}")
        ours.append(time.perf_counter() - began)
        assert made.snapshot is not None and made.snapshot.sizes is not None
        assert made.state == "new" and made.snapshot.sizes.matches == expected, made
        forget_snapshots(project)
    yield Row(
        f"refresh of a segment of five conditions, {USERS[size]:,} users, {DAYS} days",
        "DuckDB scanning the same columns twice",
        statistics.median(ours),
        statistics.median(scans),
        "≤ 2×",
        2,
        "slower",
        note=f"{expected:,} people match; ours also sorts, hashes and commits them, and counts "
        "who may be texted, without uploaded addresses",
    )


def make(home: Path, users: int) -> Project:
    """A home with the tables that the segment reads."""
    make_home(home, {"start_date": "2024-01-01", "today": DAY.isoformat(), "timezone": "UTC"})
    project = Project.open(home)
    for table, sql in (
        ("user_features", FEATURES), ("user_tags", TAGS), ("rfm", RFM), ("user_day", USER_DAY)
    ):  # fmt: skip
        days = (
            [DAY - timedelta(days=n) for n in range(1, DAYS + 1)] if table == "user_day" else [DAY]
        )
        with open_engine(project.settings) as engine:
            rows = row_stream(engine, sql.format(day=DAY, users=users, days=DAYS))
            project.warehouse.replace(table, rows, days=days)
    (home / "segments").mkdir()
    (home / "segments" / "five.yml").write_text(f"refresh: daily\n{CONDITIONS}")
    return project


def files(project: Project, table: str) -> str:
    """A table's rows for DuckDB."""
    return f"read_parquet('{project.warehouse.uri(table)}/ds=*/*.parquet', hive_partitioning=true)"


def scanned_twice(project: Project) -> float:
    """Seconds of DuckDB to read all columns that the segment names, twice."""
    began = time.perf_counter()
    with duckdb.connect(config={"threads": project.settings.threads}) as connection:
        for _ in range(2):
            connection.execute(
                "select max(user_id), sum(kinds['buy']), sum(kinds['cart']) "
                f"from {files(project, 'user_day')}"
            ).fetchall()
            for table, column in (
                ("user_features", "age"),
                ("user_tags", "likes"),
                ("rfm", "rfm_type"),
            ):
                connection.execute(
                    f"select max(user_id), max({column}) from {files(project, table)}"
                ).fetchall()
    return time.perf_counter() - began


def plain(project: Project) -> int:
    """The size by SQL written by hand, with a subquery a condition."""
    with duckdb.connect() as connection:
        days = files(project, "user_day")
        row = connection.execute(f"""
            select count(*) from {files(project, "user_features")} as f
            where user_id in (select user_id from {days} where kinds['buy'] > 0)
                and user_id not in (
                    select user_id from {days}
                    where kinds['cart'] > 0 and ds >= date '{DAY - timedelta(days=7)}')
                and (age < 40 or user_id in (
                    select user_id from {files(project, "user_tags")}
                    where list_contains(likes, 'tea')))
                and user_id in (
                    select user_id from {files(project, "rfm")}
                    where rfm_type in ('high_value', 'key_retain'))""").fetchone()
    assert row is not None
    return int(row[0])


def forget_snapshots(project: Project) -> None:
    """Remove the snapshot, so that the next turn makes it anew."""
    import shutil

    for table in ("segment_members", "segment_snapshots"):
        shutil.rmtree(project.warehouse.uri(table))
    (project.settings.home / "tables.db").unlink()
    project.__dict__.pop("warehouse", None)
