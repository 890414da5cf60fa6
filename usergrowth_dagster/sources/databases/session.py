"""A read-only session with a database: one snapshot, from which all rows of a pull are read."""

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import pyarrow as pa

Batches: TypeAlias = "Generator[pa.RecordBatch, None, None]"
"""Rows of a relation as they come; closing it leaves the rest unread."""

CONNECT_SECONDS = 10
"""How long a server may take to answer the first time."""


class DatabaseError(Exception):
    """What a driver reports, in the words of the server.

    Attributes:
        missing_table: whether the table or view is not there.
        lost: whether the connection is gone.
    """

    def __init__(self, words: str, *, missing_table: bool = False, lost: bool = False) -> None:
        super().__init__(words)
        self.missing_table = missing_table
        self.lost = lost


@dataclass(frozen=True)
class TableFacts:
    """What the catalog of a database says of a table.

    Attributes:
        primary_key: its columns; none without a primary key.
        indexed: columns that are the first of an index.
    """

    primary_key: tuple[str, ...]
    indexed: frozenset[str]


class Session(Protocol):
    """An open session. All methods raise :class:`DatabaseError`."""

    def quoted(self, name: str) -> str:
        """The name of a column or table as the database's SQL has it."""

    def schema(self, relation: str) -> "pa.Schema":
        """Names of a relation's columns and the types that :meth:`batches` gives them."""

    def batches(self, relation: str, rest: str) -> Batches:
        """The rows of a relation, a bounded number at a time.

        Args:
            relation: what stands after ``from``.
            rest: conditions, order and limit.
        """

    def rows(self, sql: str) -> Sequence[tuple[Any, ...]]:
        """The rows of a small result."""

    def range_of_times(self, column: str) -> str:
        """The condition that a quoted column holds a time that a part can hold."""

    def literal_of_time(self, text: str, *, zoned: bool) -> str:
        """A time as the database's SQL has it.

        Args:
            text: ISO 8601 without a zone; UTC where the column has a zone.
            zoned: whether the column has a zone.
        """

    def tables(self) -> Sequence[str]:
        """Names of the tables and views that can be read."""

    def facts(self, table: Sequence[str]) -> TableFacts:
        """What the catalog says of a table, given by the parts of its name."""

    @property
    def odd_times(self) -> Mapping[str, int]:
        """By column, values read so far that are no time (such as 0000-00-00), read as NULL."""

    def close(self) -> None:
        """End the session; never raises."""


def one_sentence(text: str) -> str:
    """What a server or driver says, on one line, without the statement that it repeats."""
    text = re.split(r"\n\s*(?:LINE \d+:|Query was:|HINT:|DETAIL:)", text)[0]
    text = re.sub(r"\s*\.?\s*SQLSTATE: \w+\s*$", "", text)
    return " ".join(text.split()).rstrip(".")
