"""The landing files of our own touches: written when their content changes, and a person erased."""

import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import IO

from usergrowth_dagster.data.contracts import NULL_TEXT
from usergrowth_dagster.data.landing import day_folder, folder_of
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.warehouse.engine import Engine

FILE_NAME = "usergrowth-touches.csv"
"""Name of our own file in each day's folder of ``operation``."""

_BLOCK = 1 << 20


def write_rows(engine: Engine, landing: Storage, day: date, rows: str | None) -> str:
    """Write a day's file, whole or not at all; one that holds the same bytes is left alone.

    Args:
        engine: where the rows are.
        landing: root of the landing files.
        day: whose file it is.
        rows: SELECT of the contract's columns in a total order; None: there are none.

    Returns:
        What was done: written, unchanged, removed, none.
    """
    folder = folder_of(landing, "operation", day)
    path = f"{folder}/{FILE_NAME}"
    if folder != (first := day_folder("operation", day)):  # the day's files came after our own
        landing.remove(f"{first}/{FILE_NAME}")
    there = landing.exists(path)
    if rows is None:
        if there:
            landing.remove(path)
        return "removed" if there else "none"
    with tempfile.TemporaryDirectory(prefix="usergrowth-") as work:
        local = Path(work) / FILE_NAME
        engine.run(
            f"copy ({rows}) to '{local}' "
            f"(format csv, header, delimiter ',', quote '\"', nullstr '{NULL_TEXT}')"
        )
        with local.open("rb") as made:
            if there and _same(landing, path, made):
                return "unchanged"

            _put(landing, path, made)
    return "written"


def _put(landing: Storage, path: str, content: IO[bytes]) -> None:
    def produce(handle: IO[bytes]) -> None:
        content.seek(0)
        while block := content.read(_BLOCK):
            handle.write(block)

    landing.write_atomic(path, produce)


def _same(landing: Storage, path: str, made: IO[bytes]) -> bool:
    """Whether a landing file holds the bytes of an open one."""
    with landing.open(path) as kept:
        while True:
            block = made.read(_BLOCK)
            if block != _read(kept, len(block) or 1):
                return False
            if not block:
                return True


def _read(handle: IO[bytes], size: int) -> bytes:
    """So many bytes, unless the file ends before: a store may give fewer at a time."""
    parts = []
    while size and (part := handle.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def erase_from_touches(landing: Storage, user_id: str, *, dry_run: bool = False) -> int:
    """Write our own files again without a user; returns how many rows the user had.

    Args:
        landing: root of the landing files.
        user_id: the user.
        dry_run: count only.
    """
    starts = _starts(user_id)
    found = 0
    for entry in landing.files("operation", deep=True):
        if entry.name == FILE_NAME:
            found += _erase_lines(landing, entry.path, starts, dry_run)
    return found


def _starts(user_id: str) -> tuple[bytes, ...]:
    """What a user's rows may begin with: the id in quotes, and bare where that can be read.

    Which ids are quoted is the writer's affair: besides separators, DuckDB quotes what holds ``#``
    and what reads as NULL, and another version may quote others.
    """
    escaped = user_id.replace('"', '""')
    quoted = f'"{escaped}",'.encode()
    return (quoted,) if any(c in user_id for c in ',"\r\n') else (quoted, f"{user_id},".encode())


def _rows(handle: IO[bytes]) -> Iterator[bytes]:
    """The rows of a CSV file, the header first; a cell in quotes may go over several lines."""
    row = b""
    for line in handle:
        row += line
        if row.count(b'"') % 2 == 0:
            yield row
            row = b""
    if row:
        yield row


def _erase_lines(landing: Storage, path: str, starts: tuple[bytes, ...], dry_run: bool) -> int:
    found = kept = 0
    with tempfile.TemporaryFile() as content:
        with landing.open(path) as handle:
            for row in _rows(handle):
                if kept and row.startswith(starts):  # the first is the header
                    found += 1
                    continue
                kept += 1
                content.write(row)
        if dry_run or not found:
            return found
        if kept == 1:  # the header alone
            landing.remove(path)
            return found
        _put(landing, path, content)
    return found
