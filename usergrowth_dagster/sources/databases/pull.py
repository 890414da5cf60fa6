"""Pull a table: copy what is new in it into parts, a bounded number of rows at a time.

With a cursor, rows from its last value on are read, in its order; the last value is that of the
parts, so nothing can disagree with them. Rows that are in the parts already are not taken twice. A
row whose key is in the parts replaces the earlier one. Each chunk of rows stands as soon as it is
written, and a pull that is broken off goes on behind it.

Without a cursor every row is read, and what was read takes the place of all parts at once.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from usergrowth_dagster.data.storage import StoredFile, file_literal
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.sources.databases import parts as sizes
from usergrowth_dagster.sources.databases.connect import open_session
from usergrowth_dagster.sources.databases.keys import DatabaseKeys
from usergrowth_dagster.sources.databases.parts import Part, Parts
from usergrowth_dagster.sources.databases.session import Batches
from usergrowth_dagster.sources.databases.table import OpenTable, open_table
from usergrowth_dagster.warehouse.engine import Engine, open_engine

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = "sources"
"""Folder of the home with what was pulled, a folder a source."""

PART_BYTES = 256 << 20
"""Bytes of a chunk in memory's form, about; wide rows make parts of fewer rows."""

_COPY = "usergrowth_copy"
_FILE = "usergrowth_part"


@dataclass(frozen=True)
class Pull:
    """What one pull did.

    Attributes:
        files: the parts that count now.
        reading: name of the reading, from the first row on, that the parts belong to.
        columns: names of the columns that the table has now.
        rows_read: rows that the database sent.
        rows_new: rows of them that were not in the parts; changed ones count.
        rows_replaced: rows of the parts that changed rows replaced.
        rows_held: rows of all parts now.
        cursor: last value of the cursor; "" without one, and while there is no row.
        rows_without_cursor: rows of the table that are never read, since their cursor is NULL.
        odd_times: by column, values read that are no time, such as 0000-00-00; they are NULL.
        at: when the pull began (UTC).
    """

    files: Sequence[StoredFile]
    reading: str
    columns: tuple[str, ...]
    rows_read: int
    rows_new: int
    rows_replaced: int
    rows_held: int
    cursor: str
    rows_without_cursor: int
    at: datetime
    odd_times: Mapping[str, int] = field(default_factory=dict)

    def notes(self) -> list[str]:
        """What was not read as it is, a sentence each."""
        notes = []
        if self.rows_without_cursor:
            notes.append(
                f"{self.rows_without_cursor:,} rows have no value in the cursor and are not read"
            )
        for column, count in self.odd_times.items():
            notes.append(f"{count:,} values of {column} are no date (0000-00-00) and become NULL")
        return notes


@contextmanager
def alone(home: Path, name: str) -> Iterator[None]:
    """Keep other pulls and landings off a source until the end; waits for them first.

    The system frees the lock of a process that ends, however it ends.
    """
    import fcntl

    folder = home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"source-{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def pull_table(
    settings: Settings, keys: DatabaseKeys, name: str, folder: Path, place: str, *, anew: bool
) -> Pull:
    """Copy what is new in a table into the home; the caller holds the source's lock.

    Args:
        settings: the home, and limits of the engine.
        keys: the database.
        name: of the source.
        folder: what a relative path of a password starts from.
        place: the file and the source, for errors.
        anew: whether all that was pulled is to be read again, and nothing of before counts.

    Raises:
        UserError: the database cannot be read; the chunks that were written stay.
    """
    parts = parts_of(settings.home, name, keys)
    if parts.is_known:
        parts.sweep()
    at = datetime.now(UTC)
    with (
        open_session(keys, folder, place) as session,
        open_engine(settings) as engine,
        _sentences(place),
    ):
        engine.run("set timezone = 'UTC'")
        table = open_table(session, keys, place)
        pulling = _Pulling(engine, table, parts, anew=anew)
        pulling.run()
        without_cursor = table.rows_without_cursor() if table.cursor else 0
        pulling.merge()
        parts.sweep()
        return Pull(
            parts.files(),
            parts.reading,
            tuple(table.schema.names),
            pulling.rows_read,
            pulling.rows_new,
            pulling.rows_replaced,
            parts.rows,
            pulling.last_value() or "",
            without_cursor,
            at,
            dict(session.odd_times),
        )


