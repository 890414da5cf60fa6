"""Files that nothing needs go; what a table, a query or a replay needs stays."""

from datetime import date, timedelta

import pyarrow as pa
import pytest
from support.old_files import make_old

from usergrowth_dagster.warehouse.maintenance import Maintained, maintain_table
from usergrowth_dagster.warehouse.tables import Warehouse

D = date(2024, 5, 4)
WEEK = timedelta(days=7)


def write(warehouse: Warehouse, back: int, value: int) -> str:
    """A day's rows; the path of their file below the root."""
    day = D - timedelta(days=back)
    rows = pa.table({"ds": pa.array([day], pa.date32()), "value": [value]})
    warehouse.replace("numbers", rows, days=[day])
    (uri,) = warehouse.files("numbers")[day]
    return uri.removeprefix(warehouse.storage.uri() + "/")


def maintain(warehouse: Warehouse, needed: set[str] | None = None, **how: bool) -> Maintained:
    return maintain_table(warehouse, "numbers", needed=needed or set(), kept_for=WEEK, **how)


def test_what_goes_and_what_stays(warehouse: Warehouse) -> None:
    """Guards against a removed file that the table or a replay needs, and against one left for ever."""
    gone, replayed, present = (write(warehouse, 0, value) for value in (1, 2, 3))
    other = write(warehouse, 1, 4)
    orphan = "tables/numbers/ds=2024-05-04/part-00000-orphan.zstd.parquet"
    warehouse.storage.write_bytes(orphan, b"of a writer that was killed")
    make_old(warehouse, "numbers", days=8)
    fresh = write(warehouse, 1, 5)
    young = "tables/numbers/ds=2024-05-04/part-00000-young.zstd.parquet"
    warehouse.storage.write_bytes(young, b"of a writer that is at work")
    planned = maintain(warehouse, {replayed}, dry_run=True)
    assert warehouse.storage.exists(gone) and planned.checkpoint is None
    done = maintain(warehouse, {replayed})
    assert (done.removed, done.for_replays) == (planned.removed, planned.for_replays) == (2, 1)
    assert done.freed_bytes == planned.freed_bytes > 0
    there = {
        path
        for path in (gone, replayed, present, other, orphan, fresh, young)
        if warehouse.storage.exists(path)
    }
    # ``other`` left the table a moment ago: a query may be reading it
    assert there == {replayed, present, other, fresh, young}
    assert (done.files, done.most_files) == (2, 1)


def test_tables_go_on(warehouse: Warehouse) -> None:
    """Guards against a checkpoint after which the table, or what is kept of it, is another."""
    for value in range(3):
        write(warehouse, 0, value)
    before = warehouse.state("numbers")
    assert maintain(warehouse).checkpoint == 3
    assert maintain(warehouse).checkpoint is None, "there is one already"
    fresh = Warehouse(warehouse.storage)
    assert fresh.state("numbers") == before
    write(fresh, 1, 7)
    assert len(warehouse.files("numbers")) == 2


def test_too_soon(warehouse: Warehouse) -> None:
    """Guards against files that go while a query reads them."""
    write(warehouse, 0, 1)
    with pytest.raises(ValueError, match="at least 1 day"):
        maintain_table(warehouse, "numbers", needed=(), kept_for=timedelta(hours=23))
