"""A consistent copy of a home in a folder, made while everything goes on working.

Each part is copied before those that it refers to: the control database, then the tables, then
MLflow and the landing files. A copy is therefore like a home whose processes died between two
writes: a table may be newer than the control database knows, and nothing is there that hangs in the
air. A table is copied up to the version that its log had; its data files are never changed.

Secrets go into a folder of their own, ``secrets`` in the copy unless another one is named.
"""

import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import inspect

from usergrowth_dagster import __version__
from usergrowth_dagster.control.copying import CopiedRows, copy_rows, copy_sqlite
from usergrowth_dagster.control.store import HEAD, ControlStore
from usergrowth_dagster.data import file_cache
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.homes.home import require_home
from usergrowth_dagster.homes.manifest import (
    Entry,
    Manifest,
    copy_file,
    entry_of,
    write_document,
)
from usergrowth_dagster.messaging import credentials
from usergrowth_dagster.messaging.people import phones
from usergrowth_dagster.messaging.people.rotation import NEXT, one_rotation
from usergrowth_dagster.messaging.schedules.occurrences import business_now
from usergrowth_dagster.project import STATES, Project
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.settings.databases import DAGSTER, MLFLOW
from usergrowth_dagster.settings.places import keep_private, local_path, sqlite_file
from usergrowth_dagster.warehouse.tables import Warehouse

HOME, STORAGE, LANDING, DATABASE, SECRETS = "home", "storage", "landing", "database", "secrets"
"""Folders of a copy. Storage and landing files that lie in the home are below its folder."""

CONTROL_FILE = f"{DATABASE}/control.db"
"""An SQLite control database that lies outside the home."""

SECRET_FILES = (phones.FILE_NAME, NEXT, credentials.FILE_NAME)
SECRETS_LIST = "secrets.json"
"""File beside the secrets with their hashes."""

_DERIVED = frozenset({"locks", "segment_leaves", file_cache.FOLDER})
"""Folders of a home that are made again, as is ``tables.db``."""

_DERIVED_TABLES = "months"
_BESIDE = ("-wal", "-shm", "-journal")
_SQLITE = b"SQLite format 3\0"
_TRIES = 3


@dataclass
class Copy:
    """A copy in the making: its folder, and what is in it so far."""

    folder: Path
    files: dict[str, Entry] = field(default_factory=dict)

    def file(self, source: Path, name: str) -> bool:
        """Copy a file; says whether it was still there."""
        target = self.folder / name
        try:
            if _is_sqlite(source):
                target.parent.mkdir(parents=True, exist_ok=True)
                copy_sqlite(source, target)
                self.files[name] = entry_of(target)
            else:
                self.files[name] = copy_file(source, target)
        except FileNotFoundError:
            if source.exists():
                raise
            self.files.pop(name, None)
            target.unlink(missing_ok=True)
            return False
        return True

    def tree(self, root: Path, name: str, skip: Callable[[Path], bool]) -> None:
        """Copy the files below a folder but those, and those folders, that are skipped."""
        for source in _walk(root, skip):
            self.file(source, f"{name}/{source.relative_to(root).as_posix()}")


def make_backup(
    settings: Settings, folder: Path, *, secrets_folder: Path | None = None
) -> Manifest:
    """Copy a home.

    Args:
        settings: of the home.
        folder: where the copy goes; made when it is missing, else empty.
        secrets_folder: where the secret files go; ``secrets`` in the copy by default.

    Returns:
        What the copy holds.

    Raises:
        UserError: there is no such home, a newer version has migrated it, the folder is not empty
            or lies in what is copied, a table changes all the time, or the key is being rotated.
    """
    require_home(settings)
    keep_private()
    folder = folder.absolute()
    places = _places(settings)
    apart = folder / SECRETS if secrets_folder is None else secrets_folder.absolute()
    for target in (folder, apart):
        _require_free(target, places.values())
    folder.mkdir(parents=True, exist_ok=True)
    copied, since = datetime.now(UTC), business_now(settings)
    copy, identity = Copy(folder), secrets.token_hex(16)
    with one_rotation(settings.home):
        names = _copy_secrets(settings.home, apart, identity)
        control = _copy_control(settings, copy)
    tables = _copy_storage(settings, copy)
    schemas = _copy_further(settings, copy)
    _copy_home(settings, copy, places)
    _flush(folder / name for name in copy.files)
    manifest = Manifest(
        id=identity,
        version=__version__,
        revision=control.revision,
        copied=copied,
        since=since,
        database="sqlite" if sqlite_file(settings.database) else "postgresql",
        sequences=control.sequences,
        schemas=schemas,
        tables=tables,
        secrets=names,
        left_out=tuple(_left_out(settings)),
        files=copy.files,
    )
    manifest.write(folder)
    return manifest


