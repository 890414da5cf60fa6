"""A segment of one SELECT: known tables as of a date, and nothing else.

The statement passes the same check as `usergrowth sql`, and runs in the same kind of engine: it may
open the data files of the tables that it names and no other file, its settings are locked, and it
cannot install anything. Beyond that a segment's SELECT sees no control record and no list of
tables, calls no function whose answer changes by itself, sees no row of the date or later, and has
limits of time, memory and rows.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cached_property
from typing import Any, TypeVar

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.segments.compile import AIPL, FEATURES, RFM, SCORES, TAGS
from usergrowth_dagster.segments.definition import Named
from usergrowth_dagster.segments.limits import limited
from usergrowth_dagster.segments.snapshots import MEMBERS
from usergrowth_dagster.sql_shell.catalog import Catalog, TableAt
from usergrowth_dagster.sql_shell.shell import Result, SqlShell
from usergrowth_dagster.sql_shell.statements import Reader, SqlError, Statement
from usergrowth_dagster.sql_shell.versions import Versions
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation, bind_query, files_fingerprint

T = TypeVar("T")

AS_OF = frozenset({FEATURES, "user_item_features", TAGS, RFM, AIPL, SCORES, MEMBERS, "population"})
"""Tables of execution dates: a row was known on the morning of its date."""

OF_DAYS = frozenset(
    {"user_day", "user_item_day", "item_category", "stg_behavior", "stg_item", "stg_user"}
    | {"stg_operation", "daily_activity", "decisions"}
)
"""Tables of days: a row was known when its day was over. No table that looks ahead is in either."""


class _CatalogAsOf(Catalog):
    """The tables that a segment may read, with the files of the days that were known."""

    def __init__(self, project: Project, day: date) -> None:
        self.day = day
        super().__init__(project, Versions())

    @property
    def names(self) -> list[str]:
        return [name for name in super().names if name in AS_OF | OF_DAYS]

    def table(self, name: str) -> TableAt:
        whole = super().table(name)
        last = self.day if name in AS_OF else self.day - timedelta(days=1)
        known = [
            (path, size)
            for path, size in zip(whole.files, whole.sizes, strict=True)
            if size.day <= last
        ]
        return replace(whole, files=[f for f, _ in known], sizes=[s for _, s in known])


class SelectShell(SqlShell):
    """Runs the SELECT of a segment.

    Args:
        project: the home.
        day: the execution date.
    """

    def __init__(self, project: Project, day: date) -> None:
        super().__init__(project, Versions())
        self.catalog = _CatalogAsOf(project, day)

    def statements(self, text: str) -> list[Statement]:
        """The statements of a text, checked.

        Raises:
            SqlError: one is more than a query of tables that a segment may read.
        """
        return Reader(self._parser, self.catalog.names, ()).statements(text)

    def statement(self, text: str) -> Statement:
        """The one query of a text.

        Raises:
            SqlError: it is none, or more than a segment may do.
        """
        statements = self.statements(text)
        if len(statements) != 1:
            raise SqlError(
                f"must be one SELECT, not {len(statements)} statements", code="sql.invalid"
            )
        (statement,) = statements
        if statement.explains or statement.lists_tables:
            raise statement.place.error("must be a SELECT of tables that hold people")
        tree = self._tree(statement.sql)
        if _draws(tree):
            raise statement.place.error("a sample is drawn anew each time; use the leaf `sample`")
        for name in _called(tree):
            if name in self._changing:
                raise statement.place.error(
                    f"the function {name} is not allowed; its answer changes from call to call, or "
                    "with the settings"
                )
        return statement

    def _tree(self, sql: str) -> Any:
        """DuckDB's tree of a statement."""
        row = self._parser.execute(f"select json_serialize_sql({literal(sql)})").fetchall()[0]
        return json.loads(row[0])

    @cached_property
    def _changing(self) -> frozenset[str]:
        """Functions whose answer does not follow from their arguments."""
        rows = self._parser.execute(
            "select distinct lower(function_name) from duckdb_functions() "
            "where stability is not null and stability <> 'CONSISTENT'"
        ).fetchall()
        return frozenset(name for (name,) in rows) | _MORE_CHANGING

    def run(self, statement: Statement, use: Callable[[Result], T]) -> T:
        """Run the query within the limit of time, and hand its rows on.

        Raises:
            SqlError: the query fails.
            UserError: it takes too long.
        """
        self._open: list[Engine] = []
        with limited(self.project.settings, self._open):
            return super().run(statement, use)

    @contextmanager
    def _engine(self, statement: Statement) -> Iterator[Engine]:
        with super()._engine(statement) as engine:
            self._open.append(engine)
            try:
                yield engine
            finally:
                self._open.remove(engine)


