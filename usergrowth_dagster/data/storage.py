"""The one module that knows whether files are on a disk or in an object store."""

import contextlib
import hashlib
import posixpath
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from usergrowth_dagster.quoting import literal


@dataclass(frozen=True)
class StoredFile:
    """One file: its path below the storage root, full URI, size in bytes and content tag.

    ``tag`` changes whenever the file is written again: the store's ETag, else size and mtime.
    """

    path: str
    uri: str
    size: int
    tag: str

    @property
    def name(self) -> str:
        """The file's name without its folders."""
        return posixpath.basename(self.path)


@dataclass(frozen=True)
class Storage:
    """A tree of files under one root: a directory, or ``s3://bucket/prefix``.

    Args:
        root: directory or URI.
        options: keyword arguments of the fsspec file system (keys, endpoint …).
        memory: file that keeps what the content of files was found to be, so that it is read once.
    """

    root: str
    options: Mapping[str, Any] = field(default_factory=dict)
    memory: Path | None = None

    @property
    def is_local(self) -> bool:
        """Whether the root is a directory of this machine."""
        return "://" not in self.root

    @cached_property
    def _fs(self) -> Any:
        import fsspec

        scheme = "file" if self.is_local else self.root.split("://", 1)[0]
        return fsspec.filesystem(scheme, use_listings_cache=False, **self.options)

    @cached_property
    def _base(self) -> str:
        if self.is_local:
            return str(Path(self.root).absolute())
        return self.root.split("://", 1)[1].rstrip("/")

    def uri(self, path: str = "") -> str:
        """Full path (local) or URI (object store) of ``path`` below the root."""
        whole = posixpath.join(self._base, path) if path else self._base
        return whole if self.is_local else f"{self.root.split('://', 1)[0]}://{whole}"

    def _full(self, path: str) -> str:
        return posixpath.join(self._base, path) if path else self._base

    def _entry(self, info: Mapping[str, Any]) -> StoredFile:
        name = str(info["name"])
        path = posixpath.relpath(name, self._base)
        tag = info.get("ETag") or f"{info.get('size')}-{info.get('mtime')}"
        return StoredFile(path, self.uri(path), int(info.get("size") or 0), str(tag).strip('"'))

    def files(self, path: str = "", *, deep: bool = False) -> list[StoredFile]:
        """Files in a folder (``deep``: and below it), by path; hidden ones are left out."""
        full = self._full(path)
        if not self._fs.isdir(full):
            return []
        infos = (
            self._fs.find(full, detail=True).values() if deep else self._fs.ls(full, detail=True)
        )
        entries = (self._entry(info) for info in infos if info["type"] == "file")
        return sorted(
            (entry for entry in entries if not entry.name.startswith(".")),
            key=lambda entry: entry.path,
        )

    def folders(self, path: str = "") -> list[str]:
        """Names of the folders directly in a folder, sorted."""
        full = self._full(path)
        if not self._fs.isdir(full):
            return []
        return sorted(
            posixpath.basename(str(info["name"]).rstrip("/"))
            for info in self._fs.ls(full, detail=True)
            if info["type"] == "directory"
        )

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""
        return bool(self._fs.exists(self._full(path)))

    def read_bytes(self, path: str) -> bytes:
        """The whole content of a file."""
        return bytes(self._fs.cat_file(self._full(path)))

    @contextmanager
    def open(self, path: str, mode: str = "rb") -> Iterator[IO[Any]]:
        """A file opened for streaming."""
        with self._fs.open(self._full(path), mode) as handle:
            yield handle

    @contextmanager
    def create(self, path: str) -> Iterator[IO[Any]]:
        """A new file opened for streaming, its folders made; readers may see a part of it."""
        full = self._full(path)
        if self.is_local:
            Path(full).parent.mkdir(parents=True, exist_ok=True)
        with self._fs.open(full, "wb") as handle:
            yield handle

    def write_atomic(self, path: str, produce: Callable[[IO[bytes]], None]) -> None:
        """Write a file so that readers see the old content or the whole new one.

        On a disk: a temporary file beside it, fsync, rename. In an object store a put is atomic.
        Nothing is left behind when ``produce`` raises.
        """
        full = self._full(path)
        if not self.is_local:
            with self._fs.transaction, self._fs.open(full, "wb") as handle:
                produce(handle)
            return
        import os

        target = Path(full)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        try:
            # Its owner's alone: many of these files hold numbers.
            made = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(made, "wb") as handle:
                produce(handle)
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def write_bytes(self, path: str, content: bytes) -> None:
        """Write a small file atomically."""

        def produce(handle: IO[bytes]) -> None:
            handle.write(content)

        self.write_atomic(path, produce)

    def modified(self, path: str) -> datetime:
        """When a file was written (UTC)."""
        moment: datetime = self._fs.modified(self._full(path))
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    def remove(self, path: str) -> None:
        """Remove a file or a whole folder; nothing happens when it is not there."""
        full = self._full(path)
        if self._fs.exists(full):
            self._fs.rm(full, recursive=True)

    def fingerprint(self, files: list[StoredFile]) -> str:
        """One hash of paths and tags: changes when any file is added, removed or rewritten."""
        lines = "\n".join(f"{entry.path}\t{entry.tag}" for entry in files)
        return hashlib.sha256(lines.encode()).hexdigest()[:16]

    def sha256(self, path: str) -> str:
        """Hash of a file's content, read in blocks; empty for a file that cannot be read."""
        digest = hashlib.sha256()
        try:
            with self.open(path) as handle:
                while block := handle.read(1 << 20):
                    digest.update(block)
        except OSError:  # who lands the file says so
            return ""
        return digest.hexdigest()

    def known_contents(self) -> dict[str, str]:
        """By fingerprint of tags, the fingerprint of the content that was read earlier."""
        if self.memory is None or not self.memory.exists():
            return {}
        lines = (line.split() for line in self.memory.read_text(encoding="ascii").splitlines())
        return {line[0]: line[1] for line in lines if len(line) == 2}

    def remember_content(self, tags: str, content: str) -> None:
        """Keep what the content of files was found to be, where that can be kept."""
        if self.memory is None or tags in self.known_contents():
            return
        with contextlib.suppress(OSError), self.memory.open("a", encoding="ascii") as file:
            file.write(f"{tags} {content}\n")


def is_of_store(error: BaseException) -> bool:
    """Whether an error is one of the client of an object store, which are no OSErrors."""
    return type(error).__module__.partition(".")[0] in {"aiobotocore", "aiohttp", "botocore"}


def file_literal(path: str) -> str:
    """SQL of a file's path or URI that stands for this one file: DuckDB reads ``*`` as any name."""
    return literal(re.sub(r"[*?\[]", r"[\g<0>]", path))
