"""The table or query of a source: what its columns are, and the SQL that reads its rows."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.sources.databases.keys import DatabaseKeys, Dialect
from usergrowth_dagster.sources.databases.session import Batches, DatabaseError, Session

if TYPE_CHECKING:
    import pyarrow as pa

_SQLGLOT: dict[Dialect, str] = {"postgresql": "postgres", "mysql": "mysql"}
_QUERY_STARTS = ("select", "with", "(", "table", "values")


@dataclass(frozen=True)
class OpenTable:
    """A table or query that can be read.

    Attributes:
        session: reads it.
        keys: as sources.yml has them.
        place: the file and the source, for errors.
        relation: what stands after ``from`` in the database's SQL.
        schema: names and types of its columns.
        cursor: the cursor's column as the database spells it; None: every row is read every time.
        key: the columns that name a row once, spelled alike.
    """

    session: Session
    keys: DatabaseKeys
    place: str
    relation: str
    schema: "pa.Schema"
    cursor: str | None
    key: tuple[str, ...]

    @property
    def cursor_is_time(self) -> bool:
        """Whether the cursor is a date or a time."""
        import pyarrow.types as types

        return self.cursor is not None and types.is_temporal(self.schema.field(self.cursor).type)

    def all_rows(self) -> Batches:
        """Every row, in no order."""
        return self.session.batches(self.relation, "")

    def first_rows(self, limit: int) -> Batches:
        """Some rows."""
        return self.session.batches(self.relation, f"limit {limit}")

    def rows_from(self, value: str | None) -> Batches:
        """The rows whose cursor has a value, by the cursor.

        Args:
            value: the first one, in the database's SQL; None: all.
        """
        name = self._cursor_name()
        usable = self.session.range_of_times(name) if self.cursor_is_time else f"{name} is not null"
        conditions = [usable] if value is None else [f"{name} >= {value}", usable]
        rest = f"where {' and '.join(conditions)} order by {name}"
        return self.session.batches(self.relation, rest)

    def rows_without_cursor(self) -> int:
        """Number of rows whose cursor is NULL."""
        sql = f"select count(*) from {self.relation} where {self._cursor_name()} is null"
        ((count,),) = self.session.rows(sql)
        return int(count)

    def count(self) -> int:
        """Number of rows."""
        ((count,),) = self.session.rows(f"select count(*) from {self.relation}")
        return int(count)

    def _cursor_name(self) -> str:
        assert self.cursor is not None
        return self.session.quoted(self.cursor)


def open_table(session: Session, keys: DatabaseKeys, place: str) -> OpenTable:
    """Look a table or query up, and check cursor and key against its columns.

    Raises:
        UserError: it is not there, is no single SELECT, or lacks a column; names the key path.
    """
    if keys.query is not None:
        query = single_select(keys.query, keys.dialect, f"{place}: database.query")
        relation = f"(\n{query}\n) as source_rows"
    else:
        relation = ".".join(session.quoted(part) for part in table_parts(keys))
    try:
        schema = session.schema(relation)
    except DatabaseError as error:
        if error.lost:
            raise
        if keys.query is not None or not error.missing_table:
            which = "query" if keys.query is not None else "table"
            raise UserError(
                f"{place}: database.{which}: {error}", code="source.unreadable"
            ) from None
        raise _missing_table(session, keys, place) from None
    names = schema.names
    folded = [name.casefold() for name in names]
    for name in names:
        if folded.count(name.casefold()) > 1:
            raise UserError(
                f"{place}: database: two columns are called {name!r}; name them apart in a query",
                code="source.invalid",
            )
    cursor = keys.cursor and _column(names, keys.cursor, f"{place}: database.cursor")
    _check_cursor(schema, cursor or None, keys, place)
    row_key = tuple(_column(names, one, f"{place}: database.key") for one in keys.key)
    return OpenTable(session, keys, place, relation, schema, cursor or None, row_key)


def table_parts(keys: DatabaseKeys) -> Sequence[str]:
    """Catalog, schema and name of a table, as far as they are given."""
    from sqlglot import exp

    assert keys.table is not None
    return [part.name for part in exp.to_table(keys.table, dialect=_SQLGLOT[keys.dialect]).parts]


def single_select(text: str, dialect: Dialect, place: str) -> str:
    """A query without its closing semicolon, if it is one SELECT that writes and locks nothing.

    Raises:
        UserError: it is something else.
    """
    import sqlglot
    from sqlglot import exp

    def refused(reason: str) -> UserError:
        return UserError(f"{place}: {reason}", code="source.invalid")

    try:
        tokens = sqlglot.tokenize(text, read=_SQLGLOT[dialect])
        if tokens and tokens[-1].text == ";":
            text = text[: tokens.pop().start]
        if not tokens or tokens[0].text.lower() not in _QUERY_STARTS:
            start = f", and begins with {tokens[0].text!r}" if tokens else ""
            raise refused(f"must be one SELECT{start}")
        statements = sqlglot.parse(text, dialect=_SQLGLOT[dialect])
    except sqlglot.errors.SqlglotError as error:
        raise refused(f"must be one SELECT: {' '.join(str(error).split())}") from None
    if len(statements) != 1:
        raise refused(f"must be one SELECT, and is {len(statements)} statements")
    (statement,) = statements
    if not isinstance(statement, exp.Query):
        raise refused("must be one SELECT")
    if writes := statement.find(exp.DML, exp.DDL, exp.Into, exp.Lock, exp.Command):
        raise refused(f"must be one SELECT that only reads, and holds {writes.key.upper()}")
    return text.strip()


def _missing_table(session: Session, keys: DatabaseKeys, place: str) -> UserError:
    assert keys.table is not None
    try:
        names = session.tables()
    except DatabaseError:
        names = ()
    close = difflib.get_close_matches(keys.table, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return UserError(
        f"{place}: database.table: {keys.shown} is not there, or its user may not see it{hint}",
        code="source.gone",
    )


def _column(names: Sequence[str], name: str, place: str) -> str:
    by_folded = {one.casefold(): one for one in names}
    if name.casefold() in by_folded:
        return by_folded[name.casefold()]
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(names)}"
    raise UserError(f"{place}: there is no column {name!r}; {hint}", code="source.invalid")


def _check_cursor(schema: "pa.Schema", cursor: str | None, keys: DatabaseKeys, place: str) -> None:
    import pyarrow.types as types

    if cursor is None:
        return
    kind = schema.field(cursor).type
    is_number = types.is_integer(kind) or types.is_decimal(kind)
    is_time = types.is_date(kind) or types.is_timestamp(kind)
    if not is_number and not is_time:
        raise UserError(
            f"{place}: database.cursor: {cursor} is a {kind}; a cursor is a whole number, a "
            "decimal of declared digits, a date or a time",
            code="source.invalid",
        )
    if keys.late is None:
        return
    if is_time and keys.late_time is None:
        raise UserError(
            f"{place}: database.late: {cursor} is a time; write a duration such as 10 minutes",
            code="source.invalid",
        )
    if is_number and keys.late_number is None:
        raise UserError(
            f"{place}: database.late: {cursor} is a number; write how far to look back as a number",
            code="source.invalid",
        )