def _places(settings: Settings) -> dict[str, Path]:
    """Local folders that are copied, by their name in a copy: what lies in the home stays in it."""
    home = settings.home.resolve()
    places = {HOME: settings.home}
    for name, root in ((STORAGE, settings.storage_root), (LANDING, settings.landing_root)):
        path = local_path(root)
        if path is not None:
            inside = path.resolve().is_relative_to(home)
            below = path.resolve().relative_to(home).as_posix() if inside else ""
            places[f"{HOME}/{below}" if inside else name] = path
    return places


def _require_free(target: Path, sources: Collection[Path]) -> None:
    """Refuse a folder that holds something, or that would be copied into itself."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(
            f"{target} is not an empty folder; name a new one for each copy", code="file.exists"
        )
    for source in sources:
        if target.resolve().is_relative_to(source.resolve()):
            raise UserError(
                f"{target} lies in {source}, which is copied; name a folder elsewhere, best on "
                "another disk",
                code="command.invalid",
            )


def _flush(files: Iterable[Path]) -> None:
    """Wait until files are on the disk: what a manifest says must be there before it."""
    for path in files:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _copy_secrets(home: Path, folder: Path, identity: str) -> tuple[str, ...]:
    """Copy the secret files, with their hashes beside them; returns their names."""
    present = [name for name in SECRET_FILES if (home / name).exists()]
    if present:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        entries = {name: copy_file(home / name, folder / name) for name in present}
        write_document(folder / SECRETS_LIST, {"id": identity, "files": entries})
    return tuple(present)


def _copy_control(settings: Settings, copy: Copy) -> CopiedRows:
    """Copy the control database as it is at one moment.

    It is not migrated, so that a new version can copy the home of the one before.
    """
    store = ControlStore(settings.database, settings.zone)
    try:
        revision = store.revision()
        store.refuse_newer(revision)
        if revision is None:
            store.migrate()
        file = sqlite_file(settings.database)
        if file is None:
            return _copy_schema(store, copy, None)
        copy.file(file, _control_file(settings, file))
        return CopiedRows({}, revision or HEAD)
    finally:
        store.close()


def _control_file(settings: Settings, file: Path) -> str:
    """Path in a copy of a control database that is a file."""
    home, file = settings.home.resolve(), file.resolve()
    if file.is_relative_to(home):
        return f"{HOME}/{file.relative_to(home).as_posix()}"
    return CONTROL_FILE


def _copy_schema(store: ControlStore, copy: Copy, schema: str | None) -> CopiedRows:
    """Copy a schema of the PostgreSQL database as of one moment; None: the one of the records."""
    part = DATABASE if schema is None else f"{DATABASE}/{schema}"
    folder = copy.folder / part
    folder.mkdir()
    one_moment: Any = {"isolation_level": "REPEATABLE READ"}
    with store.engine.connect().execution_options(**one_moment) as connection, connection.begin():
        rows = copy_rows(connection, folder, schema)
    for path in sorted(folder.iterdir()):
        if path.is_file():
            copy.files[f"{part}/{path.name}"] = entry_of(path)
    return rows


def _copy_further(settings: Settings, copy: Copy) -> dict[str, CopiedRows]:
    """Copy the schemas of MLflow and Dagster where they are in the database, and made already."""
    if not settings.one_database:
        return {}
    store = ControlStore(settings.database)
    try:
        with store.read() as connection:
            present = inspect(connection).get_schema_names()
        wanted = [name for name in (MLFLOW, DAGSTER) if name in present]
        return {name: _copy_schema(store, copy, name) for name in wanted}
    finally:
        store.close()


def _copy_storage(settings: Settings, copy: Copy) -> dict[str, int]:
    """Copy the tables; returns the version of each. Those in an object store stay there."""
    warehouse = Project(settings).warehouse
    root = local_path(settings.storage_root)
    if root is None:
        versions = {name: warehouse.version(name) for name in warehouse.tables()}
        return {name: version for name, version in versions.items() if version is not None}
    label = next(name for name, path in _places(settings).items() if path == root)
    tables = {name: _copy_table(root, label, name, copy) for name in warehouse.tables()}

    def is_derived(path: Path) -> bool:
        return path.parent == root and path.name in (_DERIVED_TABLES, "tables")

    copy.tree(root, label, is_derived)
    return tables


def _copy_table(root: Path, label: str, table: str, copy: Copy) -> int:
    """Copy a table up to the newest version of its log; returns that version.

    Raises:
        UserError: files of that version vanish again and again: somebody is being forgotten.
    """
    folder, target = root / "tables" / table, f"{label}/tables/{table}"
    for _ in range(_TRIES):
        version = _copy_log(folder / "_delta_log", f"{target}/_delta_log", copy)
        copy.tree(folder, target, lambda path: path == folder / "_delta_log")
        kept = Warehouse(Storage(str(copy.folder / label))).state(table)
        if kept is not None and kept.version == version:
            paths = (f"{target}/{file.path}" for file in kept.files)
            if all(path in copy.files for path in paths):
                return version
        _drop(copy, target)
    raise UserError(
        f"table {table} loses files while it is copied; wait for usergrowth forget to end, and "
        "copy again",
        code="store.busy",
    )


def _copy_log(folder: Path, target: str, copy: Copy) -> int:
    """Copy the commits and checkpoints up to the newest commit; returns its version."""
    numbered = {path: path.name[:20] for path in folder.iterdir() if path.name[:20].isdigit()}
    version = max(number for path, number in numbered.items() if path.suffix == ".json")
    for path, number in sorted(numbered.items()):
        if number <= version:
            copy.file(path, f"{target}/{path.name}")
    last = "_last_checkpoint"
    checkpoints = [number for path, number in numbered.items() if "checkpoint" in path.name]
    if (folder / last).exists() and checkpoints and max(checkpoints) <= version:
        copy.file(folder / last, f"{target}/{last}")
    return int(version)


def _drop(copy: Copy, target: str) -> None:
    shutil.rmtree(copy.folder / target, ignore_errors=True)
    for name in [name for name in copy.files if name.startswith(f"{target}/")]:
        del copy.files[name]


def _copy_home(settings: Settings, copy: Copy, places: Mapping[str, Path]) -> None:
    """Copy MLflow, then landing files, then the rest of the home."""
    home, own = settings.home, _passed_over(settings)
    copy.tree(home / "mlflow", f"{HOME}/mlflow", _is_passing)
    beside = {name: path for name, path in places.items() if name != HOME}
    for name, path in beside.items():
        if path != local_path(settings.storage_root):
            copy.tree(path, name, _is_passing)
    copied = {path.resolve() for path in beside.values()} | {(home / "mlflow").resolve()}

    def skip(path: Path) -> bool:
        return own(path) or path.resolve() in copied

    copy.tree(home, HOME, skip)


def _passed_over(settings: Settings) -> Callable[[Path], bool]:
    """Whether a path of a home is passed over: secrets, what is derived, what has its own turn."""
    home, database = settings.home, sqlite_file(settings.database)

    def skip(path: Path) -> bool:
        if _is_passing(path) or path == database:
            return True
        if path.parent == home / "dagster":
            return path.name == "commands"  # locks of processes
        if path.parent != home:
            return False
        secret = path.name in SECRET_FILES or path.name.startswith(f".{phones.FILE_NAME}")
        return secret or path.name in _DERIVED or path.name.startswith(STATES)

    return skip


def _is_passing(path: Path) -> bool:
    """Whether a file is of no worth without a process: a lock, or SQLite's companion."""
    return path.name.endswith((".lock", *_BESIDE)) or not (path.is_dir() or path.is_file())


