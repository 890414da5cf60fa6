"""The manifest of a copy of a home: what is in it, and the hash that each file must have.

It is written last, so that a copy which was interrupted has none, and holds a hash of itself.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from usergrowth_dagster.control.copying import CopiedRows
from usergrowth_dagster.errors import UserError

FILE_NAME = "manifest.json"
FORMAT = 1
"""Form of the copy; a program reads its own and older ones."""

_BLOCK = 1 << 20


class Entry(NamedTuple):
    """A file of a copy: bytes, SHA-256 in hexadecimal, and time of change in nanoseconds."""

    size: int
    sha256: str
    changed: int


@dataclass(frozen=True)
class Manifest:
    """What a copy holds.

    Attributes:
        id: of the copy; the folder with its secrets has the same.
        version: of the product that made it.
        revision: the newest migration of the control database.
        copied: when it was begun (UTC).
        since: the same on the business clock.
        database: ``sqlite`` or ``postgresql``.
        sequences: last values of the sequences of a PostgreSQL database.
        schemas: what belongs to the rows of further schemas, by name: sequences and revision.
        tables: the newest version of each table.
        secrets: names of the secret files; their hashes are with them.
        left_out: sentences on what belongs to the home and is not in the copy.
        files: by path below the copy.
    """

    id: str
    version: str
    revision: str
    copied: datetime
    since: datetime
    database: str
    sequences: Mapping[str, int]
    schemas: Mapping[str, CopiedRows]
    tables: Mapping[str, int]
    secrets: tuple[str, ...]
    left_out: tuple[str, ...]
    files: Mapping[str, Entry]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files.values())

    def write(self, folder: Path) -> None:
        """Write it into the folder of the copy, whole."""
        document = {"format": FORMAT, **asdict(self), "files": {**self.files}}
        write_document(folder / FILE_NAME, document)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a copy.

    Raises:
        UserError: there is none, it is damaged, or a newer version of the product wrote it.
    """
    path = folder / FILE_NAME
    if not path.exists():
        raise UserError(
            f"{folder} is no whole copy of a home: it has no {FILE_NAME}, which is written last; "
            "take another copy",
            code="backup.damaged",
        )
    document = read_document(path)
    if document["format"] > FORMAT:
        raise UserError(
            f"{path} was written by version {document['version']} of the product in form "
            f"{document['format']}, and this one reads forms up to {FORMAT}: upgrade "
            "usergrowth-dagster",
            code="backup.newer",
        )
    del document["format"]
    times = {name: datetime.fromisoformat(document[name]).astimezone(UTC) for name in _TIMES}
    lists = {name: tuple(document[name]) for name in ("secrets", "left_out")}
    files = {_inside(path, name): Entry(*of) for name, of in document["files"].items()}
    schemas = {name: CopiedRows(**values) for name, values in document["schemas"].items()}
    return Manifest(**{**document, **times, **lists, "files": files, "schemas": schemas})


def _inside(path: Path, name: str) -> str:
    """The name of a file, unless it would lead out of the home that is restored."""
    if ".." in Path(name).parts or Path(name).is_absolute():
        raise UserError(
            f"{path} names the file {name!r}, which lies outside the copy; take another copy",
            code="backup.damaged",
        )
    return name


_TIMES = ("copied", "since")


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document together with the hash of its text, whole or not at all."""
    body = json.dumps(document, default=datetime.isoformat, sort_keys=True, ensure_ascii=False)
    digest = hashlib.sha256(body.encode()).hexdigest()
    draft = path.with_name(f".{path.name}")
    sealed = json.dumps({"sha256": digest, "body": body}, ensure_ascii=False, indent=1)
    draft.write_text(f"{sealed}\n", encoding="utf-8")
    draft.replace(path)


def read_document(path: Path) -> dict[str, Any]:
    """A document that :func:`write_document` wrote.

    Raises:
        UserError: its text does not have its hash.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        body = document["body"]
        if hashlib.sha256(body.encode()).hexdigest() != document["sha256"]:
            raise ValueError
        opened: dict[str, Any] = json.loads(body)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"{path} is damaged: its text does not have the hash that it names; take another copy",
            code="backup.damaged",
        ) from None
    return opened


def copy_file(source: Path, target: Path) -> Entry:
    """Copy a file, with its time of change, and say what was copied.

    The copy is readable by its owner alone.

    Raises:
        OSError: one of the two cannot be used.
    """
    digest, size = hashlib.sha256(), 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as original:
        changed = os.fstat(original.fileno()).st_mtime_ns
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as copy:
            while block := original.read(_BLOCK):
                digest.update(block)
                size += len(block)
                copy.write(block)
    os.utime(target, ns=(changed, changed))
    return Entry(size, digest.hexdigest(), changed)


def entry_of(path: Path) -> Entry:
    """What a file holds now."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    status = path.stat()
    return Entry(status.st_size, digest, status.st_mtime_ns)


def take_out(folder: Path, name: str, expected: Entry, target: Path) -> None:
    """Copy a file out of a copy, and check it on the way.

    Raises:
        UserError: it is missing, shorter or longer than it was, or altered.
    """
    source = folder / name
    try:
        copied = copy_file(source, target)
    except FileNotFoundError:
        raise UserError(
            f"{source} is missing from the copy; take another copy", code="backup.damaged"
        ) from None
    check_entry(source, copied, expected)
    os.utime(target, ns=(expected.changed, expected.changed))


def check_entry(path: Path, present: Entry, expected: Entry) -> None:
    """Compare a file of a copy with what the manifest says of it.

    Raises:
        UserError: it is not the file that was copied.
    """
    if present.size != expected.size:
        raise UserError(
            f"{path} has {present.size:,} bytes, and {expected.size:,} were copied; take another "
            "copy",
            code="backup.damaged",
        )
    if present.sha256 != expected.sha256:
        raise UserError(
            f"{path} is damaged: its SHA-256 is not that of the manifest; take another copy",
            code="backup.damaged",
        )
