"""The newest snapshot of a table: its data files, each read once, and their rows for DuckDB.

A data file is never changed in place, so what was counted of it stands; a new version costs the
files that are new in it. DuckDB reads the files where they are if what they hold is what the table
holds. Otherwise the table's library streams their rows into copies that live as long as the
snapshot is open.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from usergrowth_dagster.data.storage import StoredFile, file_literal
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.sources.files import FILE_COLUMN
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    import pyarrow as pa

_SCHEMA = "usergrowth_table_schema"
_PARTITIONS = "usergrowth_table_partitions"
PATH_COLUMN = "usergrowth_table_file"
"""Column of :attr:`Snapshot.partitions`: the path of the file that the values are of."""


@dataclass(frozen=True)
class Snapshot:
    """One version of a table.

    Attributes:
        kind: delta or iceberg.
        version: what the table's format calls it: a version number, or the id of a snapshot.
        files: its data files.
        schema: its columns.
        partitions: values of its partitions by file, where the files do not hold them.
        copy: writes the rows of a file, by its URI, into a Parquet file; None: the files are read
            where they are.
        scratch: folder of the copies.
        readable: by the path that DuckDB reads, the file that it stands for.
    """

    kind: str
    version: str
    files: Sequence[StoredFile]
    schema: "pa.Schema"
    partitions: "pa.Table | None" = None
    copy: Callable[[str, Path], None] | None = None
    scratch: Path = Path()
    readable: dict[str, str] = field(default_factory=dict)

    def relation(self, engine: Engine, uris: Iterable[str] | None = None) -> str:
        """The rows of all files, or of some, with the column :data:`FILE_COLUMN`.

        Raises:
            UserError: a file cannot be read.
        """
        wanted = [file.uri for file in self.files] if uris is None else sorted(uris)
        paths = [self._path_of(uri) for uri in wanted]
        engine.connection.register(_SCHEMA, self.schema.empty_table())
        empty = f"select *, cast(null as varchar) as {identifier(FILE_COLUMN)} from {_SCHEMA}"
        if not paths:
            return f"({empty})"
        return f"({empty} union all by name {self._rows(engine, paths)})"

    def _rows(self, engine: Engine, paths: Sequence[str]) -> str:
        listed = ", ".join(map(file_literal, paths))
        read = (
            f"read_parquet([{listed}], filename = {literal(FILE_COLUMN)}, union_by_name = true, "
            "hive_partitioning = false)"
        )
        if self.partitions is None:
            return f"select * from {read}"
        engine.connection.register(_PARTITIONS, self.partitions)
        names = [name for name in self.partitions.column_names if name != PATH_COLUMN]
        of_files = ", ".join(map(literal, names))
        values = ", ".join(f"partition.{identifier(name)}" for name in names)
        return (
            f"select of_file.*, {values} "
            f"from (select columns(lambda name: name not in ({of_files})) from {read}) as of_file "
            f"join {_PARTITIONS} as partition "
            f"on partition.{PATH_COLUMN} = of_file.{identifier(FILE_COLUMN)}"
        )

    def _path_of(self, uri: str) -> str:
        """What DuckDB reads for a file; a copy is made once."""
        if self.copy is None:
            self.readable[uri] = uri
            return uri
        for path, copied in self.readable.items():
            if copied == uri:
                return path
        target = self.scratch / f"{len(self.readable)}.parquet"
        self.copy(uri, target)
        self.readable[str(target)] = uri
        return str(target)


def write_batches(schema: "pa.Schema", batches: Iterable["pa.RecordBatch"], target: Path) -> None:
    """Write batches to a Parquet file, one in memory at a time."""
    import pyarrow.parquet as pq

    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)


def named(properties: Mapping[str, str] | str | None, default: str) -> tuple[str, dict[str, str]]:
    """The name of a catalog and its properties."""
    if isinstance(properties, Mapping):
        rest = dict(properties)
        return rest.pop("name", default), rest
    return properties or default, {}