@contextmanager
def _sentences(place: str) -> Iterator[None]:
    """What the engine says of parts that it cannot read or write becomes one sentence."""
    import duckdb
    import pyarrow as pa

    try:
        yield
    except (duckdb.Error, pa.ArrowException) as error:
        reason = str(error).split("\n")[0].split("Error: ", 1)[-1]
        raise UserError(
            f"{place}: database: what was read cannot be kept: {reason}", code="source.unreadable"
        ) from None


@contextmanager
def sample_table(
    keys: DatabaseKeys, folder: Path, place: str, rows: int, file: Path
) -> Iterator[OpenTable]:
    """Write some rows of a table into a file; gives the table.

    Raises:
        UserError: the database cannot be read.
    """
    with open_session(keys, folder, place) as session:
        table = open_table(session, keys, place)
        _write(file, table.schema, table.first_rows(rows))
        yield table


def parts_of(home: Path, name: str, keys: DatabaseKeys) -> Parts:
    """What was pulled for a source."""
    return Parts(home / FOLDER / name, _identity(keys))


def _identity(keys: DatabaseKeys) -> str:
    """Hash of what the rows are read from and how they are distinguished."""
    url, _, _ = keys.url.partition("?")
    meaning = [url.rpartition("@")[2], keys.table, keys.query, keys.cursor, keys.key]
    return hashlib.sha256(json.dumps(meaning).encode()).hexdigest()[:16]


