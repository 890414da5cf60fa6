"""Reads landing files into accepted and rejected rows, set-based and in bounded memory.

Lines that are blank or hold commas only, a footer such as ``2 rows exported`` and a file that is
there twice are no rows; they are counted. Line numbers are those of the file: the header of a CSV
is line 1; rows of a Parquet file count from 1.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.data.contracts import FORGOTTEN, IDENTITY, NULL_TEXT, Contract, Reading
from usergrowth_dagster.data.early import EarlyFile, RowWriter
from usergrowth_dagster.data.encodings import advice
from usergrowth_dagster.data.forgotten import Forgotten, forgotten_ids_sql
from usergrowth_dagster.data.header import Header, read_checked
from usergrowth_dagster.data.lines import (
    BLOCK_BYTES,
    Block,
    are_rows,
    is_parquet,
    read_blocks,
)
from usergrowth_dagster.data.notices import MissingWords, drop_footers, html_codes, unread_columns
from usergrowth_dagster.data.rules import BLOCK, clean_sql, parse_sql, rest_sql, stored_rows_sql
from usergrowth_dagster.data.storage import Storage, StoredFile
from usergrowth_dagster.data.stored import stored_rows
from usergrowth_dagster.quoting import literals

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

_EPOCH = date(1970, 1, 1)
PARSED = "_parsed"
"""The loader's table: day, file, line, reject, broken, person, raw and the contract's columns."""

EARLY_BLOCKS = 1
"""A file of events with more blocks is written as it is read; what is smaller is held."""


@dataclass(frozen=True)
class Counts:
    """What one day's files hold: rows, and lines that are no rows.

    ``rows_in`` are ``accepted`` + ``quarantined``; ``forgotten`` are those of the latter that are
    of forgotten persons. ``no_rows`` are all other lines behind the headers.
    """

    rows_in: int = 0
    accepted: int = 0
    quarantined: int = 0
    forgotten: int = 0
    no_rows: int = 0


class CountMismatchError(RuntimeError):
    """Rows were lost or made up on the way: a fault of the product, never of the files."""


class Loader:
    """Reads landing files of one table into the table ``_parsed`` of a DuckDB connection.

    Args:
        connection: an open connection; it holds the rows and spills them when they are many.
        landing: where the files are.
        contract: the table's contract.
        forgotten: persons whose rows are rejected, without keeping what is in them.
        reading: encoding of the files, and words that stand for no value.
        writer_of: makes a writer for good rows of a day. With it, those of large files of events
            are not held: no key can repeat in them, and a footer is no good row.
        called: by a column's name in the files, the contract's name for it.

    Attributes:
        notices: by day, sentences about what is not as it should be and yet is taken.
        early: by number, the files that were written as they were read.
    """

    def __init__(
        self,
        connection: "DuckDBPyConnection",
        landing: Storage,
        contract: Contract,
        forgotten: Forgotten | None = None,
        reading: Reading | None = None,
        writer_of: Callable[[date], RowWriter] | None = None,
        called: Mapping[str, str] | None = None,
    ) -> None:
        self.reading = reading or Reading()
        self.notices: dict[date, list[str]] = {}
        self.early: dict[int, EarlyFile] = {}
        self._writer_of = None if contract.key else writer_of
        self._called = dict(called or {})
        self.connection = connection
        self.landing = landing
        self.contract = contract
        self.forgotten = forgotten if contract.has_people else None
        self.files: list[str] = []
        self._folders: dict[date, str] = {}
        self._rows: dict[date, int] = {}
        self._no_rows: dict[date, int] = {}
        self._advice: dict[int, str] = {}
        self._pending: list[pa.Table] = []
        self._pending_kind: _Kind | None = None
        self._pending_bytes = 0
        kinds = {c.name: c.kind for c in contract.columns}
        if contract.table == "population":
            kinds["variables"] = "MAP(VARCHAR, VARCHAR)"
        columns = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
        if self.forgotten is not None:
            self.forgotten.bind(connection)
        self._run(
            f"create or replace table {PARSED} (day date, file integer, line bigint, "
            f"reject smallint, broken varchar, person varchar, raw varchar, {columns})"
        )

    def load(self, day: date, files: Sequence[StoredFile]) -> None:
        """Read one day's files; all of them or, when one cannot be read, none.

        Raises:
            UserError: a header breaks the contract, or a file cannot be read.
        """
        # All headers first: a wrong one costs no reading.
        headers = [
            read_checked(self.landing, file, self.contract, self.reading.encoding, self._called)
            for file in files
        ]
        self._rows[day] = self._no_rows[day] = 0
        if files:
            self._folders[day] = files[0].path.rpartition("/")[0]
        self.notices[day] = unread_columns(files, headers)
        sizes = [file.size for file in files if is_parquet(file)]
        seen: dict[bytes, str] = {}
        try:
            for file, header in zip(files, headers, strict=True):
                digest = self._load_file(day, file, header)
                if is_parquet(file) and sizes.count(file.size) > 1:
                    self._hash_file(file, digest)
                self._take_once(day, file, digest.digest(), seen)
        except BaseException:
            self.drop(day)
            raise

    def drop(self, day: date) -> None:
        """Forget the rows of a day."""
        self._flush()
        self._run(f"delete from {PARSED} where day = ?", [day])
        for early in self.take_early([day]):
            early.writer.discard()
        self._rows.pop(day, None)
        self.notices.pop(day, None)

    @property
    def held(self) -> int:
        """Rows of the loaded days that the connection holds: those not written when read."""
        return sum(self._rows.values()) - sum(early.rows for early in self.early.values())

    def take_early(self, days: Collection[date]) -> list[EarlyFile]:
        """Hand over the files of some days that were written as they were read."""
        numbers = [number for number, early in self.early.items() if early.day in days]
        return [self.early.pop(number) for number in numbers]

    def discard_early(self) -> None:
        """Throw away what was written as it was read and not handed over."""
        for early in self.take_early(list(self._rows)):
            early.writer.discard()

    def finish(self) -> dict[date, Counts]:
        """Take footers out, reject forgotten persons and repeated keys, and count every day.

        Raises:
            CountMismatchError: rows in are not accepted + rejected.
        """
        self._flush()
        ends = {number: early.last for number, early in self.early.items()}
        footers = drop_footers(self.connection, PARSED, self.contract, self.files, ends)
        for day, sentence in footers:
            self._rows[day] -= 1
            self._no_rows[day] += 1
            self.notices[day].append(sentence)
        self._reject_forgotten()
        self._reject_duplicates()
        counted = {
            day: numbers
            for day, *numbers in self._rows_of(
                f"select day, count(*) filter (reject = 0), count(*) filter (reject > 0), "
                f"count(*) filter (reject = {self._forgotten_code}) from {PARSED} group by day"
            )
        }
        for early in self.early.values():
            counted.setdefault(early.day, [0, 0, 0])[0] += early.rows
        counts = {
            day: Counts(n, good, bad, of_forgotten, self._no_rows[day])
            for day, n in self._rows.items()
            for good, bad, of_forgotten in [counted.get(day, [0, 0, 0])]
        }
        for day, count in counts.items():
            if count.rows_in != count.accepted + count.quarantined:
                raise CountMismatchError(
                    f"{self.contract.table} {day}: {count.rows_in} rows read, but "
                    f"{count.accepted} accepted and {count.quarantined} quarantined"
                )
        self._notice_no_rows()
        for day, sentence in self._missing_words():
            self.notices[day].append(f"{self._folders[day]}: {sentence}")
        if self.contract.table == "population":
            for day, sentence in html_codes(self.connection, f"{PARSED} where reject = 0"):
                self.notices[day].append(f"{self._folders[day]}: {sentence}")
        return counts

    def rejects_sql(self, table_name: str) -> str:
        """The rows of the quarantine table, of all loaded days."""
        rejections = self.contract.rejections
        columns = literals(column for column, _ in rejections)
        rules = literals(rule.code for _, rule in rejections)
        files = literals(self.files)
        return f"""
            select '{table_name}' as table_name, day as ds,
                ([{files}]::varchar[])[file + 1] as file, line,
                ([{columns}]::varchar[])[reject] as column_name,
                ([{rules}]::varchar[])[reject] as rule, {self._broken} as broken,
                {self._raw} as raw_row
            from {PARSED} where reject > 0
        """

    @property
    def _broken(self) -> str:
        """What a reject breaks; repeated keys and forgotten persons are found after parsing."""
        repeated = (
            f"when reject = {len(self.contract.rejections)} "
            f"then concat('{self.contract.key[0]}: duplicate ''', {self.contract.key[0]}, '''')"
            if self.contract.key
            else ""
        )
        return (
            f"case when reject = {self._forgotten_code} then 'user_id: forgotten' {repeated} "
            "else broken end"
        )

    @property
    def _raw(self) -> str:
        """The row of a reject; a repeated key's is written again from its values."""
        if not self.contract.key:
            return "raw"
        cells = ", ',', ".join(_csv_cell(name) for name in self.contract.names)
        return (
            f"case when reject = {len(self.contract.rejections)} then concat({cells}) else raw end"
        )

    def complaint(self, day: date, where: str, counts: Counts, limit: float) -> str | None:
        """The sentence of a day with too large a share of rejects, or None.

        Rows of forgotten persons are no fault of the files and do not count.

        Args:
            day: a loaded day.
            where: how to call it, such as its folder.
            counts: its rows.
            limit: largest share of rejects, 0 to 1.
        """
        bad, rows_in = counts.quarantined - counts.forgotten, counts.rows_in - counts.forgotten
        if bad == 0 or bad / rows_in <= limit:
            return None
        reject, times, file, line, broken = self._rows_of(
            "select reject, count(*) as times, arg_min(file, (file, line)), "
            f"arg_min(line, (file, line)), arg_min({self._broken}, (file, line)) "
            f"from {PARSED} where day = ? and reject > 0 "
            f"and reject <> {self._forgotten_code} "
            "group by reject order by times desc, reject limit 1",
            [day],
        )[0]
        column, rule = self.contract.rejections[reject - 1]
        place = f"{self.files[file]}:{line}" + (f":{column}" if column else "")
        seen = f" ({broken})" if column else ""
        todo = self._advice.get(file) if rule.code == "bad_utf8" else None
        return (
            f"{where}: {bad:,} of {rows_in:,} rows break the contract, more "
            f"than the {limit:.2%} that max_reject_share allows; most often rule {rule.code} "
            f"({rule.sentence}), {times:,} times, first at {place}{seen}; "
            + (todo if todo else "mend the files and land them again")
            + ", all rejects are in the quarantine table (usergrowth quarantine)"
        )

    def _load_file(self, day: date, file: StoredFile, header: Header) -> "hashlib._Hash":
        """Read one file; returns the hash of the lines behind its header."""
        number = len(self.files)
        self.files.append(file.path)
        lines, digest = not is_parquet(file), hashlib.sha256()
        blocks = read_blocks(self.landing, file, list(header.names), self.reading.encoding, digest)
        # Not by bytes: a block of a compressed file may be a hundredth of what it unpacks to.
        first = list(islice(blocks, EARLY_BLOCKS + 1))
        early = None
        if self._writer_of is not None and len(first) > EARLY_BLOCKS:
            early = self.early[number] = EarlyFile(
                self.connection,
                self.contract,
                self.forgotten,
                self.reading,
                parsed=PARSED,
                day=day,
                writer=self._writer_of(day),
            )
        for block in chain(first, blocks):
            table, left_out = self._placed(day, number, block, lines)
            self._rows[day] += table.num_rows
            self._no_rows[day] += left_out
            if lines and not block.text and number not in self._advice:
                self._advice[number] = _advice(block)
                self.notices[day].append(
                    f"{file.path}: a row is not UTF-8 text: {self._advice[number]}"
                )
            self._add(table, _Kind(header.names, lines, block.text, early))
        if early is not None:
            self._flush()
            early.writer.finish()
        return digest

    def _placed(self, day: date, number: int, block: Block, lines: bool) -> "tuple[pa.Table, int]":
        """A block's rows with their day, file and line; and how many lines are no rows."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        size = len(block.columns[0])
        lines_read = np.arange(block.first_line, block.first_line + size, dtype=np.int64)
        names = ["t"] if lines else [f"c{place + 1}" for place in range(len(block.columns))]
        table = pa.table({
            "day": _of_numbers(pa.date32(), np.full(size, (day - _EPOCH).days, np.int32)),
            "file": _of_numbers(pa.int32(), np.full(size, number, np.int32)),
            "line": _of_numbers(pa.int64(), lines_read),
            **dict(zip(names, block.columns, strict=True)),
        })  # fmt: skip
        if lines and not pc.all(rows := are_rows(block.columns[0])).as_py():
            table = table.filter(rows)
        header = lines and block.first_line == 1  # blanked, and no line to be counted
        return table, size - table.num_rows - header

    def _hash_file(self, file: StoredFile, digest: "hashlib._Hash") -> None:
        with self.landing.open(file.path) as handle:
            while part := handle.read(BLOCK_BYTES):
                digest.update(part)

    def _take_once(
        self, day: date, file: StoredFile, digest: bytes, seen: dict[bytes, str]
    ) -> None:
        """Take the rows of a file out again when an earlier one of the day has the same content."""
        number = len(self.files) - 1
        first = seen.setdefault(digest, file.path)
        if first == file.path or digest == hashlib.sha256().digest():
            return
        self._flush()
        gone = self._rows_of(f"delete from {PARSED} where file = ?", [number])[0][0]
        if number in self.early:
            early = self.early.pop(number)
            early.writer.discard()
            gone += early.rows
        self._rows[day] -= gone
        self._no_rows[day] += gone
        self.notices[day].append(
            f"{file.path}: has the same content as {first}, so its {gone:,} rows are taken once; "
            "remove one of the two"
        )

    def _add(self, table: "pa.Table", kind: "_Kind") -> None:
        """Collect small files of one kind, so that a year of small days is few statements."""
        if kind != self._pending_kind:
            self._flush()
        self._pending_kind = kind
        self._pending.append(table)
        self._pending_bytes += table.nbytes
        if self._pending_bytes >= BLOCK_BYTES:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._pending_kind is None or not self._pending:
            return
        kind = self._pending_kind
        names, lines, text, early = kind.names, kind.lines, kind.text, kind.early
        block = pa.concat_tables(self._pending)
        self.connection.register(BLOCK, block)
        try:
            clean, left = 0, BLOCK
            if text:
                if early is None:
                    clean = self._insert_clean(block, names, lines=lines)
                else:
                    clean = early.take(block, names, lines=lines)
            if clean:
                left = f"({rest_sql(self.contract, names, lines=lines)})"
            if clean < block.num_rows:
                self._insert(parse_sql(self.contract, names, lines=lines, text=text, block=left))
        finally:
            self.connection.unregister(BLOCK)
            self._pending, self._pending_kind, self._pending_bytes = [], None, 0

    def _insert_clean(self, block: "pa.Table", names: Sequence[str], *, lines: bool) -> int:
        """Add the rows of a block that plainly break no rule; returns how many."""
        if not lines and stored_rows(self.connection, self.contract, block, names) is not None:
            return self._insert(stored_rows_sql(self.contract, names))
        return self._insert(clean_sql(self.contract, names, lines=lines))

    def _insert(self, query: str) -> int:
        """Add the rows of a query; returns how many."""
        rows: int = self._rows_of(f"insert into {PARSED} {query}")[0][0]
        return rows

    @property
    def _forgotten_code(self) -> int:
        """Reject code of a forgotten person's row; no row has it where rows are not of persons."""
        rules = [rule for _, rule in self.contract.rejections]
        return rules.index(FORGOTTEN) + 1 if FORGOTTEN in rules else -1

    def _missing_words(self) -> Iterator[tuple[date, str]]:
        """Sentences about words for no value in all accepted rows."""
        words = MissingWords(self.connection, self.contract, self.reading)
        words.count(f"(from {PARSED} where reject = 0)")
        for early in self.early.values():
            words.add(early.words)
        return words.sentences()

    def _notice_no_rows(self) -> None:
        for day, lines in self._no_rows.items():
            if lines and day in self.notices:
                self.notices[day].append(
                    f"{self._folders[day]}: {lines:,} lines are no rows: blank, commas only, a "
                    "footer, or of a file that is there twice"
                )

    def _reject_forgotten(self) -> None:
        """Reject the rows of forgotten persons; also what is kept of rows that are bad anyway."""
        if self.forgotten is None:
            return
        columns = ", ".join(f"{name} = null" for name in self.contract.names)
        if self.contract.table == "population":
            columns += ", variables = null"
        named = ["coalesce(user_id, person)"]
        if self.contract.table == IDENTITY:  # a link may name a second user
            named.append("case when id_type = 'user_id' then id_value end")
        persons = " union all ".join(f"select {who} as person from {PARSED}" for who in named)
        forgotten = forgotten_ids_sql(persons)
        self._run(f"""
            update {PARSED} set reject = {self._forgotten_code}, raw = null, broken = null,
                person = null, {columns}
            where {" or ".join(f"{who} in ({forgotten})" for who in named)}
        """)

    def _reject_duplicates(self) -> None:
        if not self.contract.key:
            return
        key = ", ".join(self.contract.key)
        self._run(f"""
            update {PARSED} as p set reject = {len(self.contract.rejections)}
            from (
                select rowid as twin,
                    row_number() over (partition by day, {key} order by file, line) as place
                from {PARSED}
                where reject = 0 and (day, {key}) in (
                    select (day, {key}) from {PARSED} where reject = 0
                    group by day, {key} having count(*) > 1
                )
            ) as twins
            where p.rowid = twins.twin and twins.place > 1
        """)

    def _run(self, sql: str, parameters: Sequence[Any] | None = None) -> None:
        self.connection.execute(sql, parameters).fetchall()

    def _rows_of(self, sql: str, parameters: Sequence[Any] | None = None) -> list[Any]:
        return self.connection.execute(sql, parameters).fetchall()


@dataclass(frozen=True)
class _Kind:
    """What blocks have in common that are parsed together."""

    names: tuple[str, ...]
    lines: bool
    text: bool
    early: EarlyFile | None


def _of_numbers(kind: "pa.DataType", numbers: "np.ndarray[Any, Any]") -> "pa.Array":
    """Numbers as an Arrow array of a type of their width.

    ``pa.array`` and ``pa.scalar`` would import pandas, which takes longer than a small day.
    """
    import pyarrow as pa

    return pa.Array.from_buffers(kind, len(numbers), [None, pa.py_buffer(numbers)])


def _advice(block: Block) -> str:
    """What to do about the first line of a block that is not UTF-8."""
    for value in block.columns[0]:
        raw = value.as_py() or b""
        try:
            raw.decode()
        except UnicodeDecodeError:
            return advice(raw)
    return advice(b"")


def _csv_cell(name: str) -> str:
    """SQL of a value as a CSV has it."""
    text = f"cast({name} as varchar)"
    quoted = f"""concat('"', replace({text}, '"', '""'), '"')"""
    return (
        f"case when {name} is null then '{NULL_TEXT}' "
        f"when regexp_matches({text}, '[\",]') then {quoted} else {text} end"
    )
