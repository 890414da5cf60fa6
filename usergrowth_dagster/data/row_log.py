"""Rows that a service notes while it answers, in files of a folder a day.

The service appends to a queue and a thread writes, so that no request waits for a disk. Whole files
land as a table; see :mod:`usergrowth_dagster.intake.row_logs`.
"""

import logging
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, tzinfo
from pathlib import Path
from typing import Any
from uuid import uuid4

LOG = logging.getLogger("usergrowth.rows")
MOST_WAITING = 100_000
"""Rows that wait to be written; further ones are lost, and counted."""
WRITE_AT = 20_000
"""Rows that wait when they are written at once."""

Columns = Mapping[str, tuple[str, str]]
"""By name, the DuckDB type and the meaning of a column; the first is ``time``, in UTC."""

_UNFINISHED_SECONDS = 3_600
_FOLDER = re.compile(r"ds=(\d{8})")


class RowLog:
    """Keeps rows and writes them to files.

    Args:
        folder: of the log.
        columns: of a row.
        zone: of the business days.
        lost: called with the number of rows that are lost.
    """

    def __init__(
        self,
        folder: Path,
        columns: Columns,
        zone: tzinfo,
        lost: Callable[[int], None] = lambda _rows: None,
    ) -> None:
        self._folder, self._columns, self._zone, self._lost = folder, columns, zone, lost
        self._waiting: deque[tuple[Any, ...]] = deque()
        self._ended, self._wake = False, threading.Event()
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None

    def keep(self, *row: Any) -> None:
        """Take a row, the values in the order of the columns; the time has no zone and is UTC."""
        if len(self._waiting) >= MOST_WAITING:
            self._lost(1)
            return
        self._waiting.append(row)
        if len(self._waiting) == WRITE_AT:
            self._wake.set()

    def write(self) -> int:
        """Write what waits, a file for each business day.

        A day that cannot be written is lost and counted; its error is in the log.

        Returns:
            Rows that were written.
        """
        by_day: dict[str, list[tuple[Any, ...]]] = {}
        with self._writing:
            rows = [self._waiting.popleft() for _ in range(len(self._waiting))]
        for row in rows:
            day = row[0].replace(tzinfo=UTC).astimezone(self._zone)
            by_day.setdefault(f"ds={day:%Y%m%d}", []).append(row)
        written = 0
        for name, of_day in by_day.items():
            try:
                _write_file(self._folder / name, self._columns, of_day)
                written += len(of_day)
            except Exception as error:  # the next ones may be written again
                self._lost(len(of_day))
                LOG.error("%d rows not logged: %s", len(of_day), type(error).__name__)
        return written

    def watch(self, every: float) -> None:
        """Write in a thread until :meth:`close`, each so many seconds; sooner when much waits."""

        def run() -> None:
            while not self._ended:
                self._wake.wait(every)
                self._wake.clear()
                self.write()

        self._thread = threading.Thread(target=run, name="rows", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what waits and end the thread."""
        self._ended = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=30)
        self.write()


def _write_file(folder: Path, columns: Columns, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write a file of a day whole, and only then under a name that is landed.

    A process that is killed in between leaves a file with a dot, which :func:`remove_unfinished`
    takes away. Names are random, since processes of several machines may share the folder.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            name: pa.array(values, _arrow_type(kind))
            for (name, (kind, _)), values in zip(
                columns.items(), zip(*rows, strict=True), strict=True
            )
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid4().hex[:12]}.parquet"
    with (folder / f".{name}").open("wb") as handle:
        pq.write_table(table, handle)
        handle.flush()
        os.fsync(handle.fileno())
    (folder / f".{name}").rename(folder / name)


def _arrow_type(kind: str) -> Any:
    """Arrow's name of a DuckDB type of a column."""
    import pyarrow as pa

    types = {
        "VARCHAR": pa.string(),
        "BOOLEAN": pa.bool_(),
        "DOUBLE": pa.float64(),
        "INTEGER": pa.int32(),
        "TIMESTAMP": pa.timestamp("us"),
    }
    return types[kind]


def remove_unfinished(folder: Path) -> None:
    """Remove the files that killed processes left: those with a dot, older than an hour."""
    for path in folder.glob("ds=*/.*.parquet"):
        with suppress(FileNotFoundError):  # its process has finished it just now
            if time.time() - path.stat().st_mtime > _UNFINISHED_SECONDS:
                path.unlink()


def logged_files(folder: Path) -> dict[date, list[Path]]:
    """Whole files of a log by business day."""
    by_day: dict[date, list[Path]] = {}
    for path in sorted(folder.glob("ds=*/[!.]*.parquet")):
        if named := _FOLDER.fullmatch(path.parent.name):
            by_day.setdefault(datetime.strptime(named[1], "%Y%m%d").date(), []).append(path)
    return by_day