class _Pulling:
    """One call of :func:`pull_table`."""

    def __init__(self, engine: Engine, table: OpenTable, parts: Parts, *, anew: bool) -> None:
        self.engine = engine
        self.table = table
        self.parts = parts
        self.anew = anew
        self.rows_read = self.rows_new = self.rows_replaced = 0

    def run(self) -> None:
        """Read what is new."""
        if self.anew:
            self.parts.begin_anew()
        if self.table.cursor is None:
            self._read_all()
        else:
            self._read_new()
        if not set(self.table.schema.names) <= self._columns(self.parts.paths()).keys():
            self._add_columns()

    def _read_all(self) -> None:
        before = self.parts.rows
        read: list[Part] = []
        for staged, rows in self._chunks(self.table.all_rows()):
            read.append(Part(staged.name, rows))
            self.rows_read += rows
        if before and not self.rows_read and not self.anew:
            raise UserError(
                f"{self.table.place}: {self.table.keys.shown} has no rows now and had {before:,}; "
                "what has landed stays",
                code="source.emptied",
            )
        self.rows_new = self.rows_read
        self.parts.replace(read)

    def _read_new(self) -> None:
        start = None if self.anew else self._start()
        parts = () if self.anew else self.parts.parts
        for staged, rows in self._chunks(self.table.rows_from(start)):
            self.rows_read += rows
            held = [str(self.parts.path(part)) for part in parts]
            if self.table.key:
                parts = self._with_changed(parts, held, staged)
            else:
                parts = self._with_added(parts, held, staged, rows)
            self.parts.replace(parts)
        if self.anew and not self.rows_read:
            self.parts.replace(())

    def _start(self) -> str | None:
        """From which value of the cursor on rows are read, in the database's SQL."""
        table, keys = self.table, self.table.keys
        if not self.parts.rows:
            return None
        name, last = identifier(table.cursor or ""), f"max({identifier(table.cursor or '')})"
        kind = self._columns(self.parts.paths())[table.cursor or ""]
        if kind.startswith(("DATE", "TIMESTAMP")) != table.cursor_is_time:
            now = table.schema.field(table.cursor).type
            raise UserError(
                f"{table.place}: database.cursor: {table.cursor} is a {now} now, and a {kind} in "
                "what was pulled; usergrowth sources land --reread reads the table anew",
                code="source.invalid",
            )
        if not table.cursor_is_time:
            exact = last if kind.startswith("DECIMAL") else f"cast({last} as hugeint)"
            value = f"{exact} - {keys.late_number or 0}"
            (number,) = self.engine.rows(
                f"select cast({value} as varchar) from {_read(self.parts.paths())}"
            )[0]
            return str(number)
        seconds = int(keys.late_time.total_seconds()) if keys.late_time else 0
        (text,) = self.engine.rows(
            f"select strftime({last} - to_seconds({seconds}), '%Y-%m-%d %H:%M:%S.%f') "
            f"from {_read(self.parts.paths())} where {name} is not null"
        )[0]
        if kind == "DATE":
            text = str(text)[:10]
        return table.session.literal_of_time(str(text), zoned="ZONE" in kind)

    def last_value(self) -> str | None:
        """The last value of the cursor in the parts, as text."""
        if self.table.cursor is None or not self.parts.rows:
            return None
        value: str | None = self.engine.value(
            f"select cast(max({identifier(self.table.cursor)}) as varchar) "
            f"from {_read(self.parts.paths())}"
        )
        return value

    def _chunks(self, batches: Batches) -> Iterator[tuple[Path, int]]:
        """Files of about :data:`parts.PART_ROWS` rows each, and how many they have.

        A chunk ends between two values of the cursor: rows of one value are compared with the parts
        together.
        """
        with closing(batches):
            left: list[pa.RecordBatch] = []
            while True:
                file = self.parts.new_file()
                chunk = _Chunk(batches, left, self.table.cursor)
                rows = _write(file, self.table.schema, chunk)
                left = chunk.left
                if not rows:
                    file.unlink()
                    return
                yield file, rows

    def _with_added(
        self, parts: Sequence[Part], held: Sequence[str], staged: Path, rows: int
    ) -> tuple[Part, ...]:
        """The parts with the rows of a chunk that are not in them; equal rows are counted."""
        columns = self._columns([str(staged)])
        known = self._columns(held)
        name = identifier(self.table.cursor or "")
        first, last = self.engine.rows(
            f"select cast(min({name}) as varchar), cast(max({name}) as varchar) "
            f"from {_read([str(staged)])}"
        )[0]
        kind = columns[self.table.cursor or ""]
        window = (  # literals, so that the engine reads only the row groups that may have them
            f"select * from {_read(held)} where {name} between "
            f"cast({literal(first)} as {kind}) and cast({literal(last)} as {kind})"
        )
        if not held or not self.engine.value(f"select count(*) from ({window})"):
            self.rows_new += rows
            return (*parts, Part(staged.name, rows))
        both = [one for one in columns if one in known]
        listed = ", ".join(map(identifier, both))
        numbered = f"*, row_number() over (partition by {listed}) as {_COPY}"
        equal = [_equal(one, columns[one], known[one]) for one in both]
        added = self._copy(
            f"select fresh.* exclude ({_COPY}) "
            f"from (select {numbered} from {_read([str(staged)])}) as fresh "
            f"anti join (select {numbered} from ({window})) as held "
            f"on {' and '.join(equal)} and fresh.{_COPY} = held.{_COPY}"
        )
        staged.unlink()
        self.rows_new += added.rows if added else 0
        return (*parts, added) if added else tuple(parts)

    def _with_changed(
        self, parts: Sequence[Part], held: Sequence[str], staged: Path
    ) -> tuple[Part, ...]:
        """The parts with the rows of a chunk; a row replaces the one of its key."""
        columns = self._columns([str(staged)])
        key = ", ".join(map(identifier, self.table.key))
        order = ", ".join(identifier(one) for one in columns)
        latest = (
            f"select * from {_read([str(staged)])} qualify row_number() over (partition by {key} "
            f"order by {identifier(self.table.cursor or '')} desc, {order}) = 1"
        )
        self.engine.run(f"create or replace temp table fresh as {latest}")
        kept: list[Part] = list(parts)
        if held:
            known = self._columns(held)
            of_key = " and ".join(_equal(k, columns[k], known[k]) for k in self.table.key)
            self.engine.run(
                "create or replace temp table held as select held.* from "
                f"{_read(held, with_file=True)} as held semi join fresh on {of_key}"
            )
            both = [one for one in columns if one in known]
            equal = " and ".join(_equal(one, columns[one], known[one]) for one in both)
            self.engine.run(
                "create or replace temp table changed as "
                f"select fresh.* from fresh anti join held on {equal}"
            )
            self.engine.run("create or replace temp table fresh as select * from changed")
            kept = self._without_changed(parts, of_key)
        added = self._copy("select * from fresh")
        staged.unlink()
        if added is None:
            return tuple(kept)
        self.rows_new += added.rows
        return (*kept, added)

    def _without_changed(self, parts: Sequence[Part], of_key: str) -> list[Part]:
        """The parts without the rows whose key is among the changed rows."""
        counts = {
            Path(file).name: count
            for file, count in self.engine.rows(
                f"select {_FILE}, count(*) from held semi join fresh on {of_key} group by all"
            )
        }
        kept: list[Part] = []
        for part in parts:
            if part.file not in counts:
                kept.append(part)
                continue
            self.rows_replaced += counts[part.file]
            rest = self._copy(
                f"select held.* from {_read([str(self.parts.path(part))])} as held "
                f"anti join fresh on {of_key}"
            )
            kept += [rest] if rest else []
        return kept

    def _copy(self, select: str) -> Part | None:
        """A new part of some rows; None where there is none."""
        file = self.parts.new_file()
        (rows,) = self.engine.rows(
            f"copy ({select}) to {literal(str(file))} (format parquet, compression zstd)"
        )[0]
        if rows:
            return Part(file.name, rows)
        file.unlink(missing_ok=True)
        return None

    def _add_columns(self) -> None:
        """Add a part without rows that has the columns of the table."""
        file = self.parts.new_file()
        _write(file, self.table.schema, ())
        self.parts.replace((*self.parts.parts, Part(file.name, 0)))

    def _columns(self, paths: Sequence[str]) -> dict[str, str]:
        return self.engine.describe(f"select * from {_read(paths)}") if paths else {}

    def merge(self) -> None:
        """Make one part of many small ones, so that their number does not grow with the pulls.

        A row is written again once a tier: about log8 of the rows of a part.
        """
        while crowded := self.parts.crowded():
            merged = self._copy(
                f"select * from {_read([str(self.parts.path(part)) for part in crowded])}"
            )
            rest = [part for part in self.parts.parts if part not in crowded]
            self.parts.replace([*rest, *([merged] if merged else [])])


