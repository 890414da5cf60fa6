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
from typing import IO, Any, Literal

from usergrowth_dagster.quoting import literal

Condition = Literal["kept", "ignored", "refused"]

_COLOR = re.compile(r"\x1b\[[0-9;]*m")
PART_BYTES = 8 << 20
"""How much of a file that is being written waits in memory before it goes to an object store."""


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
        delta: storage options of delta-rs for tables below the root.
        memory: file that keeps what the content of files was found to be, so that it is read once.
        condition: what the store does with a write that must not replace a file: it is ``kept``, so
            that of several writers at once one wins; ``ignored``, so that all do; or ``refused``.
    """

    root: str
    options: Mapping[str, Any] = field(default_factory=dict)
    delta: Mapping[str, str] = field(default_factory=dict)
    memory: Path | None = None
    condition: Condition = "kept"

    @property
    def is_local(self) -> bool:
        """Whether the root is a directory of this machine."""
        return "://" not in self.root

    @cached_property
    def _fs(self) -> Any:
        import fsspec

        scheme = "file" if self.is_local else self.root.split("://", 1)[0]
        client = fsspec.filesystem(scheme, use_listings_cache=False, **self.options)
        return client if self.is_local else _Client(client, self.root)

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
        infos = self._fs.find(full, detail=True).values() if deep else self._listed(full)
        entries = (
            self._entry(info) for info in infos if info["type"] == "file" and info["name"] != full
        )
        return sorted(
            (entry for entry in entries if not entry.name.startswith(".")),
            key=lambda entry: entry.path,
        )

    def folders(self, path: str = "") -> list[str]:
        """Names of the folders directly in a folder, sorted."""
        return sorted(
            posixpath.basename(str(info["name"]).rstrip("/"))
            for info in self._listed(self._full(path))
            if info["type"] == "directory"
        )

    def _listed(self, full: str) -> list[dict[str, Any]]:
        """What is directly in a folder; nothing where there is none."""
        try:
            return list(self._fs.ls(full, detail=True))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""
        return bool(self._fs.exists(self._full(path)))

    def has_file(self, path: str) -> bool:
        """Whether a file is there; one request of an object store, where a folder costs two."""
        if self.is_local:
            return self.exists(path)
        try:
            self._fs.cat_file(self._full(path), start=0, end=1)
        except FileNotFoundError:
            return False
        return True

    def read_bytes(self, path: str) -> bytes:
        """The whole content of a small file."""
        # else the client of S3 asks for its size before it asks for the file
        options = {"max_concurrency": 1} if self.root.startswith("s3://") else {}
        return bytes(self._fs.cat_file(self._full(path), **options))

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
        size = {} if self.is_local else {"block_size": PART_BYTES}
        with self._fs.open(full, "wb", **size) as handle:
            yield handle

    def write_atomic(self, path: str, produce: Callable[[IO[bytes]], None]) -> None:
        """Write a file so that readers see the old content or the whole new one.

        On a disk: a temporary file beside it, fsync, rename. In an object store a put is atomic.
        Nothing is left behind when ``produce`` raises.
        """
        full = self._full(path)
        if not self.is_local:
            self._put(full, produce)
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

    def _put(self, full: str, produce: Callable[[IO[bytes]], None]) -> None:
        handle = self._fs.open(full, "wb", block_size=PART_BYTES)
        try:
            produce(handle)
        except BaseException:
            handle.discard()
            handle.closed = True  # else it would put what there is when it is collected
            raise
        with as_store_error(self.root):
            handle.close()

    def write_bytes(self, path: str, content: bytes) -> None:
        """Write a small file atomically."""

        def produce(handle: IO[bytes]) -> None:
            handle.write(content)

        self.write_atomic(path, produce)

    def write_new(self, path: str, content: bytes) -> bool:
        """Write a small file that is not there; False when it is, and nothing is written."""
        full = self._full(path)
        try:
            if self.is_local:
                Path(full).parent.mkdir(parents=True, exist_ok=True)
                with Path(full).open("xb") as handle:
                    handle.write(content)
            else:
                self._fs.pipe_file(full, content, mode="create")
        except OSError as error:
            if isinstance(error, FileExistsError) or _status(error) in _NOT_ABSENT:
                return False
            raise
        return True

    def modified(self, path: str) -> datetime:
        """When a file was written (UTC)."""
        moment: datetime = self._fs.modified(self._full(path))
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    def remove(self, path: str) -> None:
        """Remove a file or a whole folder; nothing happens when it is not there."""
        full = self._full(path)
        if not self.is_local:
            # One by one: to remove several at once some stores (OSS, Swift) want a hash of the
            # request, Content-MD5, which the clients send no more.
            for name in self._fs.find(full):
                self._fs.rm_file(name)
        elif self._fs.exists(full):
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


class StoreError(OSError):
    """An object store cannot be reached, or refuses; the text is one line."""


@contextmanager
def as_store_error(root: str) -> Iterator[None]:
    """Make errors of a store's client, which are of many libraries, OSErrors that name the root."""
    try:
        yield
    except Exception as error:
        if not is_of_store(error):
            raise
        raise StoreError(f"{root}: {one_line(error)}") from error


class _Client:
    """A client of fsspec whose errors are OSErrors, whatever library they come from."""

    def __init__(self, client: Any, root: str) -> None:
        self._client, self._root = client, root

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._client, name)
        if not callable(member):
            return member

        def call(*args: Any, **kwargs: Any) -> Any:
            with as_store_error(self._root):
                return member(*args, **kwargs)

        return call


_NOT_ABSENT = (409, 412)  # another writer is at it; the file is there


def _status(error: BaseException) -> int:
    """The HTTP status that the client of an object store got; 0 where there was none."""
    response = getattr(error.__cause__, "response", None) or {}
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def one_line(error: BaseException) -> str:
    """What an error says, without line breaks and colors; its kind when it says nothing."""
    text = " ".join(_COLOR.sub("", str(error)).split())
    return text or type(error).__name__


def is_of_store(error: BaseException) -> bool:
    """Whether an error is one of the client of an object store, which are no OSErrors."""
    return type(error).__module__.partition(".")[0] in {"aiobotocore", "aiohttp", "botocore"}


def file_literal(path: str) -> str:
    """SQL of a file's path or URI that stands for this one file: DuckDB reads ``*`` as any name."""
    return literal(re.sub(r"[*?\[]", r"[\g<0>]", path))
