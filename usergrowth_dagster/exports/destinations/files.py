"""Files in a folder or an object store: a folder of its own for each version, the manifest last.

    <files>/<export>/latest.json                     the manifest of the newest date, and its folder
    <files>/<export>/2024-05-04/<version>/part-00000.parquet
    <files>/<export>/2024-05-04/<version>/manifest.json

A version is never changed. A folder without a manifest is what a crash has left; the next run of
the same date removes it.
"""

import json
import posixpath
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from usergrowth_dagster.data.storage import Storage, is_of_store
from usergrowth_dagster.documents import document, plain
from usergrowth_dagster.errors import SetUpError, UserError
from usergrowth_dagster.exports.definition import Export
from usergrowth_dagster.exports.destinations.base import Delivered, Delivery
from usergrowth_dagster.exports.formats import Form, HashingFile
from usergrowth_dagster.exports.manifest import (
    NAME,
    Manifest,
    WrittenFile,
    manifest_of,
    read_manifest,
)
from usergrowth_dagster.exports.rows import BATCH_ROWS, ExportRows
from usergrowth_dagster.exports.runs import ExportRun, change_run

if TYPE_CHECKING:
    import pyarrow as pa

LATEST = "latest.json"


def version_folder(export: str, day: date, task_id: str, run: ExportRun) -> str:
    """The folder of a run's files, below the root: no two runs share one."""
    name = f"{run.started_time:%Y%m%dT%H%M%SZ}-{run.id}"
    return posixpath.join(export, day.isoformat(), *([f"task-{task_id}"] if task_id else []), name)


def storage_of(place: str, home: Path) -> Storage:
    """The storage of a folder or URL; a relative folder starts from the home."""
    return Storage(place if "://" in place else str(home / Path(place).expanduser()))


@contextmanager
def sentences(place: str, storage: Storage) -> Iterator[None]:
    """Turn what a file system reports into one sentence.

    Args:
        place: the export and its key.
        storage: where the files go.
    """
    try:
        yield
    except ImportError as error:
        scheme = storage.root.split("://", 1)[0]
        raise SetUpError(
            f"{place}: {scheme}:// needs a Python package that is missing ({error.name}); install "
            "it, or reach the store through s3:// with AWS_ENDPOINT_URL",
            code="machine.missing",
        ) from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{place}: {storage.root} cannot be used: {reason}", code="export.unreachable"
        ) from None
    except Exception as error:
        if not is_of_store(error):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{place}: {storage.root} cannot be reached: {reason}", code="export.unreachable"
        ) from None


