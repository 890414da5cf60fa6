"""Writers of one table at the same time."""

import multiprocessing
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.warehouse.tables import Warehouse

ROWS = 10


def _write(job: tuple[str, int]) -> None:
    """Replace three days; the jobs 0 and 1 share the middle one."""
    root, number = job
    days = [date(2024, 1, 1) + timedelta(days=2 * number + i) for i in range(3)]
    table = pa.table(
        {
            "ds": pa.array([day for day in days for _ in range(ROWS)], pa.date32()),
            "x": list(range(3 * ROWS)),
        }
    )
    Warehouse(Storage(root)).replace("t", table.to_reader, days=days)


def test_two_first_writes_of_one_day_do_not_double_it(tmp_path: Path) -> None:
    """Two processes that both make the table each add the day that they share: twice its rows."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for attempt in range(15):
            root = str(tmp_path / str(attempt))
            pool.map(_write, [(root, 0), (root, 1)], chunksize=1)
            counts = Warehouse(Storage(root)).row_counts("t")
            assert (len(counts), set(counts.values())) == (5, {ROWS})
