"""Two homes with the same example: how what they decided differs, wherever their files are.

Tables are compared row by row and column by column, floats at a relative tolerance of 1e-9, files
byte by byte. Left out is what no two runs have alike: what names a run, a moment of the real clock,
and what is encrypted with a key of the home.
"""

import json
import posixpath
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

from measured import ROOT, run
from sqlalchemy import select

sys.path.insert(0, str(ROOT))

from tests.support.parity_world import GRAPH, equal
from usergrowth_dagster.control import schema
from usergrowth_dagster.data.file_cache import cache_of
from usergrowth_dagster.data.storage import file_literal
from usergrowth_dagster.project import REPORTS, Project
from usergrowth_dagster.quoting import identifier
from usergrowth_dagster.warehouse.engine import open_engine

OF_A_RUN = {"feature_version", "population_version"}
"""Columns of tables that name a run, and not what it decided."""

OF_A_ROW = ("ds", "task_id", "row")
"""What tells rows apart in tables of a decision."""

NO_RECORDS = {"meta", "audit", "token_bucket"}
OF_A_RECORD = {
    *("created_time", "updated_time", "submitted_time", "answered_time", "time"),
    *("worker", "claimed_by"),
    *("phone_number", "phone_hash", "user_hash"),
}
"""Columns of records that name a process, a moment of the real clock, or need the home's key."""


def run_demo(home: Path, name: str, users: int, **environment: str) -> None:
    """Run the synthetic demo in a home, and print its seconds and memory."""
    words = ["demo", "--dataset", "synthetic", "--users", str(users), "--home", str(home)]
    used = run([sys.executable, "-m", "usergrowth_dagster", *words], **environment)
    print(
        f"{name}: {used.wall:,.0f} s, {used.cpu:,.0f} s of CPU, "
        f"{used.peak:,.0f} MB in the largest process",
        flush=True,
    )


def was_made(home: Path) -> bool:
    """Whether a home has a demo that ended."""
    return _summary(home).exists()


def files(one: Project, other: Project, folder: str = "", name: str = "") -> list[str]:
    """The landing files below a folder that differ, or that only one home has.

    Args:
        one: a home.
        other: another home.
        folder: below the root of the landing files; empty: all of them.
        name: of the files; empty: whatever their name is.
    """
    contents = [
        {
            file.path: home.landing.read_bytes(file.path)
            for file in home.landing.files(folder, deep=True)
            if name in ("", posixpath.basename(file.path))
        }
        for home in (one, other)
    ]
    assert contents[0], f"no files in {folder or 'landing'}"
    return [f"{path}: other bytes" for path in _different(*contents)]


def tables(one: Project, other: Project, names: Iterable[str]) -> list[str]:
    """How the rows of tables differ; the first difference of each column."""
    return [fault for name in names for fault in _table(name, one, other)]


def every_table(one: Project, other: Project) -> list[str]:
    """The names of the tables of either home."""
    return sorted({*one.warehouse.tables(), *other.warehouse.tables()})


def records(one: Project, other: Project) -> list[str]:
    """How campaigns, plans, batches and the ledger differ; the first difference of each table."""
    faults = []
    for table in schema.metadata.sorted_tables:
        if table.name not in NO_RECORDS:
            mine, others = (_records(home, table.name) for home in (one, other))
            faults += [f"{table.name}: {row} of one alone" for row in _alone(mine, others)]
    return faults


def texts(one: Project, other: Project) -> list[str]:
    """How the texts of the file gateway differ, with the numbers that they go to."""
    mine, others = (_texts(home.settings.home) for home in (one, other))
    assert mine, "no text was sent"
    differing = sorted(key[:2] for key in {*(mine - others), *(others - mine)})[:1]
    return [f"outbox: other texts of {schedule} to {user}" for schedule, user in differing]


def reports(one: Project, other: Project) -> list[str]:
    """The reports of tasks that differ, their pages and their figures, byte by byte."""
    contents = [
        {path.name: path.read_bytes() for path in (home.settings.home / REPORTS).iterdir()}
        for home in (one, other)
    ]
    return [f"{REPORTS}/{name}: other bytes" for name in _different(*contents)]


