"""DuckDB in memory: one short-lived connection a step, inputs bound as views over data files."""

import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.addresses.sql import add_number_function
from usergrowth_dagster.data.file_cache import FileCache, cache_of
from usergrowth_dagster.data.storage import file_literal
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.macros import macro_statements
from usergrowth_dagster.warehouse.maps import AS_MAP

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

ALLOCATOR_ENVIRONMENT = {"DUCKDB_JE_MALLOC_CONF": "dirty_decay_ms:0,muzzy_decay_ms:0"}
"""DuckDB's allocator gives back what is freed at once; it reads this when DuckDB is imported.

Otherwise it keeps pages for ten seconds and longer, by thread: a process then has its largest
statement in memory beside the present one, and ``memory_limit`` counts only the latter. May be
overridden.
"""

for _name, _value in ALLOCATOR_ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)


_KEPT_BYTES = 8 << 20
"""Bytes in memory that a thread collects before it writes kept rows on."""


class Engine:
    """A DuckDB connection with the product's limits; open it with :func:`open_engine`.

    Attributes:
        connection: to DuckDB.
        scratch: a folder for files that the engine's relations read; gone with the engine.
        cache: copies of data files that are in an object store; None where none are.
    """

    def __init__(
        self,
        connection: "DuckDBPyConnection",
        scratch: Path = Path(),
        cache: FileCache | None = None,
    ) -> None:
        self.connection = connection
        self.scratch = scratch
        self.cache = cache
        self._named: Counter[str] = Counter()

    def unique_name(self, kind: str) -> str:
        """A name that nothing in this engine has yet, such as ``population_2``."""
        self._named[kind] += 1
        return f"{kind}_{self._named[kind]}"

    def run(self, sql: str, parameters: Sequence[Any] | None = None) -> None:
        """Execute a statement for its effect."""
        self.connection.execute(sql, parameters).fetchall()

    def rows(self, sql: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """All rows of a small result."""
        return list(self.connection.execute(sql, parameters).fetchall())

    def value(self, sql: str, parameters: Sequence[Any] | None = None) -> Any:
        """The one value of a one-row result."""
        return self.rows(sql, parameters)[0][0]

    def arrow(self, sql: str) -> "pa.Table":
        """A result as an Arrow table."""
        return self.connection.sql(sql).to_arrow_table()

    def stream(self, sql: str, batch_rows: int = 8_192) -> "pa.RecordBatchReader":
        """A result as a stream of Arrow batches; read it before the next statement."""
        return self.connection.sql(sql).to_arrow_reader(batch_rows)

    def keep(self, name: str, sql: str) -> str:
        """Write the rows of a query into a file of the scratch folder.

        A table of the engine would be in memory, uncompressed, for as long as the engine is open.

        Args:
            name: what the rows are kept under, beside those that are there already.
            sql: a SELECT; of the same columns as those before.

        Returns:
            A SELECT of all rows of the name, in no order, with the types of the query. It has
            those too that are added later.
        """
        kinds = self.describe(sql)
        # Parquet has no integer of 128 bits and would round one
        wide = [column for column, kind in kinds.items() if "HUGEINT" in kind]
        texts = ", ".join(f"cast({identifier(c)} as varchar) as {identifier(c)}" for c in wide)
        rows = f"select * replace ({texts}) from ({sql})" if wide else sql
        path = literal(str(self.scratch / f"{self.unique_name(f'{name}.part')}.parquet"))
        self.run(f"copy ({rows}) to {path} (format parquet, row_group_size_bytes {_KEPT_BYTES})")
        columns = ", ".join(
            f"cast({identifier(c)} as {kind}) as {identifier(c)}" for c, kind in kinds.items()
        )
        every = literal(f"{escape(str(self.scratch))}/{name}.part_*.parquet")
        return f"select {columns} from read_parquet({every})"

    def bind_files(
        self,
        name: str,
        files: Sequence[str],
        columns: Mapping[str, str],
        instead: Mapping[str, str] | None = None,
    ) -> None:
        """Make the view ``name`` over Parquet files of a Delta table.

        Args:
            name: view name.
            files: file paths; none makes an empty relation.
            columns: DuckDB type of every column, in order; a column that older files lack is NULL.
            instead: by column, the expression of its type that stands for it.
        """
        sql = self.files_sql(files, columns, instead)
        self.run(f"create or replace view {identifier(name)} as {sql}")

    def files_sql(
        self,
        files: Sequence[str],
        columns: Mapping[str, str],
        instead: Mapping[str, str] | None = None,
    ) -> str:
        """The SELECT of :meth:`bind_files`, which has the same arguments."""
        instead = instead or {}
        if not files:
            body = ", ".join(
                f"cast(null as {kind}) as {identifier(c)}" for c, kind in columns.items()
            )
            return f"select {body} where false"
        if self.cache is not None:
            files = self.cache.local(files)
        listed = ", ".join(file_literal(path) for path in files)
        source = (
            f"read_parquet([{listed}], hive_partitioning=true, union_by_name=true, "
            "hive_types={'ds': DATE})"
        )
        present = {row[0] for row in self.rows(f"describe select * from {source}")}
        body = ", ".join(
            f"cast({instead.get(c, identifier(c))} as {kind}) as {identifier(c)}"
            if c in present
            else f"cast(null as {kind}) as {identifier(c)}"
            for c, kind in columns.items()
        )
        return f"select {body} from {source}"

    def bind_arrow(self, name: str, table: "pa.Table") -> None:
        """Make the table ``name`` from an Arrow table."""
        source = f"_{name}_arrow"
        self.connection.register(source, table)
        self.run(
            f"create or replace table {identifier(name)} as select * from {identifier(source)}"
        )
        self.connection.unregister(source)

    def describe(self, sql: str) -> dict[str, str]:
        """Column names and DuckDB types of a query."""
        return {row[0]: row[1] for row in self.rows(f"describe {sql}")}

    def reach(self, *uris: str) -> None:
        """Read files of object stores as well, through the clients that list them."""
        import fsspec

        for scheme in sorted({uri.split("://", 1)[0] for uri in uris if "://" in uri}):
            if not self.connection.filesystem_is_registered(scheme):
                # A kept listing would not have the files that were written since.
                system = fsspec.filesystem(scheme, use_listings_cache=False)
                self.connection.register_filesystem(system)


_SIZE = re.compile(r"\s*([0-9.]+)\s*([KMGT]i?B)\s*", re.IGNORECASE)


def part_of(limit: str, share: float) -> str:
    """A part of a memory size such as 4GB; a size in another form is left as it is."""
    match = _SIZE.fullmatch(limit)
    return f"{float(match[1]) * share:.3f}{match[2]}" if match else limit


def _is_short_of_memory(error: BaseException) -> bool:
    """Whether DuckDB ran out of its memory, by itself or under a reader of Arrow's."""
    return "Out of Memory Error: " in str(error)


@contextmanager
def open_engine(settings: Settings, memory_share: float = 1.0) -> Iterator[Engine]:
    """A fresh in-memory engine that spills to a temporary folder and is gone afterwards.

    Args:
        settings: ``memory_limit`` and ``threads``.
        memory_share: the engine's part of the limit, where others in the process need theirs.

    Raises:
        UserError: a statement wants more memory than the setting allows.
    """
    import duckdb

    with tempfile.TemporaryDirectory(prefix="usergrowth-") as spill:
        connection = duckdb.connect(
            config={
                "memory_limit": part_of(settings.memory_limit, memory_share),
                "threads": settings.threads,
                "temp_directory": spill,
                "preserve_insertion_order": False,
            }
        )
        try:
            add_number_function(
                connection, settings.default_country, fictional=settings.reads_fictional
            )
            engine = Engine(connection, Path(spill), cache_of(settings))
            engine.reach(settings.storage_root, settings.landing_root)
            engine.run("set enable_progress_bar = false")  # commands have progress of their own
            engine.run(AS_MAP)
            engine.run(macro_statements())
            yield engine
        except Exception as error:
            if _is_short_of_memory(error):
                limit = settings.memory_limit
                raise UserError(
                    f"a query takes more memory than {limit}, the setting memory_limit",
                    code="memory.exceeded",
                ) from None
            raise
        finally:
            for scheme in connection.list_filesystems():  # they hold each other
                connection.unregister_filesystem(scheme)
            connection.close()
