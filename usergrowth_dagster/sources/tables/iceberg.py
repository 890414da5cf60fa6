"""An Iceberg table: its newest snapshot through pyiceberg.

Each data file is streamed by the library, which applies deletes and the table's columns as they are
called now. A file's tag is that of its deletes, so that a file with new ones is read again.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.data.storage import StoredFile
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.sources.tables.delta import reason
from usergrowth_dagster.sources.tables.keys import DEFAULT_CATALOG, TableKeys
from usergrowth_dagster.sources.tables.snapshot import Snapshot, named, write_batches

if TYPE_CHECKING:
    from pyiceberg.table import FileScanTask, Table

_NO_ROWS = "no rows yet"
_USER_INFO = re.compile(r"//[^/@\s]*@")


def open_iceberg(keys: TableKeys, place: str, scratch: Path) -> Snapshot:
    """The newest snapshot of an Iceberg table.

    Args:
        keys: the table and its catalog.
        place: file and key path, for the error.
        scratch: folder for copies.

    Raises:
        UserError: there is no such catalog or table, or it cannot be reached.
    """
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    name = str(keys.iceberg)
    with _one_sentence(f"{place}: {name!r}"):
        table = _load(keys)
        snapshot = table.current_snapshot()
        tasks = {_uri(task): task for task in table.scan().plan_files()} if snapshot else {}
        schema = schema_to_pyarrow(table.schema(), include_field_ids=False)

    def copy(uri: str, target: Path) -> None:
        with _one_sentence(f"{place}: {name!r}"):
            _stream(table, tasks[uri], target)

    return Snapshot(
        "iceberg",
        str(snapshot.snapshot_id) if snapshot else _NO_ROWS,
        [_stored(uri, task) for uri, task in sorted(tasks.items())],
        schema,
        copy=copy,
        scratch=scratch,
    )


def _load(keys: TableKeys) -> "Table":
    from pyiceberg.catalog import load_catalog

    name, properties = named(keys.catalog, DEFAULT_CATALOG)
    # A catalog in a database makes its tables where they lack; reading one must not.
    properties.setdefault("init_catalog_tables", "false")
    return load_catalog(name, **properties).load_table(str(keys.iceberg))


def _uri(task: "FileScanTask") -> str:
    return str(task.file.file_path)


def _stored(uri: str, task: "FileScanTask") -> StoredFile:
    deletes = " ".join(sorted(one.file_path for one in task.delete_files))
    tag = hashlib.sha256(deletes.encode()).hexdigest()[:16] if deletes else "whole"
    return StoredFile(uri, uri, int(task.file.file_size_in_bytes), tag)


def _stream(table: "Table", task: "FileScanTask", target: Path) -> None:
    from pyiceberg.expressions import AlwaysTrue
    from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow

    scan = ArrowScan(table.metadata, table.io, table.schema(), AlwaysTrue())
    schema = schema_to_pyarrow(table.schema(), include_field_ids=False)
    batches = scan.to_record_batches([task])
    write_batches(schema, (batch.cast(schema) for batch in batches), target)


@contextmanager
def _one_sentence(place: str) -> Iterator[None]:
    """What a catalog's client raises, as one sentence without the user of a URL."""
    from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

    try:
        yield
    except (NoSuchTableError, NoSuchNamespaceError):
        raise UserError(f"{place}: the catalog has no such table", code="source.gone") from None
    except UserError:
        raise
    except Exception as error:  # clients of catalogs and stores have no exception in common
        text = _USER_INFO.sub("//…@", reason(error))
        raise UserError(
            f"{place} cannot be read: {_kind(error)}: {text}", code="source.unreadable"
        ) from None


def _kind(error: Any) -> str:
    return type(error).__name__.removesuffix("Error").removesuffix("Exception") or "Error"
