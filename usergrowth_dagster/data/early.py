"""Good rows of a large file, on their way to a table before all is known of their day.

Most rows of a day are good whatever the others are. Where no key can repeat, they need not be held
until the last line is read: that takes memory, and the time to put them there and to get them out.
"""

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Protocol

from usergrowth_dagster.data.contracts import Contract, Reading
from usergrowth_dagster.data.forgotten import Forgotten, forgotten_ids_sql
from usergrowth_dagster.data.notices import MissingWords
from usergrowth_dagster.data.rules import clean_sql
from usergrowth_dagster.data.stored import stored_rows

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

_GOOD, _FORGOTTEN = (
    "_good",
    "_forgotten",
)  # rows on their way to a writer; forgotten persons among them


class RowWriter(Protocol):
    """Takes good rows before all is known of their day; they may have to be thrown away."""

    def write(self, batch: "pa.RecordBatch") -> None:
        """Take rows in: the contract's columns and ``ds``."""

    def finish(self) -> object:
        """Hold nothing any more: all rows are taken in."""

    def discard(self) -> None:
        """Throw away what was taken in, before or after the end."""


class EarlyFile:
    """One file whose plainly good rows are written as they are read.

    Args:
        connection: holds the block that is read, as :data:`~usergrowth_dagster.data.rules.BLOCK`.
        contract: of the rows.
        forgotten: persons whose rows are held, to be rejected.
        reading: words that stand for no value.
        parsed: the table that holds rows.
        day: the day of the file.
        writer: takes its rows.

    Attributes:
        rows: how many were written.
        last: line of the last of them.
        words: those for no value in them.
    """

    def __init__(
        self,
        connection: "DuckDBPyConnection",
        contract: Contract,
        forgotten: Forgotten | None,
        reading: Reading,
        parsed: str,
        day: date,
        writer: RowWriter,
    ) -> None:
        self.day, self.writer = day, writer
        self.rows = self.last = 0
        self.words = MissingWords(connection, contract, reading)
        self._connection, self._contract = connection, contract
        self._forgotten, self._parsed = forgotten, parsed

    def take(self, block: "pa.Table", header: Sequence[str], *, lines: bool) -> int:
        """Write the plainly good rows of a block, but hold those of forgotten persons.

        Args:
            block: the block.
            header: all column names of the file.
            lines: the block holds whole CSV lines, otherwise a column a cell.

        Returns:
            How many rows they are together.
        """
        import pyarrow.compute as pc

        names = self._contract.names
        good = None if lines else stored_rows(self._connection, self._contract, block, header)
        if good is None:
            query = clean_sql(self._contract, header, lines=lines)
            good = self._connection.sql(
                f"select day, file, line, {', '.join(names)} from ({query})"
            ).to_arrow_table()
        if good.num_rows:
            self.last = max(self.last, pc.max(good.column("line")).as_py())
            rows = self._without_forgotten(good) if self._forgotten else good
            self.words.look(rows)
            self.rows += rows.num_rows
            for batch in rows.select([*names, "day"]).rename_columns([*names, "ds"]).to_batches():
                self.writer.write(batch)
        return int(good.num_rows)

    def _without_forgotten(self, good: "pa.Table") -> "pa.Table":
        """Good rows without those of forgotten persons, which are held until all are rejected."""
        self._connection.register(_GOOD, good)
        try:
            forgotten = forgotten_ids_sql(f"select user_id as person from {_GOOD}")
            self._connection.execute(
                f"create or replace temp table {_FORGOTTEN} as {forgotten}"
            ).fetchall()
            if not self._connection.execute(f"from {_FORGOTTEN} limit 1").fetchall():
                return good
            self._connection.execute(
                f"insert into {self._parsed} select day, file, line, 0, null, null, null, "
                f"{', '.join(self._contract.names)} from {_GOOD} "
                f"where user_id in (from {_FORGOTTEN})"
            ).fetchall()
            return self._connection.sql(
                f"from {_GOOD} where user_id not in (from {_FORGOTTEN})"
            ).to_arrow_table()
        finally:
            self._connection.unregister(_GOOD)
