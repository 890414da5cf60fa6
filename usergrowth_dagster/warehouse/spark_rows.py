"""Rows of models by Spark: the tables are read there, and only a model's rows come back."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from usergrowth_dagster.quoting import identifier
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.duckdb_rows import dates_sql, settings_sql
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.model_rows import OUTPUT, ModelInputs, TableDays
from usergrowth_dagster.warehouse.models import AS_OF_DATES, RUN_SETTINGS, ModelGraph
from usergrowth_dagster.warehouse.months import reading
from usergrowth_dagster.warehouse.spark_dialect import quoted, spark_type, to_spark
from usergrowth_dagster.warehouse.spark_session import open_spark, spark_errors
from usergrowth_dagster.warehouse.tables import Warehouse

if TYPE_CHECKING:
    import pyarrow as pa
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
            self._root() as root,
            open_spark(self.settings) as spark,
            spark_errors(f"model {model}"),
        ):
            self._bind(spark, root, model, inputs)
            frame = spark.sql(self._select(model, self.graph.models[model].sql))
            copy_rows(engine, OUTPUT, frame, self.graph.types(model))

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

    def _select(self, model: str, sql: str) -> str:
        refs = self.graph.models[model].refs
        return to_spark(sql, {ref: tuple(self.graph.types(ref)) for ref in refs})

    def _table(self, spark: "SparkSession", root: str, read: TableDays) -> "DataFrame":
        """Some days of a table at its version, with the declared columns.

        The files of these days at this version are those that the day's fingerprint names.
        """
        declared = self.graph.types(read.table)
        present = set[str]()
        if read.wanted:
            uri = f"{root}/tables/{read.table}"
            version = str(read.version)
            frame = spark.read.format("delta").option("versionAsOf", version).load(uri)
            listed = ", ".join(f"date '{day.isoformat()}'" for day in sorted(read.wanted))
            frame, present = frame.where(f"ds in ({listed})"), set(frame.columns)
        else:
            frame = spark.sql("select 1 as nothing where false")
        return frame.selectExpr(
            *(
                f"cast({quoted(name) if name in present else 'null'} as {spark_type(kind)}) "
                f"as {quoted(name)}"
                for name, kind in declared.items()
            )
        )

    @contextmanager
    def _root(self) -> Iterator[str]:
        """The storage root as the server has to read it.

        Sail finds no Delta table below a folder whose name has a space or a letter that a URL would
        escape. Our own server reads the tables through a link in a plain place.
        """
        storage = self.warehouse.storage
        if self.settings.spark_remote is not None or not storage.is_local:
            yield storage.uri()
            return
        with tempfile.TemporaryDirectory(prefix="usergrowth-") as folder:
            link = Path(folder) / "storage"
            link.symlink_to(storage.uri(), target_is_directory=True)
            yield str(link)


def copy_rows(engine: Engine, name: str, frame: "DataFrame", columns: Mapping[str, str]) -> None:
    """Make a table of a DuckDB engine from the rows of a frame, batch by batch.

    Args:
        engine: gets the table.
        name: its name.
        frame: has the columns, in any order.
        columns: DuckDB type of each column, in order.
    """
    body = ", ".join(f"{identifier(column)} {kind}" for column, kind in columns.items())
    listed = ", ".join(map(identifier, columns))
    engine.run(f"create temp table {identifier(name)} ({body})")
    for rows in _arrow_tables(frame):
        engine.connection.register("_from_spark", rows)
        engine.run(f"insert into {identifier(name)} select {listed} from _from_spark")
        engine.connection.unregister("_from_spark")


def _arrow_tables(frame: "DataFrame") -> "Iterator[pa.Table]":
    """The rows of a frame as they arrive; its public methods would collect them first."""
    import pyarrow as pa

    client, plan = frame.sparkSession.client, frame._plan
    for part in client.to_table_as_iterator(plan.to_proto(client), plan.observations):
        if isinstance(part, pa.Table):
            yield part