class FilesDestination:
    """A folder or an object store; implements :class:`base.Destination`.

    Args:
        export: the export.
        home: what a relative folder starts from.
    """

    resumes = False

    def __init__(self, export: Export, home: Path) -> None:
        assert export.to.files is not None
        self._export = export
        self._storage = storage_of(export.to.files, home)
        self._place = f"export {export.name}: to.files"
        self.shown = self._storage.root

    def check(self, rows: ExportRows | None) -> None:
        """Write and remove a small file."""
        probe = posixpath.join(self._export.name, "usergrowth-check.tmp")
        with sentences(self._place, self._storage):
            self._storage.write_bytes(probe, b"")
            self._storage.remove(probe)

    def holds(self, run: ExportRun) -> bool:
        """Whether the manifest is there, and each file with its size."""
        with sentences(self._place, self._storage):
            manifest = stored_manifest(self._storage, run.place)
            if manifest is None or manifest.sha256 != run.manifest:
                return False
            sizes = {file.name: file.size for file in self._storage.files(run.place)}
            return all(sizes.get(file.name) == file.bytes for file in manifest.files)

    def deliver(self, delivery: Delivery) -> Delivered:
        """Write the files, count their rows again, then the manifest."""
        run, store = delivery.run, delivery.project.store
        folder = version_folder(run.export, delivery.day, run.task_id, run)
        with sentences(self._place, self._storage):
            if delivery.before is not None and delivery.before.place:
                remove_version(self._storage, delivery.before.place)
            begun = manifest_of(
                self._export, delivery.rows, delivery.day, run.input, run.started_time
            )
            change_run(store, run.id, place=folder, expires_time=begun.expires_at)
            manifest = write_version(self._storage, folder, self._export, delivery.rows, begun)
            self._point_to(manifest, folder)
        return Delivered(manifest.rows, manifest=manifest.sha256)

    def finished(self, run: ExportRun) -> Delivered | None:
        """What a run that was broken off after its manifest had brought."""
        with sentences(self._place, self._storage):
            manifest = stored_manifest(self._storage, run.place)
            if manifest is None or manifest.input != run.input:
                return None
            check_version(self._storage, run.place, manifest, run.rows)
            self._point_to(manifest, run.place)
            return Delivered(manifest.rows, manifest=manifest.sha256)

    def remove(self, run: ExportRun) -> bool:
        """Remove a version, and ``latest.json`` when it names that."""
        latest = posixpath.join(run.export, LATEST)
        with sentences(self._place, self._storage):
            known = latest_version(self._read(latest), run.export)
            if known is not None and known.folder == run.place:
                self._storage.remove(latest)
            was_there = self._storage.exists(run.place)
            remove_version(self._storage, run.place)
            return was_there

    def manifest(self, folder: str) -> Manifest | None:
        """The manifest of a version; None when there is none."""
        with sentences(self._place, self._storage):
            return stored_manifest(self._storage, folder)

    def folders_beside(self, folder: str) -> list[str]:
        """The folders of all versions of a version's date."""
        parent = posixpath.dirname(folder)
        with sentences(self._place, self._storage):
            return [posixpath.join(parent, name) for name in self._storage.folders(parent)]

    def batches(self, folder: str, manifest: Manifest, name: str) -> "Iterator[pa.RecordBatch]":
        """The rows of a written file, in the types that they were written with."""
        form = Form("csv" if manifest.format == "csv" else "parquet")
        kinds = {column.name: column.type for column in manifest.schema}
        with (
            sentences(self._place, self._storage),
            self._storage.open(posixpath.join(folder, name)) as handle,
        ):
            yield from form.read(handle, kinds)

    def copy_version(
        self,
        folder: str,
        target: str,
        manifest: Manifest,
        form: Form,
        kept: "Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]",
    ) -> Manifest:
        """Write a version again with some of its rows, its manifest last.

        Args:
            folder: the version.
            target: the new folder.
            manifest: of the version.
            form: of the files.
            kept: gives the rows that stay.

        Returns:
            The new manifest, whose ``erased`` counts the rows that did not stay.
        """
        with sentences(self._place, self._storage):
            remove_version(self._storage, target)  # what a crash has left of the same work
            files = []
            for file in manifest.files:
                batches = self.batches(folder, manifest, file.name)
                first = next(batches)
                rows = kept(chain([first], batches))
                path = posixpath.join(target, file.name)
                files.append(write_file(self._storage, path, form, first.schema, rows))
            left = sum(file.rows for file in files)
            copied = manifest.with_files(tuple(files), erased=manifest.rows - left)
            check_version(self._storage, target, copied, left)
            self._storage.write_bytes(posixpath.join(target, NAME), copied.content())
            return copied

    def replace_version(self, folder: str, target: str, manifest: Manifest) -> None:
        """Let a version stand in the place of another, which is removed."""
        latest = posixpath.join(self._export.name, LATEST)
        with sentences(self._place, self._storage):
            known = latest_version(self._read(latest), self._export.name)
            if known is not None and known.folder == folder:
                self._point_to(manifest, target)
            remove_version(self._storage, folder)

    def _point_to(self, manifest: Manifest, folder: str) -> None:
        """Make ``latest.json`` name this version, unless it names one of a later date."""
        path = posixpath.join(self._export.name, LATEST)
        content = latest_content(self._read(path), manifest, folder)
        if content is not None:
            self._storage.write_bytes(path, content)

    def _read(self, path: str) -> bytes | None:
        return self._storage.read_bytes(path) if self._storage.exists(path) else None


@dataclass(frozen=True)
class LatestVersion:
    """What ``latest.json`` names: the execution date, and the folder below the root."""

    execution_date: date
    folder: str


