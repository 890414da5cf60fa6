"""Rows of models by Spark: the tables are read there, and only a model's rows come back."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

from usergrowth_dagster.quoting import identifier
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.duckdb_rows import dates_sql, settings_sql
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.model_rows import OUTPUT, ModelInputs, TableDays
from usergrowth_dagster.warehouse.models import AS_OF_DATES, RUN_SETTINGS, ModelGraph
from usergrowth_dagster.warehouse.months import reading
from usergrowth_dagster.warehouse.spark_dialect import to_spark
from usergrowth_dagster.warehouse.spark_session import open_spark, spark_errors
from usergrowth_dagster.warehouse.spark_tables import arrow_tables, spark_root, table_frame
from usergrowth_dagster.warehouse.tables import Warehouse

if TYPE_CHECKING:
    from pyspark.sql.connect.dataframe import DataFrame
    from pyspark.sql.connect.session import SparkSession


class SparkRows:
    """Makes rows with a Spark Connect server, which must reach the tables by their URIs.

    Args:
        settings: ``spark_remote``.
        warehouse: where the tables are.
        graph: the models.
    """

    def __init__(self, settings: Settings, warehouse: Warehouse, graph: ModelGraph) -> None:
        self.settings = settings
        self.warehouse = warehouse
        self.graph = graph

    def make(self, engine: Engine, model: str, inputs: ModelInputs) -> None:
        """As :meth:`ModelRows.make`."""
        with (
            spark_root(self.settings, self.warehouse.storage) as root,
            open_spark(self.settings) as spark,
            spark_errors(f"model {model}"),
        ):
            make_table(engine, OUTPUT, self.graph.types(model))
            for days in self._statements(model, inputs.days):
                self._bind(spark, root, model, replace(inputs, days=days))
                frame = spark.sql(self._select(model, self.graph.models[model].sql))
                copy_rows(engine, OUTPUT, frame, self.graph.types(model))

    def _statements(self, model: str, days: Sequence[date]) -> Iterator[Sequence[date]]:
        """The output days of each statement: one, where rows are so wide that users are parted.

        Sail has all rows of a statement in memory, and ended at those of many dates.
        """
        if self.graph.models[model].by_user:
            yield from ([day] for day in days)
        else:
            yield days

    def _bind(self, spark: "SparkSession", root: str, model: str, inputs: ModelInputs) -> None:
        """Make everything that a model's SQL reads visible in a session.

        A range of dates is one statement: Spark divides the work itself, and keeps no months.
        """
        spark.sql(dates_sql(inputs.days)).createOrReplaceTempView(AS_OF_DATES)
        spark.sql(settings_sql(inputs.settings)).createOrReplaceTempView(RUN_SETTINGS)
        for table, read in inputs.tables.items():
            self._table(spark, root, read).createOrReplaceTempView(table)
        for view, read in inputs.monthly.items():
            source = f"_{view}_days"
            self._table(spark, root, read).createOrReplaceTempView(source)
            sql = reading(self.graph.models[view].sql, read.table, source)
            spark.sql(self._select(view, sql)).createOrReplaceTempView(view)
        for view in self.graph.views(model):
            if view not in inputs.monthly:
                sql = self.graph.models[view].sql
                spark.sql(self._select(view, sql)).createOrReplaceTempView(view)

    def _table(self, spark: "SparkSession", root: str, read: TableDays) -> "DataFrame":
        return table_frame(spark, root, read, self.graph.types(read.table))

    def _select(self, model: str, sql: str) -> str:
        refs = self.graph.models[model].refs
        return to_spark(sql, {ref: tuple(self.graph.types(ref)) for ref in refs})


def make_table(engine: Engine, name: str, columns: Mapping[str, str]) -> None:
    """Make an empty table of a DuckDB engine with columns of some types."""
    body = ", ".join(f"{identifier(column)} {kind}" for column, kind in columns.items())
    engine.run(f"create temp table {identifier(name)} ({body})")


def copy_rows(engine: Engine, name: str, frame: "DataFrame", columns: Mapping[str, str]) -> None:
    """Insert the rows of a frame into a table of a DuckDB engine, batch by batch.

    Args:
        engine: has the table.
        name: its name.
        frame: has the columns, in any order.
        columns: DuckDB type of each column, in order.
    """
    listed = ", ".join(map(identifier, columns))
    for rows in arrow_tables(frame):
        engine.connection.register("_from_spark", rows)
        engine.run(f"insert into {identifier(name)} select {listed} from _from_spark")
        engine.connection.unregister("_from_spark")
