"""Rows of models by DuckDB, in this process."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.quoting import identifier
from usergrowth_dagster.settings.machine import size_in_bytes
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.maps import AS_ENTRIES, output_types
from usergrowth_dagster.warehouse.model_rows import OUTPUT, ModelInputs
from usergrowth_dagster.warehouse.models import AS_OF_DATES, RUN_SETTINGS, USER, ModelGraph
from usergrowth_dagster.warehouse.months import Months

MOST_PARTS = 4_096
"""Largest number of parts of a view's users; a view that still fails has another cause."""

WIDE_ROW_BYTES = 12_000
"""Memory that a join of all features of a user wants, about, with its hash tables."""


class DuckDBRows:
    """Makes rows in the engine that they are tested in.

    Args:
        storage: where the tables live; months of views are kept there.
        graph: the models.
        memory_limit: as the setting of that name.
    """

    def __init__(self, storage: Storage, graph: ModelGraph, memory_limit: str) -> None:
        self.storage = storage
        self.graph = graph
        self.memory_limit = memory_limit

    def make(self, engine: Engine, model: str, inputs: ModelInputs) -> None:
        """As :meth:`ModelRows.make`."""
        engine.run(AS_ENTRIES)
        self._bind(engine, model, inputs)
        select = self._select(model)
        types = output_types(self.graph.types(model), engine.describe(select))
        body = ", ".join(
            f"cast({identifier(name)} as {kind}) as {identifier(name)}"
            for name, kind in types.items()
        )
        self._make_output(engine, model, f"select {body} from ({select}) as model")

    def _make_output(self, engine: Engine, model: str, select: str) -> None:
        """Make the rows of a model, those of some users after those of others where many are wide.

        DuckDB holds the rows of all joins of one statement at once, and cannot spill them all.
        """
        views = self.graph.views_of_users(model)
        parts = self._parts(engine, views)
        if parts == 1:
            engine.run(f"create temp table {OUTPUT} as {select}")
            return
        for view in views:
            engine.run(f"alter table {view} rename to _every_{view}")
        for part in range(parts):
            for view in views:
                engine.run(
                    f"create or replace temp view {view} as select * from _every_{view} "
                    f"where {_is_of(part, parts)}"
                )
            made = f"insert into {OUTPUT}" if part else f"create temp table {OUTPUT} as"
            engine.run(f"{made} {select}")

    def _parts(self, engine: Engine, views: Sequence[str]) -> int:
        """Into how many parts the users of some views go, by the engine's memory."""
        limit = size_in_bytes(self.memory_limit)
        if not views or limit is None:
            return 1
        rows = max(int(engine.value(f"select count(*) from {view}")) for view in views)
        return max(1, -(-rows * WIDE_ROW_BYTES // limit))

    def _bind(self, engine: Engine, model: str, inputs: ModelInputs) -> None:
        """Make everything that a model's SQL reads visible in an engine."""
        bind_dates(engine, inputs.days)
        bind_settings(engine, inputs.settings)
        for table, read in inputs.tables.items():
            engine.bind_files(table, read.files, self.graph.types(table))
        months = Months(self.storage, self.graph)
        for view, read in inputs.monthly.items():
            months.bind(engine, view, read.wanted, read.landed)
        before, dated, after = self.graph.views_by_date(model)
        for view in before:
            self._make_view(engine, view, self._select(view))
        if dated:
            self._make_by_date(engine, model, dated, inputs.days)
        for view in after:
            self._make_view(engine, view, self._select(view))

    def _make_by_date(
        self, engine: Engine, model: str, views: Sequence[str], days: Sequence[date]
    ) -> None:
        """Make views one date after the other, while a date's rows fit the processor's caches.

        The rows of passing views are those of the last date afterwards.
        """
        passing = self.graph.passing_views(model)
        for day in days:
            bind_dates(engine, [day])
            for view in views:
                select = self._select(view)
                rows = f"select * from ({select}) as of_date where ds = date '{day.isoformat()}'"
                afresh = view in passing or day == days[0]
                self._make_view(engine, view, rows, afresh=afresh)
        bind_dates(engine, days)

    def _make_view(self, engine: Engine, view: str, select: str, *, afresh: bool = True) -> None:
        """Keep the rows of a view, or add them.

        Where they do not fit the engine's memory, those of some users are made after those of
        others. Each part reads as much as all of them do, so that none is made without need.
        """
        import duckdb

        waiting = [(1, 0)]
        while waiting:
            parts, part = waiting[0]
            some = f"select * from ({select}) as every_user where {_is_of(part, parts)}"
            made = f"create or replace temp table {view} as" if afresh else f"insert into {view}"
            try:
                engine.run(f"{made} {select if parts == 1 else some}")
            except duckdb.OutOfMemoryException:
                if USER not in self.graph.models[view].grain or parts >= MOST_PARTS:
                    raise
                waiting = [
                    (2 * parts, half) for _, one in waiting for half in (2 * one, 2 * one + 1)
                ]
                continue
            waiting.pop(0)
            afresh = False

    def _select(self, view: str) -> str:
        return self.graph.models[view].sql.rstrip().rstrip(";")


def _is_of(part: int, parts: int) -> str:
    """The condition on a row that its user is of a part.

    DuckDB pushes a comparison of the hash down to the scan. It does not push a remainder down, and
    would group all users for each part.
    """
    size = 2**64 // parts
    last = 2**64 - 1 if part == parts - 1 else (part + 1) * size - 1
    return f"hash({USER}) between {part * size}::ubigint and {last}::ubigint"


def bind_dates(engine: Engine, days: Sequence[date]) -> None:
    """Make the relation ``as_of_dates(as_of)``."""
    engine.run(f"create or replace table {AS_OF_DATES} as {dates_sql(days)}")


def bind_settings(engine: Engine, values: Mapping[str, Any]) -> None:
    """Make the one-row relation ``run_settings``."""
    engine.run(f"create or replace table {RUN_SETTINGS} as {settings_sql(values)}")


def dates_sql(days: Sequence[date]) -> str:
    """The rows of ``as_of_dates``, in both dialects."""
    listed = ", ".join(f"(date '{day.isoformat()}')" for day in days)
    return f"select * from (values {listed}) as d(as_of)"


def settings_sql(values: Mapping[str, Any]) -> str:
    """The row of ``run_settings``, in both dialects."""
    return "select " + ", ".join(f"{value} as {name}" for name, value in values.items())
