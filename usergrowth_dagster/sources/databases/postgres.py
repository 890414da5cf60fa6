"""PostgreSQL through ADBC: rows come as Arrow batches of a COPY, some megabytes at a time."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from usergrowth_dagster.quoting import identifier, literal, literals
from usergrowth_dagster.sources.databases.session import (
    CONNECT_SECONDS,
    Batches,
    DatabaseError,
    TableFacts,
    one_sentence,
)

if TYPE_CHECKING:
    import pyarrow as pa

Result = TypeVar("Result")

BATCH_BYTES = 4 << 20
"""Bytes of a batch, about."""

_PLAIN = {"text", "varchar", "bpchar", "name", "char", "int2", "int4", "int8", "float4", "float8"}
_PLAIN |= {"bool", "bytea", "json", "jsonb"}
_TIMES = {"timestamp", "timestamptz", "date"}
_LISTS = {"_text", "_varchar", "_int2", "_int4", "_int8", "_float4", "_float8", "_bool"}
_FIRST, _LAST = "0001-01-01", "9999-12-31"
_MISSING_TABLE = {"42P01", "3F000"}
_LOST = {"57P01", "57P02", "57P03"}
_MAX_DIGITS = 38


class PostgresSession:
    """A session with PostgreSQL; implements :class:`session.Session`."""

    odd_times: Mapping[str, int] = {}

    def __init__(self, url: str, password: str | None) -> None:
        from adbc_driver_postgresql import dbapi

        self._connection: Any = asked(lambda: dbapi.connect(libpq_uri(url, password)))
        try:
            self._cursor: Any = self._connection.cursor()
            self._cursor.adbc_statement.set_options(
                **{"adbc.postgresql.batch_size_hint_bytes": str(BATCH_BYTES)}
            )
            for statement in (
                "set transaction isolation level repeatable read, read only",
                "set local timezone to 'UTC'",
            ):
                self._execute(statement)
        except DatabaseError:
            self.close()
            raise

    def quoted(self, name: str) -> str:
        """The name as SQL has it."""
        return identifier(name)

    def schema(self, relation: str) -> "pa.Schema":
        """Names and types of a relation's columns."""
        return self._columns(relation)[1]

    def batches(self, relation: str, rest: str) -> Batches:
        """The rows of a relation, about :data:`BATCH_BYTES` at a time."""
        import pyarrow as pa

        body, schema = self._columns(relation)
        reader = self._reader(f"select {', '.join(body)} from {relation} {rest}")
        while (batch := asked(lambda: next(reader, None))) is not None:
            columns = [
                _as(_storage(column), field.type)
                for column, field in zip(batch.columns, schema, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    def _columns(self, relation: str) -> tuple[list[str], "pa.Schema"]:
        """By column, the expression that is read, and the type that it becomes."""
        import pyarrow as pa

        body, fields = [], []
        for field in self._reader(f"select * from {relation} limit 0").schema:
            kind = str((field.metadata or {}).get(b"POSTGRESQL:type", b"").decode())
            expression, arrow = _column(identifier(field.name), kind, field)
            body.append(f"{expression} as {identifier(field.name)}")
            fields.append(pa.field(field.name, arrow))
        return body, pa.schema(fields)

    def _execute(self, sql: str) -> None:
        asked(lambda: self._cursor.execute(sql))

    def _reader(self, sql: str) -> Any:
        def run() -> Any:
            self._cursor.execute(sql)
            return self._cursor.fetch_record_batch()

        try:
            return asked(run)
        except DatabaseError:
            with suppress(Exception):  # a transaction that failed answers nothing more
                self._connection.rollback()
            raise

    def rows(self, sql: str) -> Sequence[tuple[Any, ...]]:
        """The rows of a small result."""
        table = asked(lambda: self._reader(sql).read_all())
        return [tuple(row.values()) for row in table.to_pylist()]

    def range_of_times(self, column: str) -> str:
        """The condition that a column holds a time of the years 1 to 9999; infinity is none."""
        return f"{column} between {literal(_FIRST)} and {literal(_LAST)}"

    def literal_of_time(self, text: str, *, zoned: bool) -> str:
        """A time as SQL has it."""
        return literal(f"{text}+00" if zoned else text)

    def tables(self) -> Sequence[str]:
        """Tables and views on the search path by their name, others with their schema."""
        return [
            name
            for (name,) in self.rows(
                "select case when pg_table_is_visible(c.oid) then c.relname::text "
                "else n.nspname || '.' || c.relname end from pg_class c "
                "join pg_namespace n on n.oid = c.relnamespace "
                "where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname <> 'pg_catalog' "
                "and n.nspname <> 'information_schema' order by 1"
            )
        ]

    def facts(self, table: Sequence[str]) -> TableFacts:
        """Primary key and indexed columns."""
        name = literal(".".join(identifier(part) for part in table))
        rows = self.rows(
            "select i.indisprimary, array(select a.attname::text "
            "from unnest(i.indkey::int2[]) with ordinality as k(number, place) "
            "join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number "
            "where k.place <= i.indnkeyatts order by k.place) "
            f"from pg_index i where i.indrelid = to_regclass({name}) and i.indpred is null "
            "and i.indexprs is null"
        )
        primary = next((tuple(columns) for is_primary, columns in rows if is_primary), ())
        return TableFacts(primary, frozenset(columns[0] for _, columns in rows if columns))

    def close(self) -> None:
        """End the session."""
        with suppress(Exception):
            self._cursor.close()
        with suppress(Exception):
            self._connection.close()


def libpq_uri(url: str, password: str | None) -> str:
    """The URI for libpq, the one place that the password goes to."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if password is not None:
        user, at = f"{user}:{quote(password, safe='')}", "@"
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    defaults = {"connect_timeout": str(CONNECT_SECONDS), "application_name": "usergrowth"}
    defaults |= {"keepalives_idle": "60", "keepalives_interval": "15", "keepalives_count": "4"}
    given = defaults | given
    return f"postgresql://{user}{at}{host}{parts.path}?{urlencode(given, quote_via=quote)}"


def _column(name: str, kind: str, field: Any) -> tuple[str, "pa.DataType"]:
    """How a column is read so that nothing of it is lost, and the type of its values."""
    import pyarrow as pa

    if kind in _TIMES:  # Arrow would wrap infinity round to some time
        low, high = literal(_FIRST), literal(_LAST)
        return f"case when {name} between {low} and {high} then {name} end", field.type
    if kind == "numeric":
        typmod = int((field.metadata or {}).get(b"POSTGRESQL:typmod", b"-1")) - 4
        digits, scale = typmod >> 16, typmod & 0xFFFF
        if 0 < digits <= _MAX_DIGITS and scale <= digits:
            return f"nullif({name}, 'NaN')", pa.decimal128(digits, scale)
        words = literals(("NaN", "Infinity", "-Infinity"))
        return f"case when cast({name} as text) not in ({words}) then {name} end", pa.string()
    if kind in _LISTS:
        return name, pa.list_(field.type.value_type)
    if kind in _PLAIN:
        return name, pa.string() if kind in {"json", "jsonb"} else field.type
    return f"cast({name} as text)", pa.string()


def _storage(column: "pa.Array") -> "pa.Array":
    return getattr(column, "storage", column)


def _as(column: "pa.Array", kind: "pa.DataType") -> "pa.Array":
    return column if column.type == kind else column.cast(kind)


def asked(work: Callable[[], Result]) -> Result:
    """Do what asks the server; its errors become :class:`DatabaseError`.

    The driver reports a connection that is lost within a COPY as an OSError.
    """
    import pyarrow as pa
    from adbc_driver_manager import Error

    try:
        return work()
    except (Error, OSError, pa.ArrowException) as error:
        state = getattr(error, "sqlstate", None)
        text = str(error)
        lost = state in _LOST or any(
            words in text for words in ("server closed the connection", "connection to server was")
        )
        lost |= isinstance(error, OSError)
        for words in ("FATAL: ", "ERROR: ", "[libpq] ", "Failed to prepare query: "):
            text = text.rpartition(words)[2] if words in text else text
        raise DatabaseError(
            one_sentence(text), missing_table=state in _MISSING_TABLE, lost=lost
        ) from None