def _left_out(settings: Settings) -> Iterator[str]:
    """Sentences on what belongs to the home and is not in its copy."""
    for name, root in (("tables", settings.storage_root), ("landing files", settings.landing_root)):
        if local_path(root) is None:
            yield f"the {name} lie in {root} and are not copied; let the store keep their versions"
    models = local_path(settings.artifacts_root)
    if models is None or not models.resolve().is_relative_to(settings.home.resolve()):
        yield f"the models' files lie in {settings.artifacts_root} and are not copied; keep them"
    if phones.ring_from_environment() is not None:
        yield f"the secret key is in {phones.ENVIRONMENT} and is not copied; keep it apart"
    if settings.one_database and settings.mlflow_tracking_uri is None:
        return
    tracking = sqlite_file(settings.tracking_uri)
    if tracking is None or not tracking.resolve().is_relative_to(settings.home.resolve()):
        yield "MLflow (setting mlflow_tracking_uri) lies outside the home and is not copied"


def _walk(root: Path, skip: Callable[[Path], bool]) -> Iterator[Path]:
    """Files below a folder, links to folders too, in the order of their names."""
    seen: set[Path] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        here = Path(folder)
        if here.resolve() in seen:  # a link back
            folders.clear()
            continue
        seen.add(here.resolve())
        folders[:] = sorted(name for name in folders if not skip(here / name))
        yield from (here / name for name in sorted(files) if not skip(here / name))


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE
