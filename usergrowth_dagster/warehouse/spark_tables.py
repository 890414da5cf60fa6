"""Tables of a home as frames of Spark, read at one version, and rows of frames as Arrow batches."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.model_rows import TableDays
from usergrowth_dagster.warehouse.spark_dialect import quoted, spark_type

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql.connect.dataframe import DataFrame
    from pyspark.sql.connect.session import SparkSession


@contextmanager
def spark_root(settings: Settings, storage: Storage) -> Iterator[str]:
    """The storage root as the server has to read it.

    Sail finds no Delta table below a folder whose name has a space or a letter that a URL would
    escape. Our own server reads the tables through a link in a plain place.

    Args:
        settings: ``spark_remote``; without it, the server runs in this process.
        storage: the tables' root.
    """
    if settings.spark_remote is not None or not storage.is_local:
        yield storage.uri()
        return
    with tempfile.TemporaryDirectory(prefix="usergrowth-") as folder:
        link = Path(folder) / "storage"
        link.symlink_to(storage.uri(), target_is_directory=True)
        yield str(link)


def table_frame(
    spark: "SparkSession", root: str, read: TableDays, columns: Mapping[str, str]
) -> "DataFrame":
    """Some days of a table at its version.

    The files of these days at this version are those that the day's fingerprint names.

    Args:
        spark: the session.
        root: as :func:`spark_root` gives it.
        read: the table, its version, and the days.
        columns: DuckDB type of each column, in order; a column that the table lacks is NULL.
    """
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
            for name, kind in columns.items()
        )
    )


def arrow_tables(frame: "DataFrame") -> "Iterator[pa.Table]":
    """The rows of a frame as they arrive; its public methods would collect them first."""
    import pyarrow as pa

    client, plan = frame.sparkSession.client, frame._plan
    for part in client.to_table_as_iterator(plan.to_proto(client), plan.observations):
        if isinstance(part, pa.Table):
            yield part
