"""A read-only session with a database: one snapshot, from which all rows of a pull are read."""

import os
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias
from urllib.parse import quote

from usergrowth_dagster.error_codes import ErrorCode
from usergrowth_dagster.errors import SetUpError, UserError
from usergrowth_dagster.sources.databases.keys import DatabaseKeys

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


@contextmanager
def open_session(keys: DatabaseKeys, folder: Path, place: str) -> Iterator[Session]:
    """Connect, and begin one read-only transaction that sees one snapshot.

    Args:
        keys: the database.
        folder: what a relative ``password_file`` starts from.
        place: the file and the source, for errors.

    Raises:
        UserError: no password, no connection, or an error of the database while this lasts; one
            sentence without the password.
    """
    from usergrowth_dagster.sources.databases.mysql import MySqlSession
    from usergrowth_dagster.sources.databases.postgres import PostgresSession

    password = read_password(keys, folder, place)
    kind = PostgresSession if keys.dialect == "postgresql" else MySqlSession
    with _sentences(f"{place}: database.url", password, "source.unreachable", keys):
        session: Session = kind(keys.url, password)
    try:
        with _sentences(f"{place}: database", password, "source.unreadable", keys):
            yield session
    finally:
        session.close()


def _sentences(
    place: str, password: str | None, code: ErrorCode, keys: DatabaseKeys
) -> AbstractContextManager[None]:
    """Turn what a driver reports into one sentence without the password."""

    @contextmanager
    def context() -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            words = without_password(str(error), password)
            if error.lost:
                raise UserError(
                    f"{place}: the connection to {keys.shown} was lost: {words}",
                    code="source.dropped",
                ) from None
            raise UserError(f"{place}: {words}", code=code) from None

    return context()


def one_sentence(text: str) -> str:
    """What a server or driver says, on one line, without the statement that it repeats."""
    text = re.split(r"\n\s*(?:LINE \d+:|Query was:|HINT:|DETAIL:)", text)[0]
    text = re.sub(r"\s*\.?\s*SQLSTATE: \w+\s*$", "", text)
    return " ".join(text.split()).rstrip(".")


def without_password(text: str, password: str | None) -> str:
    """A text without the password, as it is and as a URL writes it."""
    for form in {password, quote(password, safe="")} if password else ():
        text = text.replace(form, "…")
    return text


def read_password(keys: DatabaseKeys, folder: Path, place: str) -> str | None:
    """The password of a database; None where no key says where it is.

    Raises:
        SetUpError: the variable is not set, or the file is missing, empty or readable by others.
    """
    if keys.password_env is not None:
        value = os.environ.get(keys.password_env, "")
        if not value:
            raise SetUpError(
                f"{place}: database.password_env: the environment variable {keys.password_env} is "
                "not set",
                code="credential.missing",
                hint="Set the variable where usergrowth runs.",
            )
        return value
    if keys.password_file is None:
        return None
    path = folder / Path(keys.password_file).expanduser()
    at = f"{place}: database.password_file"
    try:
        if path.stat().st_mode & 0o077:
            raise SetUpError(
                f"{at}: others may read {path}; run chmod 600 on it", code="credential.invalid"
            )
        value = path.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8"
        raise SetUpError(
            f"{at}: {path} cannot be read: {reason}", code="credential.missing"
        ) from None
    if not value:
        raise SetUpError(f"{at}: {path} is empty", code="credential.invalid")
    return value
