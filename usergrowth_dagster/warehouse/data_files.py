"""New data files of a Delta table: written row group by row group, before a commit names them.

delta-rs can write such files too. It takes more time and memory, and where a commit has to be tried
again it makes all rows and their file again. Until a commit names a file no reader sees it; one
that a killed process leaves is an orphan, as one of delta-rs is.
"""

import contextlib
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, timedelta
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

from usergrowth_dagster.data.storage import Storage

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP_ROWS = 65_536
ROW_GROUP_BYTES = 16 << 20
"""Rows, and bytes of them in memory, that a day's file collects before it writes a row group."""

OPEN_BYTES = 32 << 20
"""Bytes that the files of all days collect together before the one with most is written on."""

WRITERS = 4
"""Threads that write the last rows of files; together these are no more than ``OPEN_BYTES``."""

_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class NewFile:
    """A data file that no version names yet.

    Args:
        path: below the table's folder.
        partition: partition columns and their values.
        rows: its rows.
        size: its bytes.
    """

    path: str
    partition: Mapping[str, str]
    rows: int
    size: int


class DayFiles:
    """Writes the rows of some days, one file a day that has any.

    Args:
        storage: where the table is.
        folder: the table's folder below the storage's root.
        schema: of the rows; it has ``ds`` and the columns of ``scope``, which no file keeps.
        days: the days that rows may be of.
        scope: further partition columns and the value that all rows have there.
    """

    def __init__(
        self,
        storage: Storage,
        folder: str,
        schema: "pa.Schema",
        days: Collection[date],
        scope: Mapping[str, str],
    ) -> None:
        self.folder, self.scope = folder, scope
        self._storage, self._schema, self._days = storage, schema, frozenset(days)
        self._open: dict[date, _DayFile] = {}

    def write(self, batch: "pa.RecordBatch") -> None:
        """Take rows in, in any order.

        Raises:
            ValueError: a row is of another day or scope.
        """
        self._require_scope(batch)
        for day, rows in _by_day(batch):
            if day not in self._days:
                raise ValueError(f"{self.folder}: rows of days not replaced: {day}")
            self._file(day).add(rows)
        while sum(file.waiting_bytes for file in self._open.values()) > OPEN_BYTES:
            max(self._open.values(), key=lambda file: file.waiting_bytes).flush()

    def finish(self) -> list[NewFile]:
        """Write what is left and close the files; asked again, it returns the same.

        Arrow encodes and writes without Python's lock, so that files share the cores.
        """
        with ThreadPoolExecutor(WRITERS) as threads:
            return list(threads.map(_DayFile.finish, self._open.values()))

    def discard(self) -> None:
        """Remove the files, as far as that can be done."""
        for file in self._open.values():
            file.discard()

    def _file(self, day: date) -> "_DayFile":
        if day not in self._open:
            partition = {"ds": day.isoformat(), **self.scope}
            self._open[day] = _DayFile(self._storage, self.folder, self._schema, partition)
        return self._open[day]

    def _require_scope(self, batch: "pa.RecordBatch") -> None:
        import pyarrow.compute as pc

        for column, value in self.scope.items():
            others = [one for one in pc.unique(batch.column(column)).to_pylist() if one != value]
            if others:
                raise ValueError(f"{self.folder}: rows of {column} {others[0]!r}, not {value!r}")


class _DayFile:
    """The file of one partition; it is made when its first row group is full."""

    def __init__(
        self, storage: Storage, folder: str, schema: "pa.Schema", partition: Mapping[str, str]
    ) -> None:
        import pyarrow as pa

        self.waiting_bytes = 0
        self._partition, self._storage, self._folder = partition, storage, folder
        self._schema = pa.schema([field for field in schema if field.name not in partition])
        place = "/".join(f"{key}={quote(value, safe='')}" for key, value in partition.items())
        self._path = f"{place}/part-00000-{uuid.uuid4()}-c000.zstd.parquet"
        self._rows = self._waiting_rows = 0
        self._waiting: list[pa.RecordBatch] = []
        self._stack = ExitStack()
        self._handle: IO[bytes] | None = None
        self._writer: Any = None
        self._finished: NewFile | None = None

    def add(self, batch: "pa.RecordBatch") -> None:
        self._waiting.append(batch.select(self._schema.names))
        self._waiting_rows += batch.num_rows
        self.waiting_bytes += batch.nbytes
        if self._waiting_rows >= ROW_GROUP_ROWS or self.waiting_bytes >= ROW_GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait as a row group."""
        import pyarrow as pa

        if self._waiting_rows:
            rows = pa.Table.from_batches(self._waiting)
            self._opened().write_table(rows.cast(self._schema), row_group_size=ROW_GROUP_ROWS)
            self._rows += self._waiting_rows
        self._waiting, self._waiting_rows, self.waiting_bytes = [], 0, 0

    def _opened(self) -> Any:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter

        if self._writer is None:
            self._handle = self._stack.enter_context(
                self._storage.create(f"{self._folder}/{self._path}")
            )
            self._writer = ParquetWriter(
                self._handle,
                self._schema,
                compression="zstd",
                # Rows come in no order that would let a reader skip a row group by a text.
                write_statistics=[f.name for f in self._schema if pa.types.is_primitive(f.type)],
            )
        return self._writer

    def finish(self) -> NewFile:
        if self._finished is None:
            self.flush()
            self._opened().close()
            assert self._handle is not None
            size = self._handle.tell()
            self._stack.close()
            self._finished = NewFile(self._path, self._partition, self._rows, size)
        return self._finished

    def discard(self) -> None:
        if self._handle is not None:
            for opened in (self._writer, self._stack):
                with contextlib.suppress(Exception):
                    opened.close()  # None where the writer could not be made
            with contextlib.suppress(Exception):
                self._storage.remove(f"{self._folder}/{self._path}")


def _by_day(batch: "pa.RecordBatch") -> Iterator[tuple[date, "pa.RecordBatch"]]:
    """The rows of each day in a batch; most batches have one."""
    import numpy as np
    import pyarrow as pa

    column = batch.column("ds")
    if column.null_count or not pa.types.is_date32(column.type):
        raise ValueError(f"ds is a date in each row, not {column.type} or null")
    if batch.num_rows == 0:
        return
    # not to_numpy, which would import pandas: that takes longer than a small day
    numbers = np.frombuffer(column.buffers()[1], np.int32)[column.offset :][: len(column)]
    distinct = [numbers[0]] if (numbers == numbers[0]).all() else np.unique(numbers)
    for number in distinct:
        rows = batch
        if len(distinct) > 1:
            places = np.flatnonzero(numbers == number).astype(np.int64)
            rows = batch.take(
                pa.Array.from_buffers(pa.int64(), len(places), [None, pa.py_buffer(places)])
            )
        yield _EPOCH + timedelta(days=int(number)), rows


def add_actions(files: Collection[NewFile]) -> list[Any]:
    """The entries of a table's log that name new files."""
    from deltalake.transaction import AddAction

    # Rows are all that may be said of a file: the log is never rewritten, and no value of a
    # person belongs there.
    stats = '{{"numRecords":{},"minValues":{{}},"maxValues":{{}},"nullCount":{{}}}}'
    now = int(time.time() * 1000)
    return [
        AddAction(
            file.path,
            file.size,
            dict(file.partition),
            now,
            True,
            stats.format(file.rows),
        )
        for file in files
    ]
