"""The synthetic example by DuckDB and by Spark: equal decisions, and what each engine took.

Both run the whole demo, each in a home of its own below a folder; a home that stands is only
compared. What is compared: output.csv byte by byte, the decisions and scores row by row, and each
table of a SQL model column by column, floats at a relative tolerance of 1e-9.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from measured import ROOT, run

sys.path.insert(0, str(ROOT))

from tests.support.parity_world import GRAPH, equal
from usergrowth_dagster.data.storage import file_literal
from usergrowth_dagster.pipeline.score import SCORES
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import identifier
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import open_engine

ENGINES = ("duckdb", "spark")
TABLES = (*GRAPH.tables, SCORES, "decisions")
OF_A_RUN = {"feature_version", "population_version"}
"""Columns that name a run, and not what it decided."""


def main() -> None:
    """Run what is missing, compare, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    for engine in ENGINES:
        if not (given.folder / engine / "demo" / "summary.json").exists():
            run_demo(given.folder / engine, engine, given.users)
    homes = [Project(load_settings(given.folder / engine)) for engine in ENGINES]
    faults = [
        *(f"{name}: other bytes" for name in outputs(*homes)),
        *(
            fault
            for name in (*GRAPH.tables, SCORES, "decisions")
            for fault in compare(name, *homes)
        ),
    ]
    print("\n".join(faults) or "equal: output.csv, decisions, scores and all tables of models")
    sys.exit(1 if faults else 0)


def run_demo(home: Path, engine: str, users: int) -> None:
    """Run the demo by an engine, and print its seconds and memory."""
    words = ["demo", "--dataset", "synthetic", "--users", str(users), "--home", str(home)]
    used = run([sys.executable, "-m", "usergrowth_dagster", *words], USERGROWTH_ENGINE=engine)
    print(
        f"{engine}: {used.wall:,.0f} s, {used.cpu:,.0f} s of CPU, "
        f"{used.peak:,.0f} MB in the largest process",
        flush=True,
    )


def outputs(one: Project, other: Project) -> list[str]:
    """The output files that differ, or that only one home has."""
    files = [
        {path.relative_to(home): path.read_bytes() for path in home.rglob("output.csv")}
        for home in (one.settings.home, other.settings.home)
    ]
    assert files[0], "no output.csv"
    every = sorted({*files[0], *files[1]})
    return [str(path) for path in every if files[0].get(path) != files[1].get(path)]


def compare(table: str, one: Project, other: Project) -> list[str]:
    """How the rows of a table differ in two homes; the first difference of each column."""
    left, right = different_rows(table, one, other), different_rows(table, other, one)
    if left.keys() != right.keys():
        some = sorted(left.keys() ^ right.keys())[:3]
        return [f"{table}: rows of one engine alone, such as {some}"]
    differences: dict[str, str] = {}
    for key, row in left.items():
        for column, value in row.items():
            if not equal(value, right[key][column]):
                text = f"{table}.{column}: {key}: {value!r}, {right[key][column]!r} by the other"
                differences.setdefault(column, text)
    return list(differences.values())


def different_rows(table: str, home: Project, other: Project) -> dict[str, dict[str, Any]]:
    """The rows of a table that the other home has not bit for bit, by their grain."""
    with open_engine(home.settings) as engine:
        mine, others = (_source(one, table) for one in (home, other))
        sql = f"select {mine} except all select {others}"
        made: list[dict[str, Any]] = engine.arrow(sql).to_pylist()
    grain = GRAPH.models[table].grain if table in GRAPH.models else ("ds", "task_id", "row")
    if grain:
        return {repr([row[key] for key in grain]): row for row in made}
    return {f"row {number}": row for number, row in enumerate(sorted(made, key=repr))}


def _source(home: Project, table: str) -> str:
    """The columns of a table that tell what was decided, and its files."""
    columns = sorted(set(home.warehouse.columns(table)) - OF_A_RUN)
    files = [name for names in home.warehouse.files(table).values() for name in names]
    if not files:
        return f"{', '.join(f'null as {identifier(column)}' for column in columns)} where false"
    listed = ", ".join(map(file_literal, files))
    return (
        f"{', '.join(map(identifier, columns))} from read_parquet([{listed}], "
        "hive_partitioning=true, union_by_name=true, hive_types_autocast=false)"
    )


if __name__ == "__main__":
    main()
