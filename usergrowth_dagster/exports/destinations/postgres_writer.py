"""Writes a table of PostgreSQL: a COPY into a temporary table, then INSERT … ON CONFLICT."""

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.exports.destinations.table_writer import (
    MARK,
    MARK_LENGTH,
    Batches,
    Load,
    TargetColumn,
    TargetTable,
    assignments,
)
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.sources.databases.postgres import asked, libpq_uri

if TYPE_CHECKING:
    import pyarrow as pa

STAGING = "usergrowth_staging"

_TYPES = {
    "VARCHAR": "text",
    "BIGINT": "bigint",
    "INTEGER": "integer",
    "DOUBLE": "double precision",
    "DATE": "date",
}


class PostgresWriter:
    """A writing session; implements :class:`table_writer.TableWriter`.

    Args:
        url: without a password.
        password: the password.
        table: its name, with or without a schema.
    """

    types: Mapping[str, str] = _TYPES
    accepted: Mapping[str, frozenset[str]] = {
        "VARCHAR": frozenset({"text", "varchar"}),
        "BIGINT": frozenset({"int8", "numeric"}),
        "INTEGER": frozenset({"int4", "int8", "numeric"}),
        "DOUBLE": frozenset({"float8"}),
        "DATE": frozenset({"date"}),
    }
    key_length: int | None = None
    text_refusal: str | None = "\0"
    other_keys_collide = False

    def __init__(self, url: str, password: str | None, table: str) -> None:
        from adbc_driver_postgresql import dbapi

        self._name = ".".join(identifier(part) for part in table.split("."))
        self._connection: Any = asked(lambda: dbapi.connect(libpq_uri(url, password)))
        self._cursor: Any = self._connection.cursor()

    def _run(self, sql: str) -> None:
        asked(lambda: self._cursor.execute(sql))

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        def run() -> "pa.Table":
            self._cursor.execute(sql)
            return self._cursor.fetch_arrow_table()

        return [tuple(row.values()) for row in asked(run).to_pylist()]

    def _value(self, sql: str) -> int:
        ((value,),) = self._rows(sql)
        return int(value)

    def table(self) -> TargetTable | None:
        """The table as it stands; None when it is not there."""
        found = f"to_regclass({literal(self._name)})"
        columns = self._rows(
            "select a.attname::text, t.typname::text, "
            "case when t.typname = 'varchar' and a.atttypmod > 4 then a.atttypmod - 4 end, "
            "a.attnotnull and not a.atthasdef and a.attidentity = '' "
            "from pg_attribute a join pg_type t on t.oid = a.atttypid "
            f"where a.attrelid = {found} and a.attnum > 0 and not a.attisdropped"
        )
        if not columns:
            return None
        unique = self._rows(
            "select array(select a.attname::text from unnest(i.indkey::int2[]) with ordinality "
            "as k(number, place) join pg_attribute a on a.attrelid = i.indrelid "
            "and a.attnum = k.number where k.place <= i.indnkeyatts) "
            f"from pg_index i where i.indrelid = {found} and i.indisunique "
            "and i.indpred is null and i.indexprs is null"
        )
        return TargetTable(
            {name: TargetColumn(kind, length, bool(need)) for name, kind, length, need in columns},
            tuple(frozenset(names) for (names,) in unique),
        )

    def create(self, load: Load) -> None:
        """Make the table with its key."""
        columns = [
            f"{identifier(name)} {_TYPES[kind]}"
            for name, kind in zip(load.names, load.kinds, strict=True)
        ]
        if load.mark is not None:
            columns.append(f"{MARK} varchar({MARK_LENGTH})")
        key = ", ".join(map(identifier, load.key))
        self._run(f"create table {self._name} ({', '.join(columns)}, primary key ({key}))")

    def stage(self, load: Load, batches: Batches) -> int:
        """Bring rows beside the table."""
        import pyarrow as pa

        first = next(batches, None)
        if first is None:
            kinds = zip(load.names, load.kinds, strict=True)
            body = ", ".join(f"{identifier(name)} {_TYPES[kind]}" for name, kind in kinds)
            self._run(f"create temporary table {STAGING} ({body})")
            return 0

        def whole() -> Batches:
            yield first
            yield from batches

        reader = pa.RecordBatchReader.from_batches(first.schema, whole())
        return int(
            asked(lambda: self._cursor.adbc_ingest(STAGING, reader, "create", temporary=True))
        )

    def repeated_keys(self, load: Load) -> int:
        """Keys of staged rows that are one and the same to the table."""
        key = ", ".join(map(identifier, load.key))
        return self._value(
            f"select count(*) from (select 1 from {STAGING} group by {key} having count(*) > 1) r"
        )

    def upsert(self, load: Load) -> None:
        """Insert the staged rows, and update those whose key is there."""
        names = ", ".join(map(identifier, load.written))
        values = ", ".join(map(identifier, load.names))
        if load.mark is not None:
            values += f", {literal(load.mark)}"
        sets = ", ".join(
            f"{identifier(name)} = excluded.{identifier(name)}" for name in assignments(load)
        )
        self._run(
            f"insert into {self._name} ({names}) select {values} from {STAGING} "
            f"on conflict ({', '.join(map(identifier, load.key))}) "
            f"do {f'update set {sets}' if sets else 'nothing'}"
        )

    def _same(self, load: Load) -> str:
        return " and ".join(f"t.{identifier(one)} = s.{identifier(one)}" for one in load.key)

    def delete_others(self, load: Load) -> int:
        """Delete rows with the mark whose key is not staged."""
        assert load.mark is not None
        gone = (
            f"t.{MARK} = {literal(load.mark)} and not exists "
            f"(select 1 from {STAGING} s where {self._same(load)})"
        )
        count = self._value(f"select count(*) from {self._name} t where {gone}")
        self._run(f"delete from {self._name} t where {gone}")
        return count

    def matching(self, load: Load) -> int:
        """Rows of the table whose key is staged."""
        return self._value(
            f"select count(*) from {self._name} t join {STAGING} s on {self._same(load)}"
        )

    def count(self, mark: str | None) -> int:
        """Rows of the table, or those with a mark."""
        where = "" if mark is None else f" where {MARK} = {literal(mark)}"
        return self._value(f"select count(*) from {self._name}{where}")

    def commit(self) -> None:
        """Let everybody see the table as it is now."""
        asked(self._connection.commit)

    def close(self) -> None:
        """End the session."""
        with suppress(Exception):
            self._cursor.close()
        with suppress(Exception):
            self._connection.close()
