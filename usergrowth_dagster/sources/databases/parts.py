"""What was pulled of a table: Parquet part files in the home, and the list of those that count.

A part is never changed. The list is replaced in one rename, so a pull that is killed leaves the
parts of before or those of after. A file that is not on the list is what a killed pull left, or a
part that another has replaced; the next pull removes it.
"""

import json
import math
import os
import uuid
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from usergrowth_dagster.data.storage import Storage, StoredFile

LIST = "parts.json"
"""File of a source's folder that lists the parts."""

PART_ROWS = 500_000
"""Rows of a part, about; larger ones are not merged any more."""

TIER = 8
"""So many parts of about one size are merged into one."""


@dataclass(frozen=True)
class Part:
    """One part file.

    Attributes:
        file: its name in the source's folder.
        rows: how many it has.
    """

    file: str
    rows: int


class Parts:
    """The parts of one source.

    Args:
        folder: of the source, in the home.
        identity: hash of what the rows are read from; parts of another count for nothing.

    Attributes:
        parts: those that count.
        is_known: whether the list is that of this identity and all its files are there.
        reading: name of the reading, from the first row on, that the parts belong to.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder = folder
        self.identity = identity
        self.parts: tuple[Part, ...] = ()
        self.is_known = False
        self.reading = uuid.uuid4().hex
        with suppress(FileNotFoundError):
            listed = json.loads((folder / LIST).read_text("utf-8"))
            parts = tuple(Part(**one) for one in listed["parts"])
            whole = all((folder / part.file).exists() for part in parts)
            if listed["identity"] == identity and whole:
                self.parts, self.is_known, self.reading = parts, True, listed["reading"]

    @property
    def rows(self) -> int:
        """Rows of all parts."""
        return sum(part.rows for part in self.parts)

    def path(self, part: Part) -> Path:
        """Where a part is."""
        return self.folder / part.file

    def paths(self) -> list[str]:
        """Where all parts are."""
        return [str(self.path(part)) for part in self.parts]

    def files(self) -> list[StoredFile]:
        """The parts as files of a source; a part's name stands for its content."""
        return [
            StoredFile(str(path), str(path), path.stat().st_size, path.name)
            for path in map(self.path, self.parts)
        ]

    def new_file(self) -> Path:
        """A name that no file has."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f"{uuid.uuid4().hex}.parquet"

    def replace(self, parts: Sequence[Part]) -> None:
        """Let these parts count from now on, and no others; they are on the disk before."""
        for part in parts:
            if part not in self.parts:
                _flush(self.path(part))
        content = {
            "identity": self.identity,
            "reading": self.reading,
            "parts": [asdict(part) for part in parts],
        }
        Storage(str(self.folder)).write_bytes(LIST, json.dumps(content).encode())
        self.parts, self.is_known = tuple(parts), True

    def begin_anew(self) -> None:
        """Begin another reading: the next parts replace all that are there."""
        self.reading = uuid.uuid4().hex

    def sweep(self) -> None:
        """Remove the files that do not count."""
        if not self.folder.is_dir():
            return
        counted = {part.file for part in self.parts} | {LIST}
        for path in self.folder.iterdir():
            if path.name not in counted:
                path.unlink()

    def crowded(self) -> list[Part]:
        """Parts of about one size, if there are so many that they are to be one."""
        tiers: defaultdict[int, list[Part]] = defaultdict(list)
        for part in self.parts:
            if part.rows < PART_ROWS:
                tiers[int(math.log(part.rows or 1, TIER))].append(part)
        return next((tier for tier in tiers.values() if len(tier) >= TIER), [])


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