def latest_version(content: bytes | None, export: str) -> LatestVersion | None:
    """The version that ``latest.json`` names; None when the file is missing or names none.

    Others can reach the file, so its content may be anything.

    Args:
        content: of the file; None without one.
        export: name of the export.
    """
    try:
        known = json.loads(content or b"")
        day, folder = known["execution_date"], known["folder"]
        return LatestVersion(date.fromisoformat(day), posixpath.join(export, folder))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def latest_content(known: bytes | None, manifest: Manifest, folder: str) -> bytes | None:
    """What ``latest.json`` is to hold when a version stands; None: it names a later date's.

    Args:
        known: its present content; None without one.
        manifest: of the version.
        folder: of the version, below the root.
    """
    latest = latest_version(known, manifest.export)
    if latest is not None and latest.execution_date > manifest.execution_date:
        return None
    content = {**plain(manifest), "folder": posixpath.relpath(folder, manifest.export)}
    return f"{document(content)}\n".encode()


def stored_manifest(storage: Storage, folder: str) -> Manifest | None:
    """The manifest of a version; None when there is none."""
    path = posixpath.join(folder, NAME)
    if not folder or not storage.exists(path):
        return None
    try:
        return read_manifest(storage.read_bytes(path))
    except ValueError:
        return None


def write_version(
    storage: Storage, folder: str, export: Export, rows: ExportRows, begun: Manifest
) -> Manifest:
    """Write the files of a version and count their rows again; then its manifest.

    Args:
        storage: where the folder is.
        folder: the version's folder.
        export: the form of the files.
        rows: what goes into them.
        begun: the manifest without files.

    Raises:
        UserError: what was read back is not what was written.
    """
    form = Form(export.format, export.for_spreadsheets)
    files = tuple(_write_parts(storage, folder, form, export.file_rows, rows))
    manifest = begun.with_files(files)
    check_version(storage, folder, manifest, rows.rows)
    storage.write_bytes(posixpath.join(folder, NAME), manifest.content())
    return manifest


def _write_parts(
    storage: Storage, folder: str, form: Form, file_rows: int, rows: ExportRows
) -> Iterator[WrittenFile]:
    """Write the files one after the other; one without rows where there are none."""
    for number, after in enumerate(range(0, max(rows.rows, 1), file_rows)):
        reader = rows.stream(
            after=after, until=after + file_rows, batch_rows=min(BATCH_ROWS, file_rows)
        )
        name = f"part-{number:05}.{form.format}"
        yield write_file(storage, posixpath.join(folder, name), form, reader.schema, reader)


def write_file(
    storage: Storage,
    path: str,
    form: Form,
    schema: "pa.Schema",
    batches: "Iterator[pa.RecordBatch]",
) -> WrittenFile:
    """Write one file, whole or not at all."""
    written: dict[str, Any] = {}

    def produce(handle: IO[bytes]) -> None:
        target = HashingFile(handle)
        written["rows"] = form.write(target, schema, batches)
        written.update(bytes=target.bytes, sha256=target.sha256)

    storage.write_atomic(path, produce)
    return WrittenFile(posixpath.basename(path), **written)


def check_version(storage: Storage, folder: str, manifest: Manifest, rows: int) -> None:
    """Read the files of a version again.

    Raises:
        UserError: their rows or bytes are not those that went in.
    """
    form = Form("csv" if manifest.format == "csv" else "parquet")
    counted = 0
    for file in manifest.files:
        path = posixpath.join(folder, file.name)
        with storage.open(path) as handle:
            count = form.count(handle)
        if count != file.rows or storage.sha256(path) != file.sha256:
            raise UserError(
                f"export {manifest.export}: {storage.uri(path)} was written with {file.rows} rows "
                f"and has {count} now, or other bytes; no manifest was written",
                code="export.incomplete",
            )
        counted += count
    if counted != rows:
        raise UserError(
            f"export {manifest.export}: {rows} rows go out, and {counted} were written to "
            f"{storage.uri(folder)}; no manifest was written",
            code="export.incomplete",
        )


def remove_version(storage: Storage, folder: str) -> None:
    """Remove a version: its manifest first, so that nobody takes what is left for whole."""
    storage.remove(posixpath.join(folder, NAME))
    storage.remove(folder)
