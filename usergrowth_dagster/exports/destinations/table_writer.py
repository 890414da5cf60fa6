"""What a database must do to take an export: the same for PostgreSQL, MySQL and MariaDB."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

MARK = "usergrowth_export"
"""Column with the name of the export that brought a row; of the mode ``replace``."""

MARK_LENGTH = 40
ROW = "usergrowth_row"
"""Column of the staging table: number of the row."""

Batches = Iterator["pa.RecordBatch"]


@dataclass(frozen=True)
class TargetColumn:
    """A column of the table as it stands.

    Attributes:
        kind: its type as the database names it, in lower case.
        length: characters that it holds at most; None: no such limit.
        required: whether a row must give it a value.
    """

    kind: str
    length: int | None
    required: bool


@dataclass(frozen=True)
class TargetTable:
    """The table as it stands: its columns, and the sets of columns that are unique."""

    columns: Mapping[str, TargetColumn]
    unique: tuple[frozenset[str], ...]


@dataclass(frozen=True)
class Load:
    """What goes into the table.

    Attributes:
        names: columns by their names outside, in order.
        kinds: their DuckDB types.
        key: those that name a row once.
        mark: value of :data:`MARK`; None: the table has no such column.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    key: tuple[str, ...]
    mark: str | None

    @property
    def written(self) -> tuple[str, ...]:
        """All columns that are written."""
        return (*self.names, MARK) if self.mark is not None else self.names


class TableWriter(Protocol):
    """A session that writes one table. All methods raise ``DatabaseError``.

    What is staged is seen by this session alone; the table changes at :meth:`commit`.
    """

    types: Mapping[str, str]
    """By DuckDB type, the type of a column that is made."""

    accepted: Mapping[str, frozenset[str]]
    """By DuckDB type, the types of columns that lose nothing."""

    key_length: int | None
    """Characters of a text in the key of a table that is made; None: no limit."""

    text_refusal: str | None
    """A character that no text may have; None: any."""

    other_keys_collide: bool
    """Whether an upsert updates the row of any unique key, also of one that is not named."""

    def table(self) -> TargetTable | None:
        """The table as it stands; None when it is not there."""

    def create(self, load: Load) -> None:
        """Make the table with its key."""

    def stage(self, load: Load, batches: Batches) -> int:
        """Bring rows (:data:`ROW`, then the columns) beside the table; how many."""

    def repeated_keys(self, load: Load) -> int:
        """Keys of staged rows that are one and the same to the table."""

    def upsert(self, load: Load) -> None:
        """Insert the staged rows, and update those whose key is there."""

    def delete_others(self, load: Load) -> int:
        """Delete rows with the mark whose key is not staged; how many."""

    def matching(self, load: Load) -> int:
        """Rows of the table whose key is staged."""

    def count(self, mark: str | None) -> int:
        """Rows of the table, or those with a mark."""

    def commit(self) -> None:
        """Let everybody see the table as it is now."""

    def close(self) -> None:
        """End the session, whatever was not committed is undone; never raises."""


def assignments(load: Load) -> Sequence[str]:
    """The columns that an update sets."""
    return [name for name in load.written if name not in load.key]