def summaries(one: Project, other: Project) -> list[str]:
    """How the demos' summaries differ: rows, models with their metrics, tasks, money."""
    mine, others = (json.loads(_summary(home.settings.home).read_text()) for home in (one, other))
    return [f"summary: other {key}" for key in _different(mine, others) if key != "seconds"]


def _summary(home: Path) -> Path:
    return home / "demo" / "summary.json"


def _different(mine: dict[str, Any], others: dict[str, Any]) -> list[str]:
    """The keys whose values differ, or that only one of two has."""
    return [key for key in sorted({*mine, *others}) if mine.get(key) != others.get(key)]


def _alone(mine: Counter[str], others: Counter[str]) -> list[str]:
    """The first row that only one of two has, if there is any."""
    return sorted([*(mine - others), *(others - mine)])[:1]


def _records(home: Project, name: str) -> Counter[str]:
    with home.store.read() as connection:
        selected = connection.execute(select(schema.metadata.tables[name])).mappings()
        rows = [dict(row) for row in selected]
    if name == "message" and rows:  # a ledger counts from a number of its own
        first = min(row["id"] for row in rows)
        rows = [row | {"id": row["id"] - first} for row in rows]
    return Counter(
        repr({key: value for key, value in row.items() if key not in OF_A_RECORD}) for row in rows
    )


def _texts(home: Path) -> Counter[tuple[str, str, str]]:
    """Schedule, user and all else of each text."""
    lines = [
        json.loads(line)
        for path in sorted((home / "outbox").rglob("*.jsonl"))
        for line in path.read_text("utf-8").splitlines()
    ]
    left_out = {"out_id", "submitted_time"}
    return Counter(
        (
            line["schedule"],
            line["user_id"],
            repr({key: value for key, value in line.items() if key not in left_out}),
        )
        for line in lines
    )


def _table(table: str, one: Project, other: Project) -> list[str]:
    mine, others = (
        set(home.warehouse.columns(table)) if home.warehouse.exists(table) else set()
        for home in (one, other)
    )
    if mine != others:
        return [f"{table}: columns of one alone, such as {min(mine ^ others)}"]
    differences: dict[str, str] = {}
    for day in sorted({*one.warehouse.files(table), *other.warehouse.files(table)}):
        differences |= _day(table, day, one, other) | differences
    return list(differences.values())


def _day(table: str, day: date, one: Project, other: Project) -> dict[str, str]:
    """How a day of a table differs, by column; "" for rows that only one home has.

    Days are compared one after the other: all wide rows at once would not fit into memory.
    """
    left, right = _only(table, day, one, other), _only(table, day, other, one)
    if left.keys() != right.keys():
        some = sorted(left.keys() ^ right.keys())[:3]
        return {"": f"{table}: rows of {day} in one alone, such as {some}"}
    differences: dict[str, str] = {}
    for key, row in left.items():
        for column, value in row.items():
            if not equal(value, right[key][column]):
                text = f"{table}.{column}: {key}: {value!r}, {right[key][column]!r} in the other"
                differences.setdefault(column, text)
    return differences


def _only(table: str, day: date, home: Project, other: Project) -> dict[str, dict[str, Any]]:
    """The rows of a day that the other home has not bit for bit, by their grain."""
    with open_engine(home.settings) as engine:
        mine, others = (_source(one, table, day) for one in (home, other))
        sql = f"select {mine} except all select {others}"
        made: list[dict[str, Any]] = engine.arrow(sql).to_pylist()
    grain = GRAPH.models[table].grain if table in GRAPH.models else OF_A_ROW
    if grain and all({*grain} <= row.keys() for row in made):
        return {repr([row[key] for key in grain]): row for row in made}
    return {f"row {number}": row for number, row in enumerate(sorted(made, key=repr))}


def _source(home: Project, table: str, day: date) -> str:
    """The columns of a table that tell what was decided, and the files of a day."""
    columns = sorted(set(home.warehouse.columns(table)) - OF_A_RUN)
    paths = home.warehouse.files(table, first=day, last=day).get(day, [])
    if not paths:
        return f"{', '.join(f'null as {identifier(column)}' for column in columns)} where false"
    cache = cache_of(home.settings)
    listed = ", ".join(map(file_literal, paths if cache is None else cache.local(paths)))
    return (
        f"{', '.join(map(identifier, columns))} from read_parquet([{listed}], "
        "hive_partitioning=true, union_by_name=true, hive_types_autocast=false)"
    )
