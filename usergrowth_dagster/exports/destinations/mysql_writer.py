"""Writes a table of MySQL or MariaDB: a temporary table, then INSERT … ON DUPLICATE KEY."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from usergrowth_dagster.exports.destinations.table_writer import (
    MARK,
    MARK_LENGTH,
    ROW,
    Batches,
    Load,
    TargetColumn,
    TargetTable,
    assignments,
)
from usergrowth_dagster.quoting import backquoted, literal
from usergrowth_dagster.sources.databases.mysql import READ_SECONDS, asked, driver_options
from usergrowth_dagster.sources.databases.session import CONNECT_SECONDS

STAGING = "usergrowth_staging"
KEY_LENGTH = 255

_TYPES = {
    "VARCHAR": "longtext",
    "BIGINT": "bigint",
    "INTEGER": "int",
    "DOUBLE": "double",
    "DATE": "date",
}


class MySqlWriter:
    """A writing session; implements :class:`table_writer.TableWriter`.

    Args:
        url: without a password.
        password: the password.
        table: its name, with or without a database.
    """

    types: Mapping[str, str] = _TYPES
    accepted: Mapping[str, frozenset[str]] = {
        "VARCHAR": frozenset({"varchar", "tinytext", "text", "mediumtext", "longtext"}),
        "BIGINT": frozenset({"bigint", "decimal"}),
        "INTEGER": frozenset({"int", "bigint", "decimal"}),
        "DOUBLE": frozenset({"double"}),
        "DATE": frozenset({"date"}),
    }
    key_length: int | None = KEY_LENGTH
    text_refusal: str | None = None
    other_keys_collide = True

    def __init__(self, url: str, password: str | None, table: str) -> None:
        import pymysql

        parts = urlsplit(url)
        self._parts = table.split(".")
        self._name = ".".join(map(backquoted, self._parts))
        self._connection: Any = asked(
            lambda: pymysql.connect(
                host=parts.hostname or "localhost",
                port=parts.port or 3306,
                user=unquote(parts.username) if parts.username else None,
                password=(password or "").encode(),  # PyMySQL takes a str for Latin-1
                database=unquote(parts.path.strip("/")),
                charset="utf8mb4",
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                autocommit=False,
                **driver_options(parts.query),
            )
        )
        # Without it the server cuts what does not fit, and warns nobody.
        self._run("set session sql_mode = concat(@@sql_mode, ',STRICT_ALL_TABLES')")

    def _run(self, sql: str) -> list[tuple[Any, ...]]:
        def run() -> list[tuple[Any, ...]]:
            with self._connection.cursor() as cursor:
                cursor.execute(sql)
                return list(cursor.fetchall())

        return asked(run)

    def _value(self, sql: str) -> int:
        ((value,),) = self._run(sql)
        return int(value)

    def _of_catalog(self) -> str:
        *schema, name = self._parts
        database = literal(schema[-1]) if schema else "database()"
        return f"table_schema = {database} and table_name = {literal(name)}"

    def table(self) -> TargetTable | None:
        """The table as it stands; None when it is not there."""
        columns = self._run(
            "select column_name, lower(data_type), character_maximum_length, is_nullable = 'NO' "
            "and column_default is null and extra not like '%auto_increment%' "
            f"from information_schema.columns where {self._of_catalog()}"
        )
        if not columns:
            return None
        parts = self._run(
            "select index_name, column_name from information_schema.statistics "
            f"where {self._of_catalog()} and non_unique = 0"
        )
        unique: dict[str, set[str]] = {}
        for index, column in parts:
            unique.setdefault(index, set()).add(column)
        return TargetTable(
            {
                name: TargetColumn(kind, _characters(kind, length), bool(need))
                for name, kind, length, need in columns
            },
            tuple(map(frozenset, unique.values())),
        )

    def _collation(self) -> str:
        """A collation in which equal texts are equal byte for byte, also with spaces at the end."""
        collations = ("utf8mb4_nopad_bin", "utf8mb4_0900_bin")  # of MariaDB, and of MySQL
        listed = ", ".join(map(literal, collations))
        rows = self._run(
            "select collation_name from information_schema.collations "
            f"where collation_name in ({listed}) order by collation_name desc limit 1"
        )
        return str(rows[0][0]) if rows else "utf8mb4_bin"

    def create(self, load: Load) -> None:
        """Make the table with its key; MySQL commits that at once."""
        columns = []
        for name, kind in zip(load.names, load.kinds, strict=True):
            of_key = kind == "VARCHAR" and name in load.key
            made = f"varchar({KEY_LENGTH})" if of_key else _TYPES[kind]
            columns.append(f"{backquoted(name)} {made}")
        if load.mark is not None:
            columns.append(f"{MARK} varchar({MARK_LENGTH})")
        key = ", ".join(map(backquoted, load.key))
        self._run(
            f"create table {self._name} ({', '.join(columns)}, primary key ({key})) "
            f"engine=InnoDB character set utf8mb4 collate {self._collation()}"
        )

    def stage(self, load: Load, batches: Batches) -> int:
        """Bring rows beside the table, in columns as the table has them."""
        names = ", ".join(map(backquoted, load.names))
        self._run(
            f"create temporary table {STAGING} select cast(0 as signed) as {ROW}, {names} "
            f"from {self._name} where false"
        )
        places = ", ".join(["%s"] * (len(load.names) + 1))
        sql = f"insert into {STAGING} values ({places})"
        rows = 0
        for batch in batches:
            lines = list(zip(*(column.to_pylist() for column in batch.columns), strict=True))

            def insert(lines: list[tuple[Any, ...]] = lines) -> None:
                with self._connection.cursor() as cursor:
                    cursor.executemany(sql, lines)

            asked(insert)
            rows += len(lines)
        return rows

    def repeated_keys(self, load: Load) -> int:
        """Keys of staged rows that are one and the same to the table."""
        key = ", ".join(map(backquoted, load.key))
        return self._value(
            f"select count(*) from (select 1 from {STAGING} group by {key} having count(*) > 1) r"
        )

    def upsert(self, load: Load) -> None:
        """Insert the staged rows, and update those whose key is there."""
        names = ", ".join(map(backquoted, load.written))
        values = ", ".join(map(backquoted, load.names))
        if load.mark is not None:
            values += f", {literal(load.mark)}"
        updated = assignments(load) or [load.key[0]]  # the update must name something
        sets = ", ".join(f"{backquoted(one)} = values({backquoted(one)})" for one in updated)
        self._run(
            f"insert into {self._name} ({names}) select {values} from {STAGING} "
            f"on duplicate key update {sets}"
        )

    def _same(self, load: Load) -> str:
        return " and ".join(f"t.{backquoted(one)} = s.{backquoted(one)}" for one in load.key)

    def delete_others(self, load: Load) -> int:
        """Delete rows with the mark whose key is not staged."""
        assert load.mark is not None

        def run() -> int:
            with self._connection.cursor() as cursor:
                return int(
                    cursor.execute(
                        f"delete t from {self._name} t left join {STAGING} s "
                        f"on {self._same(load)} where t.{MARK} = {literal(load.mark)} "
                        f"and s.{ROW} is null"
                    )
                )

        return asked(run)

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
            self._connection.close()


def _characters(kind: str, length: int | None) -> int | None:
    """Characters of a column; those of a text are bytes, of which a character takes up to four."""
    if length is None or kind == "longtext":
        return None
    return int(length) if kind in {"char", "varchar"} else int(length) // 4
