"""The synthetic example by DuckDB and by Spark: equal decisions, and what each engine took.

Both run the whole demo, each in a home of its own below a folder; a home that stands is only
compared: output.csv, the decisions, the scores, and each table of a SQL model.
"""

import argparse
import sys
from pathlib import Path

from two_homes import GRAPH, every_table, files, run_demo, tables, was_made

from usergrowth_dagster.pipeline.score import SCORES
from usergrowth_dagster.project import Project

ENGINES = ("duckdb", "spark")


def main() -> None:
    """Run what is missing, compare, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    for engine in ENGINES:
        if not was_made(given.folder / engine):
            run_demo(given.folder / engine, engine, given.users, USERGROWTH_ENGINE=engine)
    homes = [Project.open(given.folder / engine) for engine in ENGINES]
    faults = files(*homes, folder="population_output", name="output.csv")
    made = {*GRAPH.tables, SCORES, "decisions"} & {*every_table(*homes)}
    faults += tables(*homes, sorted(made))
    print("\n".join(faults) or "equal: output.csv, decisions, scores and all tables of models")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