class _Chunk:
    """The batches of one chunk of rows; those after it are left for the next."""

    def __init__(
        self,
        batches: Batches,
        left: Iterable["pa.RecordBatch"],
        cursor: str | None,
    ) -> None:
        self.batches = batches
        self.cursor = cursor
        self.left = list(left)

    def __iter__(self) -> Iterator["pa.RecordBatch"]:
        first, self.left = self.left, []
        rows = size = 0
        for batch in chain(first, self.batches):  # which leaves the batches open at the end
            rows += batch.num_rows
            size += batch.nbytes
            if rows < sizes.PART_ROWS and size < PART_BYTES:
                yield batch
                continue
            end = _last_change(batch, self.cursor)
            if end is None:
                yield batch
                continue
            yield batch.slice(0, end)
            self.left = [batch.slice(end)] if end < batch.num_rows else []
            return


def _last_change(batch: "pa.RecordBatch", cursor: str | None) -> int | None:
    """Where the rows of the last value of a sorted batch begin; None where it has one value only.

    Without a cursor a chunk may end anywhere.
    """
    import pyarrow.compute as pc

    if cursor is None:
        return int(batch.num_rows)
    column = batch.column(cursor)
    start = int(pc.index(column, column[-1]).as_py())
    return start or None


def _write(file: Path, schema: "pa.Schema", batches: Iterable["pa.RecordBatch"]) -> int:
    """Write batches into a Parquet file; returns the number of rows."""
    import pyarrow.parquet as pq

    rows = 0
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _read(paths: Sequence[str], *, with_file: bool = False) -> str:
    listed = ", ".join(file_literal(path) for path in paths)
    options = ["union_by_name = true", "hive_partitioning = false"]
    if with_file:
        options.append(f"filename = {literal(_FILE)}")
    return f"read_parquet([{listed}], {', '.join(options)})"


def _equal(name: str, kind: str, known: str) -> str:
    """The condition that a column of ``fresh`` and ``held`` has one value, or none in both."""
    left, right = f"fresh.{identifier(name)}", f"held.{identifier(name)}"
    if kind != known:  # the table's column has another type now
        left, right = f"cast({left} as varchar)", f"cast({right} as varchar)"
    return f"{left} is not distinct from {right}"
