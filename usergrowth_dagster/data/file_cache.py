"""Local copies of the data files of tables in an object store.

A data file has a name of its own and never changes, so a copy is right for ever. The engine reads
copies alone: a file crosses the network once a machine, all its columns in one request, and a run
that reads the same days again asks the store for no data at all.
"""

import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from usergrowth_dagster.data.object_store import is_remote
from usergrowth_dagster.data.storage import as_store_error
from usergrowth_dagster.settings import Settings

FOLDER = "cache"
"""Folder of a home with the copies."""

_AT_ONCE = 64
_FRESH_SECONDS = 3600  # a copy's time of use is noted no more often
KEEP_SECONDS = 86_400
"""For so long after its last use a copy stays, however many there are: a query may read it."""


def cache_of(settings: Settings) -> "FileCache | None":
    """The copies of a home; None where its tables are on this machine."""
    if not is_remote(settings.storage_root):
        return None
    return FileCache(settings.home / FOLDER, int(settings.cache_gb * 1e9))


@dataclass(frozen=True)
class FileCache:
    """Copies below a folder.

    Args:
        folder: where they lie, by scheme, bucket and key.
        most_bytes: above so many bytes, those go that have not been used for the longest time.
    """

    folder: Path
    most_bytes: int

    def local(self, files: Sequence[str]) -> list[str]:
        """Paths to read the files by: those of this machine as they are, copies of the others.

        Raises:
            OSError: a file is not there, or its store cannot be reached.
        """
        missing = self._missing(files)
        self._fetch_all(missing)
        if missing:
            self.trim()
        return [self._path(uri) for uri in files]

    @contextmanager
    def lent(self, files: Sequence[str], folder: Path) -> Iterator[list[str]]:
        """As :meth:`local`, for a single look: no copy is kept that was not there before.

        Args:
            files: their URIs or paths.
            folder: where the other copies are until the end; nothing else may lie there.

        Raises:
            OSError: as :meth:`local`.
        """
        missing = self._missing(files)
        aside = FileCache(folder, self.most_bytes)
        try:
            aside._fetch_all(missing)
            yield [(aside if uri in missing else self)._path(uri) for uri in files]
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def drop(self, uris: Sequence[str]) -> None:
        """Remove the copies of files, such as those that hold rows of a person to forget."""
        for uri in uris:
            if "://" in uri:
                self._copy(uri).unlink(missing_ok=True)

    def trim(self, now: float | None = None) -> int:
        """Remove what has not been used for the longest time; returns the bytes removed."""
        copies = sorted(self._copies())
        surplus = sum(size for _, size, _ in copies) - self.most_bytes
        last = (time.time() if now is None else now) - KEEP_SECONDS
        removed = 0
        for used, size, path in copies:
            if removed >= surplus or used > last:
                break
            path.unlink(missing_ok=True)
            removed += size
        return removed

    def _copies(self) -> Iterator[tuple[float, int, Path]]:
        """Time of the last use, bytes and path of every copy."""
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = Path(folder) / name
                try:
                    about = path.stat()
                except FileNotFoundError:  # another process removes it
                    continue
                yield about.st_mtime, about.st_size, path

    def _copy(self, uri: str) -> Path:
        scheme, _, place = uri.partition("://")
        return self.folder / scheme / place

    def _path(self, uri: str) -> str:
        return str(self._copy(uri)) if "://" in uri else uri

    def _missing(self, files: Sequence[str]) -> dict[str, None]:
        """The files that are not on this machine, each once and in order."""
        return {uri: None for uri in files if "://" in uri and not self._use(uri)}

    def _use(self, uri: str) -> bool:
        """Whether a copy is there; its time of use is noted."""
        path = self._copy(uri)
        try:
            if time.time() - path.stat().st_mtime > _FRESH_SECONDS:
                path.touch()
        except FileNotFoundError:
            return False
        return True

    def _fetch_all(self, uris: Iterable[str]) -> None:
        by_scheme: dict[str, list[str]] = {}
        for uri in uris:
            by_scheme.setdefault(uri.split("://", 1)[0], []).append(uri)
        for scheme, some in by_scheme.items():
            self._fetch(scheme, some)

    def _fetch(self, scheme: str, uris: Sequence[str]) -> None:
        import fsspec

        system = fsspec.filesystem(scheme, use_listings_cache=False)
        for start in range(0, len(uris), _AT_ONCE):
            part = uris[start : start + _AT_ONCE]
            new = [self._new_copy(uri) for uri in part]
            try:
                with as_store_error(f"{scheme}://"):
                    system.get(part, [str(path) for path in new])
                for uri, path in zip(part, new, strict=True):
                    path.replace(self._copy(uri))
            finally:
                for path in new:
                    path.unlink(missing_ok=True)

    def _new_copy(self, uri: str) -> Path:
        target = self._copy(uri)
        target.parent.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)  # the files hold numbers
        return target.with_name(f".{target.name}.{uuid.uuid4().hex}")
