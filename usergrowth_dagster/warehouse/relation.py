"""A relation of an engine as a value: what functions hand to one another instead of a view's name.

A :class:`Relation` knows its name, its columns and the data files that it is made from, so that
whoever receives it needs no agreement about names, and two relations of one kind can live in one
engine. Names are generated; SQL writes ``{relation}``.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from usergrowth_dagster.data.storage import file_literal
from usergrowth_dagster.quoting import identifier
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.tables import Warehouse

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Relation:
    """A table or view of one engine.

    Attributes:
        name: unique in the engine.
        columns: DuckDB type of each column, in order.
        files: data files that it reads, its own and those of the relations it is made from.
        fingerprint: hash of what it is made from; "" where nothing is known of it.
    """

    name: str
    columns: Mapping[str, str]
    files: tuple[str, ...] = ()
    fingerprint: str = ""

    def __str__(self) -> str:
        """The quoted name, ready for FROM."""
        return identifier(self.name)


def bind_files(
    engine: Engine, kind: str, files: Sequence[str], columns: Mapping[str, str]
) -> Relation:
    """A view of Parquet files of a Delta table.

    Args:
        engine: where the view is made.
        kind: what the relation holds; its name begins with it.
        files: file paths; none makes an empty relation.
        columns: DuckDB type of each column, in order; a column that older files lack is NULL.
    """
    name = engine.unique_name(kind)
    engine.bind_files(name, files, columns)
    return Relation(name, dict(columns), tuple(files), files_fingerprint(files))


def bind_query(
    engine: Engine, kind: str, sql: str, *, of: Iterable[Relation] = (), keep: bool = False
) -> Relation:
    """A query under a name.

    Args:
        engine: where it is bound.
        kind: what the relation holds; its name begins with it.
        sql: a SELECT.
        of: the relations that it reads; the result is made from their files.
        keep: whether its rows are computed once and kept in a file of the engine; else each reader
            runs the query.
    """
    name = engine.unique_name(kind)
    body = engine.keep(name, sql) if keep else sql
    engine.run(f"create or replace view {identifier(name)} as {body}")
    files = tuple(dict.fromkeys(path for relation in of for path in relation.files))
    columns = engine.describe(f"select * from {identifier(name)}")
    return Relation(name, columns, files, files_fingerprint(files))


def bind_arrow(engine: Engine, kind: str, table: "pa.Table", fingerprint: str = "") -> Relation:
    """The rows of an Arrow table; the fingerprint, if given, is the caller's."""
    name = engine.unique_name(kind)
    engine.bind_arrow(name, table)
    return Relation(name, engine.describe(f"select * from {identifier(name)}"), (), fingerprint)


def bind_batches(
    engine: Engine, kind: str, schema: "pa.Schema", batches: "Iterable[pa.RecordBatch]"
) -> Relation:
    """Rows that come in batches, put into a file of the engine: memory does not grow with them.

    The batches may be made from a stream of the same engine.
    """
    from pyarrow.parquet import ParquetWriter

    path = engine.scratch / f"{engine.unique_name('batches')}.parquet"
    with ParquetWriter(path, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bind_query(engine, kind, f"select * from {file_literal(str(path))}")


def bind_days(
    engine: Engine,
    warehouse: Warehouse,
    table: str,
    days: Collection[date],
    columns: Mapping[str, str],
    *,
    task_id: str | None = None,
) -> Relation:
    """A view of some days of a table of the warehouse.

    Args:
        engine: where the view is made.
        warehouse: holds the table.
        table: its name.
        days: the days; those without files are left out.
        columns: DuckDB type of each column, in order.
        task_id: only the files of this task, of a table that is partitioned by task.
    """
    landed = warehouse.files(table, first=min(days), last=max(days)) if days else {}
    files = [path for day, paths in landed.items() if day in days for path in paths]
    if task_id is not None:
        files = [path for path in files if f"/task_id={task_id}/" in path]
    return bind_files(engine, table, files, columns)


def files_fingerprint(files: Iterable[str]) -> str:
    """Hash of data files by their names, which are unique to their content; "" for none."""
    names = "\n".join(sorted(path.rsplit("/", 1)[-1] for path in files))
    return hashlib.sha256(names.encode()).hexdigest()[:16] if names else ""