_WITHOUT_BRACKETS = frozenset(
    {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}
)
"""Functions that are called without brackets, as if they were columns."""

_MORE_CHANGING = frozenset(
    _WITHOUT_BRACKETS
    | {"today", "now", "get_current_timestamp", "get_current_time", "current_localtime"}
    | {"current_localtimestamp", "transaction_timestamp", "getvariable", "getenv", "age"}
)
"""Functions of the clock and of settings, whatever the catalog of a version says of them."""


def _draws(value: Any) -> bool:
    """Whether a tree has TABLESAMPLE or USING SAMPLE."""
    if isinstance(value, dict):
        return bool(value.get("sample")) or any(map(_draws, value.values()))
    return isinstance(value, list) and any(map(_draws, value))


def _called(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if value.get("class") == "FUNCTION" or value.get("type") == "FUNCTION":
            yield str(value.get("function_name", "")).casefold()
        if value.get("type") == "COLUMN_REF":  # current_date has no brackets
            names = value.get("column_names") or []
            if len(names) == 1 and str(names[0]).casefold() in _WITHOUT_BRACKETS:
                yield str(names[0]).casefold()
        for part in value.values():
            yield from _called(part)
    elif isinstance(value, list):
        for part in value:
            yield from _called(part)


@dataclass(frozen=True)
class Selected:
    """What a SELECT gave.

    Attributes:
        people: ``user_id``, each once.
        fingerprint: hash of the data files that it read.
        versions: version of each table that it read.
        notes: sentences about what is left out.
    """

    people: Relation
    fingerprint: str
    versions: Mapping[str, int]
    notes: tuple[str, ...]


def bind_selected(
    engine: Engine,
    project: Project,
    named: Named,
    day: date,
    *,
    sql: str | None = None,
    at: str = "select",
    giver: str = "the SELECT",
) -> Selected:
    """Run a segment's SELECT and keep its people in another engine.

    Args:
        engine: gets the people.
        project: the home.
        named: the segment.
        day: the execution date.
        sql: the statement; by default the segment's ``select``.
        at: key path of what the statement is made from, for the error.
        giver: what gives the rows, for the sentence about them.

    Raises:
        UserError: the statement is not allowed, fails, or is too large; names file and key.
    """
    shell = SelectShell(project, day)
    try:
        statement = shell.statement(sql or named.segment.select or "")
        rows = shell.run(statement, lambda result: _keep(engine, project, result))
    except UserError as error:
        raise UserError(f"{named.origin}: {at}: {error}", code=error.code) from None
    tables = [shell.catalog.table(name) for name in sorted(statement.tables)]
    given, missing, distinct = engine.rows(
        f"select count(*), count(*) filter (where user_id is null), "
        f"count(distinct user_id) from {rows}"
    )[0]
    people = bind_query(
        engine,
        "selected",
        f"select distinct user_id from {rows} where user_id is not null",
        keep=True,
    )
    engine.run(f"drop view {rows}")
    left = (
        []
        if given == distinct
        else [
            f"{giver} gave {given:,} rows: {distinct:,} people, {missing:,} "
            "without a user, the others twice"
        ]
    )
    return Selected(
        people,
        files_fingerprint(path for table in tables for path in table.files),
        {table.name: table.version for table in tables},
        tuple(left),
    )


def check_select(project: Project, named: Named, day: date) -> list[str]:
    """The tables that a segment's SELECT reads; the statement is bound and not run.

    Raises:
        UserError: the statement is not allowed, or does not give ``user_id``.
    """
    shell = SelectShell(project, day)
    try:
        statement = shell.statement(named.segment.select or "")
        shell.run(statement, _check_columns)
    except UserError as error:
        raise UserError(f"{named.origin}: select: {error}", code=error.code) from None
    return sorted(statement.tables)


def _check_columns(result: Result) -> None:
    kinds = {column.name: column.kind for column in result.columns}
    if kinds.get("user_id") != "VARCHAR":
        raise UserError(
            "the SELECT must give a column user_id of type VARCHAR; it gives "
            + ", ".join(f"{name} {kind}" for name, kind in list(kinds.items())[:10]),
            code="sql.invalid",
        )


def _keep(engine: Engine, project: Project, result: Result) -> Relation:
    """Copy the user ids of a result, up to the limit of rows."""
    _check_columns(result)
    limit = project.settings.segment_rows
    engine.connection.register("_selected", result.read())
    try:
        rows = bind_query(
            engine,
            "selected_rows",
            f"select user_id from _selected limit {limit + 1}",
            keep=True,
        )
    finally:
        engine.connection.unregister("_selected")
    if engine.value(f"select count(*) from {rows}") > limit:
        raise UserError(
            f"the SELECT gives more than {limit:,} rows, the setting segment_rows",
            code="segment.too_large",
        )
    return rows
