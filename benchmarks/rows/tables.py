"""One question about a table at ten commits, at a thousand and at five thousand.

Half of the commits replace a day again, half add a day. Each question is asked as a new process
does, of a state that is kept; the answers are checked against what was committed.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pyarrow as pa
from commit_logs import append_commits, older_days
from measured import Row, Size

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.warehouse.tables import Warehouse

DAY = date(2026, 1, 1)
COMMITS: dict[Size, tuple[int, ...]] = {
    "tiny": (10, 100),
    "normal": (10, 1_000, 5_000),
    "full": (10, 1_000, 5_000),
}
TIMES: dict[Size, int] = {"tiny": 5, "normal": 60, "full": 60}


def questions(warehouse: Warehouse) -> list[object]:
    """All that a step asks of a table about one day; the text of the commits is not in it."""
    return [
        warehouse.exists("t"),
        warehouse.version("t"),
        warehouse.fingerprint("t", DAY),
        warehouse.notes("t", first=DAY, last=DAY),
        warehouse.row_counts("t", first=DAY, last=DAY),
        len(warehouse.files("t", first=DAY, last=DAY)[DAY]),
    ]


def table_of(work: Path, commits: int) -> Callable[[], Warehouse]:
    """A table of so many commits, the last one of them real, with its state kept."""
    folder = work / str(commits)
    storage, states = Storage(str(folder / "storage")), folder / "tables.db"
    rows = pa.table({"ds": pa.array([DAY], pa.date32()), "x": [1]})

    def write() -> None:
        note = {DAY: {"made": "from"}}
        Warehouse(storage, states).replace(
            "t", rows, days=[DAY], fingerprints={DAY: "mark"}, notes=note
        )

    folder.mkdir()
    write()
    days = older_days(DAY, (commits - 2) // 2)
    append_commits(Warehouse(storage), "t", [*days, *days][: commits - 2])
    write()
    return lambda: Warehouse(storage, states)


def measure(size: Size, work: Path) -> Iterator[Row]:
    """A row for each number of commits above the least."""
    tables = {commits: table_of(work, commits) for commits in COMMITS[size]}
    taken: dict[int, list[float]] = {commits: [] for commits in tables}
    for _ in range(TIMES[size]):  # in turns, so that a busy minute hits all
        for commits, opened in tables.items():
            began = time.process_time()
            found = questions(opened())
            taken[commits].append(time.process_time() - began)
            expected = [True, commits, "mark", {DAY: {"made": "from"}}, {DAY: 1}, 1]
            assert found == expected, (commits, found)
    least, *others = tables
    for commits in others:
        yield Row(
            f"six questions about a day of a table of {commits:,} commits",
            f"the same at {least} commits",
            statistics.median(taken[commits]) * 1000,
            statistics.median(taken[least]) * 1000,
            "≤ 1.5×",
            1.5,
            "slower",
            unit="ms CPU",
            note=f"median of {TIMES[size]}; asked as a new process does; half as many days",
        )
