"""A Delta table: its newest version through deltalake.

DuckDB reads the data files of an ordinary table where they are. Tables with deletion vectors or
mapped columns hold other rows than their files; deltalake streams those.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from usergrowth_dagster.data.storage import StoredFile
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.sources.tables.snapshot import PATH_COLUMN, Snapshot, write_batches

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

_FILES_HOLD_THE_ROWS = {"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"}
"""Features of readers under which the data files hold the rows as the table has them."""


def open_delta(table: str, folder: Path, place: str, scratch: Path) -> Snapshot:
    """The newest version of a Delta table.

    Args:
        table: its folder or URI.
        folder: what a relative path starts from.
        place: file and key path, for the error.
        scratch: folder for copies.

    Raises:
        UserError: there is no such table, it is no Delta table, or it cannot be reached.
    """
    import pyarrow as pa

    uri = table if "://" in table else str((folder / Path(table).expanduser()).absolute())
    opened = _open(table, uri, place)
    schema = pa.schema(opened.schema())
    version = str(opened.version())
    if not _files_hold_the_rows(opened):
        whole = StoredFile(uri, uri, 0, f"version {version}")

        def copy(_: str, target: Path) -> None:
            _stream(opened, table, place, target)

        return Snapshot("delta", version, [whole], schema, copy=copy, scratch=scratch)
    files, partitions = _files(opened, uri)
    return Snapshot("delta", version, files, schema, partitions)


def is_delta(path: str, folder: Path) -> bool:
    """Whether there is a Delta table at a path or URI; a pattern or the name of a file is none."""
    if "://" not in path:
        return (folder / Path(path).expanduser() / "_delta_log").is_dir()
    if any(sign in path for sign in "*?[") or Path(path).suffix:
        return False
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        return bool(DeltaTable.is_deltatable(path))
    except (DeltaError, OSError, ValueError):
        return False  # a store that only fsspec reaches


def _open(table: str, uri: str, place: str) -> "DeltaTable":
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    if "://" not in uri:
        if not Path(uri).is_dir():
            raise UserError(f"{place}: there is no table {table!r}", code="source.gone")
        if not (Path(uri) / "_delta_log").is_dir():
            raise UserError(
                f"{place}: {table!r} is no Delta table: it has no folder _delta_log",
                code="source.invalid",
            )
    try:
        return DeltaTable(uri)
    except TableNotFoundError:
        raise UserError(
            f"{place}: there is no Delta table at {table!r}", code="source.gone"
        ) from None
    except (DeltaError, OSError, ValueError) as error:
        raise UserError(
            f"{place}: {table!r} cannot be opened: {reason(error)}", code="source.unreadable"
        ) from None


def reason(error: Exception) -> str:
    """What a library says of a table, in one sentence; what to do where credentials lack."""
    lines = [line.strip(" ↳\t") for line in _plain(str(error)).splitlines()]
    text = "; ".join(line.rstrip(".") for line in lines if line) or type(error).__name__
    if any(word in text.lower() for word in ("credential", "imds", "403", "forbidden", "denied")):
        return (
            f"{text[:200]}; set the credentials in the environment (AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY, AWS_REGION), or allow them to read it"
        )
    return text[:300]


def _plain(text: str) -> str:
    """A text without the colors of a terminal."""
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def _files_hold_the_rows(opened: "DeltaTable") -> bool:
    protocol = opened.protocol()
    if protocol.min_reader_version < 2:
        return True
    mapping = opened.metadata().configuration.get("delta.columnMapping.mode", "none")
    return mapping == "none" and set(protocol.reader_features or ()) <= _FILES_HOLD_THE_ROWS


def _files(opened: "DeltaTable", uri: str) -> tuple[list[StoredFile], "pa.Table | None"]:
    """The data files of a table, and the values of its partitions by file."""
    import pyarrow as pa

    actions = pa.table(opened.get_add_actions(flatten=True))
    paths = [_absolute(unquote(path), uri) for path in actions.column("path").to_pylist()]
    sizes = actions.column("size_bytes").to_pylist()
    files = [StoredFile(p, p, size, str(size)) for p, size in zip(paths, sizes, strict=True)]
    names = opened.metadata().partition_columns
    if not names or not paths:
        return files, None
    columns: dict[str, Any] = {PATH_COLUMN: pa.array(paths, pa.string())}
    columns |= {name: actions.column(f"partition.{name}") for name in names}
    return files, pa.table(columns)


def _absolute(path: str, uri: str) -> str:
    return path if "://" in path else f"{uri.rstrip('/')}/{path}"


def _stream(opened: "DeltaTable", table: str, place: str, target: Path) -> None:
    import pyarrow as pa
    from deltalake.exceptions import DeltaError

    try:
        reader = pa.RecordBatchReader.from_stream(opened.scan())
        write_batches(reader.schema, reader, target)
    except (DeltaError, OSError, ValueError, pa.ArrowException) as error:
        raise UserError(
            f"{place}: {table!r} cannot be read: {reason(error)}", code="source.unreadable"
        ) from None
