"""MySQL and MariaDB through PyMySQL: rows come from an unbuffered cursor, some thousands at a time.

Values are read as the server writes them, as text, and become Arrow columns of the column's type.
So nothing passes through a float or a Python date that cannot hold it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from usergrowth_dagster.quoting import backquoted, literal
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

BATCH_ROWS = 20_000
"""Rows that are fetched at once."""

READ_SECONDS = 600
"""How long the server may take for the next rows, sorting included."""

_UNSIGNED = 32  # flag of a field
_BINARY = 63  # the character set of bytes
_MAX_DIGITS = 38
_MISSING_TABLE = {1146, 1049}
_LOST = {0, 1053, 1077, 1158, 1159, 1160, 1161, 1317, 2006, 2013, 2055}
_OPTIONS = {"unix_socket", "ssl_ca", "ssl_cert", "ssl_key"}
_SWITCHES = {"ssl_verify_cert", "ssl_verify_identity"}


class MySqlSession:
    """A session with MySQL or MariaDB; implements :class:`session.Session`."""

    def __init__(self, url: str, password: str | None) -> None:
        import pymysql
        from pymysql.converters import encoders
        from pymysql.cursors import SSCursor

        parts = urlsplit(url)
        self.odd_times: Counter[str] = Counter()
        self._connection: Any = asked(
            lambda: pymysql.connect(
                host=parts.hostname or "localhost",
                port=parts.port or 3306,
                user=unquote(parts.username) if parts.username else None,
                password=(password or "").encode(),  # PyMySQL takes a str for Latin-1
                database=unquote(parts.path.strip("/")),
                charset="utf8mb4",
                cursorclass=SSCursor,
                conv=encoders,  # and no decoders: every value stays the text that the server wrote
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                **driver_options(parts.query),
            )
        )
        try:
            for statement in (
                "set session time_zone = '+00:00', net_write_timeout = 600",
                "set session transaction isolation level repeatable read, read only",
                "start transaction with consistent snapshot, read only",
            ):
                self._run(statement).close()
        except DatabaseError:
            self.close()
            raise

    def quoted(self, name: str) -> str:
        """The name as SQL has it."""
        return backquoted(name)

    def schema(self, relation: str) -> "pa.Schema":
        """Names and types of a relation's columns."""
        import pyarrow as pa

        cursor = self._run(f"select * from {relation} limit 0")
        try:
            asked(cursor.fetchall)
            return pa.schema([pa.field(one.name, _type(one)) for one in _fields(cursor)])
        finally:
            self._leave(cursor)

    def batches(self, relation: str, rest: str) -> Batches:
        """The rows of a relation, :data:`BATCH_ROWS` at a time."""
        import pyarrow as pa

        cursor = self._run(f"select * from {relation} {rest}")
        try:
            kinds = [(one, _type(one)) for one in _fields(cursor)]
            schema = pa.schema([pa.field(one.name, kind) for one, kind in kinds])
            while rows := asked(lambda: cursor.fetchmany(BATCH_ROWS)):
                columns = [
                    self._array(values, one, kind)
                    for values, (one, kind) in zip(zip(*rows, strict=True), kinds, strict=True)
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)
        finally:
            self._leave(cursor)

    def _array(self, values: Sequence[Any], field: Any, kind: "pa.DataType") -> "pa.Array":
        import pyarrow as pa
        from pymysql.constants import FIELD_TYPE

        if field.type_code == FIELD_TYPE.BIT:
            return pa.array([_bits(value) for value in values], kind)
        if pa.types.is_binary(kind):
            return pa.array([_bytes(value) for value in values], kind)
        if pa.types.is_temporal(kind):
            return self._times(values, field.name, kind)
        return pa.array([_text(value) for value in values], pa.string()).cast(kind)

    def _times(self, values: Sequence[Any], name: str, kind: "pa.DataType") -> "pa.Array":
        """Times, NULL where a value has a year, month or day of zero."""
        import pyarrow as pa

        texts = [_text(value) for value in values]
        real = [None if text is None or _is_zero_date(text) else text for text in texts]
        if odd := real.count(None) - texts.count(None):
            self.odd_times[name] += odd
        array = pa.array(real, pa.string())
        if pa.types.is_date(kind):
            return array.cast(kind)
        return array.cast(pa.timestamp("us")).cast(kind)

    def rows(self, sql: str) -> Sequence[tuple[Any, ...]]:
        """The rows of a small result; every value is text."""
        cursor = self._run(sql)
        try:
            return [tuple(map(_text, row)) for row in asked(cursor.fetchall)]
        finally:
            self._leave(cursor)

    def range_of_times(self, column: str) -> str:
        """The condition that a column holds a real date."""
        return f"{column} >= '0001-01-01'"

    def literal_of_time(self, text: str, *, zoned: bool) -> str:
        """A time as SQL has it; the session's zone is UTC."""
        return literal(text)

    def tables(self) -> Sequence[str]:
        """Tables and views of the database."""
        return [
            name
            for (name,) in self.rows(
                "select table_name from information_schema.tables "
                "where table_schema = database() order by 1"
            )
        ]

    def facts(self, table: Sequence[str]) -> TableFacts:
        """Primary key and indexed columns."""
        *schema, name = table
        database = literal(schema[-1]) if schema else "database()"
        rows = self.rows(
            "select index_name, column_name from information_schema.statistics where table_schema "
            f"= {database} and table_name = {literal(name)} order by index_name, seq_in_index"
        )
        first = dict(reversed(rows))
        primary = tuple(column for index, column in rows if index == "PRIMARY")
        return TableFacts(primary, frozenset(first.values()))

    def _run(self, sql: str) -> Any:
        cursor = self._connection.cursor()

        def run() -> Any:
            cursor.execute(sql)
            return cursor

        try:
            return asked(run)
        except DatabaseError:
            self._leave(cursor)
            raise

    def _leave(self, cursor: Any) -> None:
        """Leave a result; the connection goes where rows are left, which would be read first."""
        result = cursor._result  # PyMySQL has no public way
        if result is not None and result.unbuffered_active:
            result.unbuffered_active = False
            with suppress(Exception):
                self._connection._force_close()
        cursor.connection = None

    def close(self) -> None:
        """End the session."""
        with suppress(Exception):
            self._connection.close()


