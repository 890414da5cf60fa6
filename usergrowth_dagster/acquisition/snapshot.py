"""A snapshot: what is known of each device on a day, in one file that is read in place.

The file holds, for each kind of id, the sorted keys (uint64), the scores (float32, NaN: none) and
the flags (uint8) of the devices. It is mapped into memory, so that processes share its pages and a
start costs no time. A header names the day and the places of the arrays; a digest shows
whether a file is whole or was copied in part. All numbers are little-endian.

A folder holds the newest few snapshots and the file ``current``, which names the one that answers.
Both are put in place by renaming, so a reader sees the old one or the new one.
"""

import hashlib
import json
import os
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, NamedTuple

from usergrowth_dagster.acquisition.devices import Device, Kind
from usergrowth_dagster.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CURRENT = "current"
SUFFIX = ".rta"
KEPT = 3
"""Snapshots that a folder keeps, so that an older one can be named again."""

ACTIVE = 1
"""Flag of a device whose user is active."""

_MAGIC = b"ugrta\x00\x01\n"
_ALIGNED = 64
_PREFIXES = 1 << 16
_UNFINISHED = ".new-"


@dataclass(frozen=True)
class Column:
    """Devices of one kind, n of them.

    Attributes:
        keys: uint64, strictly rising; shape (n,).
        scores: float32, NaN where there is none; shape (n,).
        flags: uint8; shape (n,).
    """

    keys: "NDArray[np.uint64]"
    scores: "NDArray[np.float32]"
    flags: "NDArray[np.uint8]"

    def arrays(self) -> "Mapping[str, NDArray[Any]]":
        """The arrays by name."""
        return {"keys": self.keys, "scores": self.scores, "flags": self.flags}


class Known(NamedTuple):
    """What a snapshot knows of a device; ``score`` is None where its user has none."""

    active: bool
    score: float | None


class _Table:
    """The mapped arrays of one kind."""

    def __init__(self, column: Column) -> None:
        import numpy as np

        # Python's own look-up in a buffer is several times faster than numpy's of a single value.
        self._keys = column.keys.data
        self._scores, self._flags = column.scores.data, column.flags.data
        prefixes = np.arange(_PREFIXES, dtype=np.uint64) << np.uint64(48)
        starts = np.searchsorted(column.keys, prefixes)
        self._starts = np.append(starts, len(column.keys)).astype(np.uint64).data

    def find(self, key: int) -> Known | None:
        prefix = key >> 48
        end = self._starts[prefix + 1]
        at = bisect_left(self._keys, key, self._starts[prefix], end)
        if at == end or self._keys[at] != key:
            return None
        score = self._scores[at]
        return Known(bool(self._flags[at] & ACTIVE), score if score == score else None)


class Snapshot:
    """An opened snapshot.

    Attributes:
        name: of its file.
        day: the execution date that it is as of.
        began: the first second of that day in UTC, since 1970.
        rows: devices by kind.
    """

    def __init__(self, path: Path) -> None:
        """Open and check a file.

        Raises:
            UserError: it is missing, damaged or of another version.
        """
        self.name = path.name
        try:
            self._read(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}: no whole snapshot: {type(error).__name__}: {error}",
                code="acquisition.snapshot_damaged",
            ) from None

    def _read(self, path: Path) -> None:
        import numpy as np

        mapped = np.memmap(path, dtype=np.uint8, mode="r")
        if mapped[:8].tobytes() != _MAGIC:
            raise ValueError("its first bytes are others")
        start = 16 + int(mapped[8:16].view(np.uint64)[0])
        header = json.loads(mapped[16:start].tobytes())
        if hashlib.blake2b(mapped[start:].data, digest_size=16).hexdigest() != header["digest"]:
            raise ValueError("its digest is another")
        self.day = date.fromisoformat(header["day"])
        self.began = datetime.combine(self.day, datetime.min.time(), UTC).timestamp()
        self.rows: dict[str, int] = {}
        self._tables: dict[str, _Table] = {}
        at = start
        for kind, rows in header["rows"].items():
            arrays: list[Any] = []
            for dtype in (np.uint64, np.float32, np.uint8):
                size = rows * np.dtype(dtype).itemsize
                arrays.append(mapped[at : at + size].view(dtype))
                at += _padded(size)
            self.rows[kind] = rows
            self._tables[kind] = _Table(Column(*arrays))

    def find(self, device: Device) -> Known | None:
        """What is known of a device; None: nothing."""
        table = self._tables.get(device.kind)
        return None if table is None else table.find(device.key)


