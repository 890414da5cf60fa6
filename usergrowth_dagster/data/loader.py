"""Reads landing files into accepted and rejected rows, set-based and in bounded memory.

A blank line is not a row. Line numbers are those of the file: the header of a CSV is line 1; rows
of a Parquet file count from 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.data.contracts import FORGOTTEN, Contract
from usergrowth_dagster.data.forgotten import Forgotten, forgotten_ids_sql
from usergrowth_dagster.data.lines import BLOCK_BYTES, is_parquet, read_blocks, read_header, shown
from usergrowth_dagster.data.rules import BLOCK, parse_sql
from usergrowth_dagster.data.storage import Storage, StoredFile
from usergrowth_dagster.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

PARSED = "_parsed"
"""Name of the loader's table: day, file, line, reject, raw and the contract's columns."""


@dataclass(frozen=True)
class Counts:
    """Rows of one day: all, accepted and rejected; of the latter, those of forgotten persons."""

    rows_in: int = 0
    accepted: int = 0
    quarantined: int = 0
    forgotten: int = 0


class CountMismatchError(RuntimeError):
    """Rows were lost or made up on the way: a fault of the product, never of the files."""


class Loader:
    """Reads landing files of one table into the table ``_parsed`` of a DuckDB connection.

    Args:
        connection: an open connection; it holds the rows and spills them when they are many.
        landing: where the files are.
        contract: the table's contract.
        forgotten: persons whose rows are rejected, without keeping what is in them.
    """

    def __init__(
        self,
        connection: "DuckDBPyConnection",
        landing: Storage,
        contract: Contract,
        forgotten: Forgotten | None = None,
    ) -> None:
        self.connection = connection
        self.landing = landing
        self.contract = contract
        self.forgotten = forgotten if contract.has_people else None
        self.files: list[str] = []
        self._rows: dict[date, int] = {}
        self._pending: list[pa.Table] = []
        self._pending_kind: tuple[tuple[str, ...], bool, bool] | None = None
        self._pending_bytes = 0
        kinds = {c.name: c.kind for c in contract.columns}
        if contract.table == "population":
            kinds["variables"] = "MAP(VARCHAR, VARCHAR)"
        columns = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
        self._run(
            f"create or replace table {PARSED} (day date, file integer, line bigint, "
            f"reject smallint, raw varchar, {columns})"
        )

    def load(self, day: date, files: Sequence[StoredFile]) -> None:
        """Read one day's files; all of them or, when one cannot be read, none.

        Raises:
            UserError: a header breaks the contract, or a file cannot be read.
        """
        # All headers first: a wrong one costs no reading.
        headers = [self._checked_header(file) for file in files]
        self._rows[day] = 0
        try:
            for file, names in zip(files, headers, strict=True):
                self._load_file(day, file, names)
        except BaseException:
            self.drop(day)
            raise

    def drop(self, day: date) -> None:
        """Forget the rows of a day."""
        self._flush()
        self._run(f"delete from {PARSED} where day = ?", [day])
        self._rows.pop(day, None)

    def finish(self) -> dict[date, Counts]:
        """Reject forgotten persons and repeated keys, and count every loaded day.

        Raises:
            CountMismatchError: rows in are not accepted + rejected.
        """
        self._flush()
        self._reject_forgotten()
        self._reject_duplicates()
        counted = {
            day: numbers
            for day, *numbers in self._rows_of(
                f"select day, count(*) filter (reject = 0), count(*) filter (reject > 0), "
                f"count(*) filter (reject = {self._forgotten_code}) from {PARSED} group by day"
            )
        }
        counts = {day: Counts(n, *counted.get(day, ())) for day, n in self._rows.items()}
        for day, count in counts.items():
            if count.rows_in != count.accepted + count.quarantined:
                raise CountMismatchError(
                    f"{self.contract.table} {day}: {count.rows_in} rows read, but "
                    f"{count.accepted} accepted and {count.quarantined} quarantined"
                )
        return counts

    def rejects_sql(self, table_name: str) -> str:
        """The rows of the quarantine table, of all loaded days."""
        rejections = self.contract.rejections
        columns = ", ".join("null" if c is None else f"'{c}'" for c, _ in rejections)
        rules = ", ".join(f"'{rule.code}'" for _, rule in rejections)
        files = ", ".join("'" + path.replace("'", "''") + "'" for path in self.files)
        return f"""
            select '{table_name}' as table_name, day as ds,
                ([{files}]::varchar[])[file + 1] as file, line,
                ([{columns}]::varchar[])[reject] as column_name,
                ([{rules}]::varchar[])[reject] as rule, raw as raw_row
            from {PARSED} where reject > 0
        """

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
        reject, times, file, line = self._rows_of(
            "select reject, count(*) as times, arg_min(file, (file, line)), "
            f"arg_min(line, (file, line)) from {PARSED} where day = ? and reject > 0 "
            f"and reject <> {self._forgotten_code} "
            "group by reject order by times desc, reject limit 1",
            [day],
        )[0]
        column, rule = self.contract.rejections[reject - 1]
        place = f"{self.files[file]}:{line}" + (f":{column}" if column else "")
        return (
            f"{where}: {bad:,} of {rows_in:,} rows break the contract, more "
            f"than the {limit:.2%} that max_reject_share allows; most often rule {rule.code} "
            f"({rule.sentence}), {times:,} times, first at {place}; mend the files and land them "
            "again, all rejects are in the quarantine table"
        )

    def _checked_header(self, file: StoredFile) -> tuple[str, ...]:
        names = tuple(read_header(self.landing, file))
        problem = header_problem(self.contract, names)
        if problem is not None:
            raise UserError(f"{file.path}: line 1, {problem}")
        return names

    def _load_file(self, day: date, file: StoredFile, names: tuple[str, ...]) -> None:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        number = len(self.files)
        self.files.append(file.path)
        lines = not is_parquet(file)
        for block in read_blocks(self.landing, file, list(names)):
            size = len(block.columns[0])
            blank = pc.sum(pc.equal(pc.binary_length(block.columns[0]), 0)).as_py() if lines else 0
            self._rows[day] += size - (blank or 0)
            head = {
                "day": pa.repeat(pa.scalar(day, pa.date32()), size),
                "file": pa.repeat(pa.scalar(number, pa.int32()), size),
                "line": pa.array(np.arange(block.first_line, block.first_line + size)),
            }
            cells = ["t"] if lines else [f"c{place + 1}" for place in range(len(names))]
            self._add(
                pa.table({**head, **dict(zip(cells, block.columns, strict=True))}),
                (names, lines, block.text),
            )

    def _add(self, table: "pa.Table", kind: tuple[tuple[str, ...], bool, bool]) -> None:
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
        names, lines, text = self._pending_kind
        self.connection.register(BLOCK, pa.concat_tables(self._pending))
        try:
            self._run(
                f"insert into {PARSED} {parse_sql(self.contract, names, lines=lines, text=text)}"
            )
        finally:
            self.connection.unregister(BLOCK)
            self._pending, self._pending_kind, self._pending_bytes = [], None, 0

    @property
    def _forgotten_code(self) -> int:
        """Reject code of a forgotten person's row; no row has it where rows are not of persons."""
        rules = [rule for _, rule in self.contract.rejections]
        return rules.index(FORGOTTEN) + 1 if FORGOTTEN in rules else -1

    def _reject_forgotten(self) -> None:
        """Reject the rows of forgotten persons; also what is kept of rows that are bad anyway."""
        if self.forgotten is None:
            return
        self.forgotten.bind(self.connection)
        columns = ", ".join(f"{name} = null" for name in self.contract.names)
        if self.contract.table == "population":
            columns += ", variables = null"
        # A reject has no typed values, but its raw text begins with the user id.
        person = "coalesce(user_id, trim(split_part(raw, ',', 1), '\"'))"
        found = forgotten_ids_sql(f"select {person} as person from {PARSED}")
        self._run(f"""
            update {PARSED} set reject = {self._forgotten_code}, raw = null, {columns}
            where {person} in ({found})
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


def header_problem(contract: Contract, found: Sequence[str]) -> str | None:
    """What is wrong with a header, naming column, expected and found; None when nothing is.

    The names and their order must be the contract's; a population may have more after them.
    """
    own = contract.table != "population"
    for place, expected in enumerate(contract.names):
        if place >= len(found):
            return f"column {place + 1}: expected {expected!r}, found the end of the header"
        if found[place] != expected:
            # A population without a header has a phone number where a name should be.
            return (
                f"column {place + 1}: expected {expected!r}, "
                f"found {shown(found[place], digits=own)}"
            )
    extra = list(found[len(contract.names) :])
    if own and extra:
        return f"column {len(contract.names) + 1}: expected no more, found {shown(extra[0])}"
    for place, name in enumerate(extra, len(contract.names) + 1):
        if not name.strip():
            return f"column {place}: expected a name, found {shown(name)}"
        if name in found[: place - 1]:
            return f"column {place}: expected a new name, found {shown(name, digits=own)} again"
    return None