def driver_options(query: str) -> dict[str, Any]:
    """What the parameters of the URL mean to the driver."""
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in _OPTIONS:
            options[name] = value
        elif name in _SWITCHES:
            options[name] = value.lower() in {"1", "true", "yes", "on"}
        else:
            known = ", ".join(sorted(_OPTIONS | _SWITCHES))
            raise DatabaseError(f"the parameter {name} is not known; known are {known}")
    return options


def _fields(cursor: Any) -> Sequence[Any]:
    """The fields of a result: their public description lacks sign and character set."""
    fields: Sequence[Any] = cursor._result.fields
    return fields


def _type(field: Any) -> "pa.DataType":
    """The Arrow type of a field's values."""
    import pyarrow as pa
    from pymysql.constants import FIELD_TYPE

    unsigned = bool(field.flags & _UNSIGNED)
    whole = {
        FIELD_TYPE.TINY: (pa.int8(), pa.uint8()),
        FIELD_TYPE.SHORT: (pa.int16(), pa.uint16()),
        FIELD_TYPE.INT24: (pa.int32(), pa.uint32()),
        FIELD_TYPE.LONG: (pa.int32(), pa.uint32()),
        FIELD_TYPE.LONGLONG: (pa.int64(), pa.uint64()),
        FIELD_TYPE.YEAR: (pa.int16(), pa.int16()),
        FIELD_TYPE.BIT: (pa.uint64(), pa.uint64()),
    }
    plain = {
        FIELD_TYPE.FLOAT: pa.float32(),
        FIELD_TYPE.DOUBLE: pa.float64(),
        FIELD_TYPE.DATE: pa.date32(),
        FIELD_TYPE.NEWDATE: pa.date32(),
        FIELD_TYPE.DATETIME: pa.timestamp("us"),
        FIELD_TYPE.TIMESTAMP: pa.timestamp("us", "UTC"),
        FIELD_TYPE.TIME: pa.string(),
        FIELD_TYPE.JSON: pa.string(),
        FIELD_TYPE.GEOMETRY: pa.binary(),
    }
    if field.type_code in whole:
        return whole[field.type_code][unsigned]
    if field.type_code in plain:
        return plain[field.type_code]
    if field.type_code in {FIELD_TYPE.NEWDECIMAL, FIELD_TYPE.DECIMAL}:
        digits = field.length - (field.scale > 0) - (not unsigned)
        return pa.decimal128(digits, field.scale) if digits <= _MAX_DIGITS else pa.string()
    return pa.binary() if field.charsetnr == _BINARY else pa.string()


def _bits(value: Any) -> int | None:
    return None if value is None else int.from_bytes(_bytes(value) or b"", "big")


def _bytes(value: Any) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _text(value: Any) -> str | None:
    """Text as it is; the server sends that of computed columns as bytes in places."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _is_zero_date(text: str) -> bool:
    year, month, day = text[:10].split("-")
    return "00" in (month, day) or year == "0000"


def asked(work: Callable[[], Result]) -> Result:
    """Do what asks the server; its errors become :class:`DatabaseError`."""
    import pymysql

    try:
        return work()
    except (pymysql.Error, OSError) as error:
        number, *words = error.args if error.args else (0,)
        text = str(words[0] if words else error) or "the connection is closed"
        raise DatabaseError(
            one_sentence(text),
            missing_table=number in _MISSING_TABLE,
            lost=number in _LOST or isinstance(error, OSError),
        ) from None
