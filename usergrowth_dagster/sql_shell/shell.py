"""Runs read-only queries over the tables of a home, one engine for each.

An engine is opened for one statement and sees the tables that the statement names and no more, so
opening the shell costs nothing, whatever the history, and a statement sees what is newest. The
engine may open the data files of these tables, and no other file; its settings are locked.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from usergrowth_dagster.data.storage import file_literal
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.sql_shell.catalog import Catalog, TableAt, bind
from usergrowth_dagster.sql_shell.records import COLUMNS, SCHEMA, read_records
from usergrowth_dagster.sql_shell.statements import Reader, SqlError, Statement, sentence_of
from usergrowth_dagster.sql_shell.versions import Versions
from usergrowth_dagster.warehouse.engine import Engine, open_engine

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

T = TypeVar("T")

_WAIT_SECONDS = 0.1
"""How often a query that is to end is asked to: between two steps it does not hear it."""

_HARDENING = (
    "set python_enable_replacements = false",
    "set autoinstall_known_extensions = false",
    "set autoload_known_extensions = false",
    "set allow_community_extensions = false",
    "set enable_external_access = false",
    "set lock_configuration = true",
)


@dataclass(frozen=True)
class Column:
    """A column of a result: its name, unique there, and its DuckDB type."""

    name: str
    kind: str


class Result:
    """The rows of a statement, not read yet.

    Args:
        engine: runs the query.
        statement: the query.

    Attributes:
        columns: names and types, in order.
        shift: bytes before the statement in the query that runs.
    """

    def __init__(self, engine: Engine, statement: Statement) -> None:
        self._engine, self._statement = engine, statement
        self.columns = [Column("explain_key", "VARCHAR"), Column("explain_value", "VARCHAR")]
        self.shift = 0

    def bind(self) -> None:
        """Find the columns; nothing is read."""
        if self._statement.explains:  # it cannot stand in a subquery
            return
        described = self._engine.rows(self._around("describe select * from"))
        names = _distinct([str(row[0]) for row in described])
        self.columns = [
            Column(name, str(row[1])) for name, row in zip(names, described, strict=True)
        ]

    def _around(self, head: str, tail: str = "") -> str:
        """A query of the statement."""
        self.shift = len(f"{head} (".encode())
        return f"{head} ({self._statement.sql}\n){tail}"

    def read(self, form: Callable[[Column, str], str] | None = None) -> "pa.RecordBatchReader":
        """A stream of the rows; read it once.

        Args:
            form: SQL of a column, from the column and the SQL of its value; by default the value.

        Raises:
            SqlError: the query fails, here or while the stream is read.
        """
        if self._statement.explains:
            return self._plan(form)
        names = [f"c{place}" for place, _ in enumerate(self.columns)]
        shown = ", ".join(
            f"{form(column, name) if form else name} as {identifier(column.name)}"
            for column, name in zip(self.columns, names, strict=True)
        )
        return self._engine.stream(
            self._around(f"select {shown} from", f" as result({', '.join(names)})")
        )

    def _plan(self, form: Callable[[Column, str], str] | None) -> "pa.RecordBatchReader":
        """The plan, a row or two; it is read whole, since EXPLAIN cannot stand in a subquery."""
        connection = self._engine.connection
        connection.register("_plan", self._engine.arrow(self._statement.sql))
        shown = ", ".join(
            f"{form(column, identifier(column.name)) if form else identifier(column.name)} "
            f"as {identifier(column.name)}"
            for column in self.columns
        )
        return self._engine.stream(f"select {shown} from _plan")


class SqlShell:
    """Read-only queries over the tables of a home.

    Args:
        project: the home.
        versions: which version of each table is read.
    """

    def __init__(self, project: Project, versions: Versions) -> None:
        self.project = project
        self.catalog = Catalog(project, versions)

    def statements(self, text: str) -> list[Statement]:
        """The statements of a text, checked.

        Raises:
            SqlError: one cannot be read, or is more than a query of known tables.
        """
        return Reader(self._parser, self.catalog.names, COLUMNS).statements(text)

    @cached_property
    def _parser(self) -> "duckdb.DuckDBPyConnection":
        import duckdb

        connection = duckdb.connect()
        for sql in ("set errors_as_json = true", *_HARDENING):
            connection.execute(sql)
        return connection

    def run(self, statement: Statement, use: Callable[[Result], T]) -> T:
        """Run a query and hand its rows on.

        The work is done in a thread, so that Ctrl-C (KeyboardInterrupt) ends it at any place.

        Args:
            statement: what :meth:`statements` returned.
            use: reads the rows; what it returns is returned.

        Raises:
            SqlError: the query fails, with DuckDB's message and the place.
            UserError: a table has no such version, or its files are gone.
        """
        engines: list[Engine] = []
        with ThreadPoolExecutor(1) as threads:
            future = threads.submit(self._run, statement, use, engines)
            try:
                return future.result()
            except KeyboardInterrupt:
                while not future.done():
                    for engine in engines:
                        with suppress(Exception):  # it may be closed by now
                            engine.connection.interrupt()
                    wait([future], _WAIT_SECONDS)
                raise

    def _run(self, statement: Statement, use: Callable[[Result], T], engines: list[Engine]) -> T:
        import duckdb

        with self._engine(statement) as engine:
            engines.append(engine)
            result = Result(engine, statement)
            try:
                result.bind()
                return use(result)
            except (duckdb.Error, OSError) as error:  # Arrow wraps what its reader meets
                if not _is_of_duckdb(error):
                    raise
                raise self._error(statement, error, result.shift) from None

    def _error(self, statement: Statement, error: Exception, shift: int) -> SqlError:
        sentence, at = sentence_of(error)
        size = len(statement.sql.encode())
        known = at is not None and 0 <= at - shift < max(size, 1)
        return statement.place.error(sentence, at - shift if known and at is not None else None)

    @contextmanager
    def _engine(self, statement: Statement) -> Iterator[Engine]:
        """An engine that sees the tables of a statement and nothing else."""
        names = statement.tables
        if statement.lists_tables:
            names |= {one for one in self.catalog.names if self.catalog.version(one) is not None}
        tables = [self.catalog.table(name) for name in sorted(names)]
        with open_engine(self.project.settings) as engine:
            engine.run(f"set TimeZone = {literal(str(self.project.settings.zone))}")
            for table in tables:
                bind(engine, table)
            self._copy_records(engine, statement.records)
            harden(engine, tables)
            yield engine

    def _copy_records(self, engine: Engine, names: Iterable[str]) -> None:
        """Copy control records into the engine, which has no way to their database."""
        for name in sorted(names):
            engine.run(f"create schema if not exists {SCHEMA}")
            engine.connection.register("_records", read_records(self.project.store, name))
            engine.run(f"create table {SCHEMA}.{identifier(name)} as select * from _records")
            engine.connection.unregister("_records")

    def describe(self, name: str) -> list[Column]:
        """The columns of a table of the home, or of ``control.<table>``.

        Raises:
            UserError: there is no such table, or it was not there at the time asked for.
        """
        quoted = ".".join(identifier(part) for part in name.split("."))
        (statement,) = self.statements(f"describe {quoted}")
        rows = self.run(statement, lambda result: result.read().read_all().to_pylist())
        return [Column(row["column_name"], row["column_type"]) for row in rows]


def harden(engine: Engine, tables: Sequence[TableAt]) -> None:
    """Take from an engine every file but those of some tables, and lock its settings."""
    lock(engine, [path for table in tables for path in (*table.files, *table.persons)])


def lock(engine: Engine, files: Sequence[str]) -> None:
    """Take from an engine every file but some, and lock its settings."""
    named = dict.fromkeys([*map(literal, files), *map(file_literal, files)])  # a path may hold *
    engine.run("set errors_as_json = true")
    engine.run(f"set allowed_paths = [{', '.join(named)}]")
    for sql in _HARDENING:
        engine.run(sql)


def _is_of_duckdb(error: Exception) -> bool:
    import duckdb

    return isinstance(error, duckdb.Error) or "exception_message" in str(error)


def _distinct(names: Sequence[str]) -> list[str]:
    """Names of columns, each different from the others whatever its letters' case."""
    seen: set[str] = set()
    distinct = []
    for name in names:
        number, candidate = 1, name
        while candidate.casefold() in seen:
            candidate, number = f"{name}_{number}", number + 1
        seen.add(candidate.casefold())
        distinct.append(candidate)
    return distinct
