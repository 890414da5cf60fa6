"""A new day on a home that is up to date, at thirty commits a table and at three thousand.

Each further commit adds a day to a table, so that three thousand commits are eight years of days.
They end where no window of the new day begins, since their files are not there.
"""

import shutil
import statistics
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path

from commit_logs import append_commits, older_days
from example_home import add_next_day, decided_home, landed_home, usergrowth
from measured import Row, Size

from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.tables import Warehouse

COMMITS: dict[Size, tuple[int, int]] = {
    "tiny": (20, 100),
    "normal": (30, 3_000),
    "full": (30, 3_000),
}
INGEST = ("backfill", "--only-ingest")
STEPS = {"backfill": "land, facts", "run": "land, facts, features, score, decide, plan"}
BEFORE = date(2015, 1, 1)
TIMES: dict[Size, int] = {"tiny": 1, "normal": 2, "full": 3}


def lengthen(home: Path, commits: int) -> None:
    """Give every table of a home so many commits; all its states are brought up to them."""
    project = Project(load_settings(home))
    tables = project.warehouse.tables()
    plain = Warehouse(project.state)
    for table in tables:
        missing = commits - (plain.version(table) or 0)
        append_commits(plain, table, older_days(BEFORE, missing))
    for table in tables:
        assert project.warehouse.version(table) == commits


def decided(home: Path, day: date) -> dict[str, int]:
    """Rows that the new day's steps left, by table: of the date, or of the day before it."""
    warehouse = Project(load_settings(home)).warehouse
    return {
        table: sum(warehouse.row_counts(table, first=day - timedelta(days=1)).values())
        for table in warehouse.tables()
    }


def _dates(command: Sequence[str], day: date) -> list[str]:
    return ["--date", f"{day}"] if command[0] == "run" else ["--from", f"{day}", "--to", f"{day}"]


def measure(size: Size, work: Path) -> Iterator[Row]:
    """One row; both homes must end with the same rows."""
    base = work / "base"
    make, *command = (landed_home, *INGEST) if size == "tiny" else (decided_home, "run")
    make(base)
    day = add_next_day(base)
    few, many = COMMITS[size]
    taken: dict[int, list[float]] = {few: [], many: []}
    for turn in range(TIMES[size]):
        rows = []
        for commits in (few, many) if turn % 2 == 0 else (many, few):
            home = work / f"{commits}-{turn}"
            shutil.copytree(base, home)
            lengthen(home, commits)
            taken[commits].append(usergrowth(home, *command, *_dates(command, day)).cpu)
            rows.append(decided(home, day))
            shutil.rmtree(home)
        assert rows[0] == rows[1], rows
        assert size == "tiny" or rows[0]["decisions"], "nothing was decided"
    yield Row(
        f"a new day: {STEPS[command[0]]}, at {many:,} commits a table",
        f"the same at {few} commits a table",
        statistics.median(taken[many]),
        statistics.median(taken[few]),
        "≤ 1.2×",
        1.2,
        "slower",
        unit="s CPU",
        note=f"median of {TIMES[size]}; each further commit adds a day",
    )