def write_snapshot(folder: Path, day: date, columns: Mapping[Kind, Column]) -> Path:
    """Write the snapshot of a day and let it answer, unless a later day's does already.

    One process at a time writes to a folder.

    Args:
        folder: of the snapshots; made where it is missing.
        day: the execution date.
        columns: devices by kind.

    Returns:
        The file. The same content gives the same file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    blocks = [_block(array) for one in columns.values() for array in _checked(one)]
    digest = hashlib.blake2b(digest_size=16)
    for block in blocks:
        digest.update(block)
    header = {
        "day": day.isoformat(),
        "rows": {kind: len(one.keys) for kind, one in columns.items()},
        "digest": digest.hexdigest(),
    }
    text = json.dumps(header).encode()
    text += b" " * (_padded(16 + len(text)) - 16 - len(text))
    head = _MAGIC + len(text).to_bytes(8, "little") + text
    path = folder / f"{day:%Y%m%d}-{digest.hexdigest()[:12]}{SUFFIX}"
    _put(path, head, *blocks)
    before = current_name(folder)
    if before is None or before[:8] <= path.name[:8]:
        _put(folder / CURRENT, path.name.encode())
    _remove_old(folder)
    return path


def current_name(folder: Path) -> str | None:
    """Name of the snapshot that answers; None: there is none."""
    try:
        name = (folder / CURRENT).read_text().strip()
    except OSError:
        return None
    return name if name.endswith(SUFFIX) and Path(name).name == name else None


def _checked(column: Column) -> "list[NDArray[Any]]":
    """The arrays of a kind, in the order of the file."""
    import numpy as np

    sizes = {len(array) for array in column.arrays().values()}
    if len(sizes) > 1 or not bool(np.all(column.keys[1:] > column.keys[:-1])):
        raise ValueError("keys must rise strictly, and have a score and flags each")
    types = (np.uint64, np.float32, np.uint8)
    arrays = zip(column.arrays().values(), types, strict=True)
    return [np.ascontiguousarray(array, dtype=dtype) for array, dtype in arrays]


def _block(array: "NDArray[Any]") -> bytes:
    content = array.tobytes()
    return content + b"\0" * (_padded(len(content)) - len(content))


def _padded(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


def _put(path: Path, *parts: bytes) -> None:
    """Write a file whole, and only then under its name."""
    with NamedTemporaryFile(dir=path.parent, prefix=_UNFINISHED, delete=False) as handle:
        try:
            handle.writelines(parts)
            handle.flush()
            os.fsync(handle.fileno())
            Path(handle.name).chmod(0o640)
            Path(handle.name).replace(path)
        except BaseException:
            Path(handle.name).unlink(missing_ok=True)
            raise


def _remove_old(folder: Path) -> None:
    """Remove all but the newest snapshots, and what a killed process left half written.

    A process that has one mapped keeps its pages.
    """
    for path in folder.glob(f"{_UNFINISHED}*"):
        path.unlink(missing_ok=True)
    answering = current_name(folder)
    by_age = sorted(folder.glob(f"*{SUFFIX}"), key=lambda one: one.stat().st_mtime, reverse=True)
    for path in by_age[KEPT:]:
        if path.name != answering:
            path.unlink(missing_ok=True)
