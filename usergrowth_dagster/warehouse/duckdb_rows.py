"""Rows of models by DuckDB, in this process."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.quoting import identifier
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.maps import AS_ENTRIES, output_types
from usergrowth_dagster.warehouse.model_rows import OUTPUT, ModelInputs
from usergrowth_dagster.warehouse.models import AS_OF_DATES, RUN_SETTINGS, ModelGraph
from usergrowth_dagster.warehouse.months import Months


class DuckDBRows:
    """Makes rows in the engine that they are tested in.

    Args:
        storage: where the tables live; months of views are kept there.
        graph: the models.
    """

    def __init__(self, storage: Storage, graph: ModelGraph) -> None:
        self.storage = storage
        self.graph = graph

    def make(self, engine: Engine, model: str, inputs: ModelInputs) -> None:
        """As :meth:`ModelRows.make`."""
        engine.run(AS_ENTRIES)
        self._bind(engine, model, inputs)
        select = self.graph.models[model].sql.rstrip().rstrip(";")
        types = output_types(self.graph.types(model), engine.describe(select))
        body = ", ".join(
            f"cast({identifier(name)} as {kind}) as {identifier(name)}"
            for name, kind in types.items()
        )
        engine.run(f"create temp table {OUTPUT} as select {body} from ({select}) as model")

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
            engine.run(f"create temp table {view} as {self.graph.models[view].sql}")
        if dated:
            self._make_by_date(engine, model, dated, inputs.days)
        for view in after:
            engine.run(f"create temp table {view} as {self.graph.models[view].sql}")

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
                select = self.graph.models[view].sql.rstrip().rstrip(";")
                rows = f"select * from ({select}) as of_date where ds = date '{day.isoformat()}'"
                if view in passing or day == days[0]:
                    engine.run(f"create or replace temp table {view} as {rows}")
                else:
                    engine.run(f"insert into {view} {rows}")
        bind_dates(engine, days)


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
