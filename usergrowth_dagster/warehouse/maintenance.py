"""What keeps the tables small: checkpoints of logs, and removal of files that nothing needs.

A day that is written again leaves the files of before in the store. They are removed once they have
been out of the table for some time and nothing that can be replayed names them. The log is kept
whole: it names no person, and the history of a table is read from it. Files are not merged: a
commit writes one file a partition, and a file's name stands for its content in the fingerprints of
everything that was made from it.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import unquote

from usergrowth_dagster.data.file_cache import FileCache
from usergrowth_dagster.warehouse.tables import Warehouse

LEAST_KEPT = timedelta(days=1)
"""A query may be reading what was taken out of a table this long ago, or a writer be at work."""


@dataclass(frozen=True)
class Maintained:
    """What the maintenance of a table did, or would do.

    Attributes:
        table: its name.
        version: its newest version.
        files: data files of the newest version.
        most_files: the most files that one partition has.
        checkpoint: the version that a checkpoint was written of; None where there was one.
        removed: files removed.
        freed_bytes: their bytes.
        for_replays: files that are old enough, and that a decision on record was made from.
    """

    table: str
    version: int
    files: int
    most_files: int
    checkpoint: int | None
    removed: int
    freed_bytes: int
    for_replays: int


def maintain_table(
    warehouse: Warehouse,
    table: str,
    *,
    needed: Collection[str],
    kept_for: timedelta,
    cache: FileCache | None = None,
    dry_run: bool = False,
) -> Maintained:
    """Write a checkpoint of a table's log and remove the data files that nothing needs.

    Args:
        warehouse: the tables.
        table: its name; it has been written.
        needed: data files that stay, by their paths below the storage root.
        kept_for: for so long a file stays after it was taken out of the table.
        cache: local copies, which go with the files.
        dry_run: only count.

    Raises:
        ValueError: files would go that a query may be reading.
    """
    if kept_for < LEAST_KEPT:
        raise ValueError(f"files are kept for at least {LEAST_KEPT}, not {kept_for}")
    opened = warehouse.open(table)
    hours = int(kept_for / timedelta(hours=1))
    old = opened.vacuum(hours, dry_run=True, enforce_retention_duration=False, full=True)
    paths = {f"tables/{table}/{unquote(path)}" for path in old}
    going = sorted(paths - set(needed))
    sizes = {file.path: file.size for file in warehouse.storage.files(f"tables/{table}", deep=True)}
    if not dry_run:
        for path in going:
            warehouse.storage.remove(path)
        if cache is not None:
            cache.drop([warehouse.storage.uri(path) for path in going])
    state = warehouse.state(table)
    assert state is not None
    partitions = Counter((file.day, *sorted(file.partition.items())) for file in state.files)
    return Maintained(
        table=table,
        version=state.version,
        files=partitions.total(),
        most_files=max(partitions.values(), default=0),
        checkpoint=None if dry_run else _checkpoint(warehouse, table),
        removed=len(going),
        freed_bytes=sum(sizes.get(path, 0) for path in going),
        for_replays=len(paths) - len(going),
    )


def _checkpoint(warehouse: Warehouse, table: str) -> int | None:
    """Write a checkpoint of the newest version, unless there is one or nothing to gain by it."""
    opened = warehouse.open(table)
    version = int(opened.version())
    log = warehouse.log(table)
    if version == 0 or f"{version:020d}.checkpoint.parquet" in log.names():
        return None
    with warehouse.lock(table):
        opened.create_checkpoint()
    return version
