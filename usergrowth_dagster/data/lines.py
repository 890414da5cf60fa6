"""Landing files as streams of Arrow blocks: CSV lines with their numbers, Parquet cells.

Files are only ever opened through :class:`Storage`, so they may be on a disk or in an object store.
No more than a block of a file is in memory.
"""

import csv
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import IO, TYPE_CHECKING, Any

from usergrowth_dagster.data.contracts import LONGEST_LINE
from usergrowth_dagster.data.encodings import UTF8_BOM, advice, as_utf8
from usergrowth_dagster.data.storage import Storage, StoredFile
from usergrowth_dagster.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_BYTES = 8 << 20
"""Bytes of a file that are parsed at once."""

SUFFIXES = (".csv", ".csv.gz", ".csv.zst", ".parquet")
"""How the names of landing files end, in either case."""

_COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
_OTHER_FORMATS = {
    b"\x1f\x8b": "compressed; name it .csv.gz",
    b"\x28\xb5\x2f\xfd": "compressed; name it .csv.zst",
    b"PK\x03\x04": "a spreadsheet or an archive; save it as CSV",
}
_NO_ROW = r"\A[,\s\x1a]*\z"  # blank, commas only, or the end-of-file mark of DOS
_END_OF_FILE = b"\x1a"
_LAST_BREAK = ord("\r")
_SHOWN = 60  # characters of a wrong header that a message repeats


@dataclass(frozen=True)
class Block:
    """Consecutive rows of one file.

    ``columns`` is one array of lines (CSV) or one array a cell (Parquet), all ``string`` when
    ``text``, else ``binary`` because something in it is not UTF-8. ``first_line`` is the number of
    the first row: the physical line of a CSV (the header is 1), the row of a Parquet file (from 1).
    """

    first_line: int
    columns: "list[pa.Array]"
    text: bool


def is_parquet(file: StoredFile) -> bool:
    """Whether a landing file is Parquet, by its name."""
    return file.name.lower().endswith(".parquet")


def data_files(storage: Storage, folder: str) -> list[StoredFile]:
    """The landing files in and below a folder, by path; hidden and underscore names are skipped.

    Raises:
        UserError: a file is neither CSV (plain, gzip or Zstandard) nor Parquet.
    """
    files = []
    for file in storage.files(folder, deep=True):
        below = file.path[len(folder) :].strip("/").split("/")
        if any(part.startswith(("_", ".")) for part in below):
            continue
        if not file.name.lower().endswith(SUFFIXES):
            raise UserError(
                f"{file.path}: landing files end in .csv, .csv.gz, .csv.zst or .parquet; convert "
                "or remove this one",
                code="landing.bad_file",
            )
        files.append(file)
    return files


@contextmanager
def _opened(storage: Storage, file: StoredFile) -> Iterator[IO[Any]]:
    """A landing file as bytes; a compressed one is unpacked as it is read."""
    import pyarrow as pa

    codec = _COMPRESSED.get(file.name.lower()[file.name.rfind(".") :])
    try:
        with storage.open(file.path) as handle:
            if codec is None:
                yield handle
                return
            try:
                yield pa.CompressedInputStream(pa.PythonFile(handle, mode="r"), codec)
            except OSError as error:
                if error.errno is not None:
                    raise
                raise UserError(
                    f"{file.path}: the compressed file is cut short or damaged; write it again",
                    code="landing.bad_file",
                ) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UserError(
            f"{file.path}: cannot be read ({reason}); see that it stays and may be read",
            code="landing.bad_file",
        ) from None


def _chunks(handle: IO[bytes], size: int) -> Iterator[bytes]:
    while chunk := handle.read(size):
        yield chunk


def read_header(storage: Storage, file: StoredFile, encoding: str = "utf-8") -> list[str]:
    """Column names of a landing file; ``encoding`` is that of a CSV.

    Raises:
        UserError: the file is gone, empty, or not what its name says.
    """
    if is_parquet(file):
        with _opened(storage, file) as handle:
            return list(_open_parquet(handle, file).schema_arrow.names)
    with _opened(storage, file) as handle:
        start = handle.read(LONGEST_LINE + len(UTF8_BOM))
    for magic, what in _OTHER_FORMATS.items():
        if start.startswith(magic):
            raise UserError(f"{file.path}: the file is {what}", code="landing.bad_file")
    whole = b"".join(as_utf8([start], encoding))
    line, _, _ = whole.removeprefix(UTF8_BOM).partition(b"\n")
    line = line.removesuffix(b"\r")
    if not line:
        raise UserError(
            f"{file.path}: line 1 is empty; the first line must be the header",
            code="landing.bad_header",
        )
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise UserError(
            f"{file.path}: line 1 is not UTF-8 text: {advice(start)}", code="landing.bad_header"
        ) from None
    if len(line) >= LONGEST_LINE or "\0" in text:
        raise UserError(
            f"{file.path}: line 1 is not a header; the file is not CSV text",
            code="landing.bad_header",
        )
    try:
        return next(csv.reader([text]))
    except csv.Error:
        raise UserError(
            f"{file.path}: line 1 is not a header of comma-separated names",
            code="landing.bad_header",
        ) from None


def read_blocks(
    storage: Storage,
    file: StoredFile,
    names: list[str],
    encoding: str = "utf-8",
    digest: "hashlib._Hash | None" = None,
) -> Iterator[Block]:
    """Stream a landing file after its header.

    Args:
        storage: where the file is.
        file: the file.
        names: its columns.
        encoding: of a CSV.
        digest: takes in the lines of a CSV that are read, in UTF-8, each with a newline.

    Raises:
        UserError: a file is damaged, or a Parquet column is of a type that cannot be a cell.
    """
    with _opened(storage, file) as handle:
        if is_parquet(file):
            yield from _parquet_blocks(handle, file, names)
        else:
            yield from _line_blocks(as_utf8(_chunks(handle, BLOCK_BYTES), encoding), digest)


def read_lines(storage: Storage, file: StoredFile, encoding: str = "utf-8") -> Iterator[Block]:
    """Stream the lines of a text file without a header; numbers begin with 1.

    Raises:
        UserError: the file is gone, or is compressed or a spreadsheet.
    """
    with _opened(storage, file) as handle:
        chunks = as_utf8(_chunks(handle, BLOCK_BYTES), encoding)
        first = next(chunks, b"")
        for magic, what in _OTHER_FORMATS.items():
            if first.startswith(magic):
                raise UserError(f"{file.path}: the file is {what}", code="landing.bad_file")
        start = b"\n" + first.removeprefix(UTF8_BOM)  # an empty header, which is left out
        for block in _line_blocks(chain([start], chunks), None):
            yield Block(max(block.first_line - 1, 0), block.columns, block.text)


def are_rows(lines: "pa.Array") -> "pa.Array":
    """Which lines are rows: not those that are blank or hold commas only (BOOLEAN)."""
    import pyarrow.compute as pc

    return pc.invert(pc.match_substring_regex(lines, _NO_ROW))


def is_plain(cells: "list[pa.ChunkedArray]") -> bool:
    """Whether texts hold no NUL and no line break, and those of a row are far from too long.

    This looks at all bytes together: False says that one by one they have to be looked at.
    """
    import numpy as np
    import pyarrow.compute as pc

    longest = 0
    for column in cells:
        for chunk in column.chunks:
            data = chunk.buffers()[2]
            if (
                data is not None
                and data.size
                and np.frombuffer(data, np.uint8).min() <= _LAST_BREAK
            ):
                return False
        longest += pc.max(pc.binary_length(column)).as_py() or 0
    return longest < LONGEST_LINE // 2


def _line_blocks(chunks: Iterator[bytes], digest: "hashlib._Hash | None") -> Iterator[Block]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    line = 1
    for piece in _pieces(chunks):
        # The header is blanked, not cut off, so that numbers stay those of the file.
        whole = b"" if line > 1 else piece.partition(b"\n")[0]
        rest = piece[len(whole) :]
        if digest is not None and (read := rest.removeprefix(b"\n") if whole else rest):
            digest.update(read)
            digest.update(b"\n")  # wherever blocks end, and whether or not the file ends in one
        # not pa.array, which would import pandas: that takes longer than a small day
        ends = pa.py_buffer(np.array([0, len(rest)], np.int32))
        one = pa.Array.from_buffers(pa.binary(), 1, [None, ends, pa.py_buffer(rest)])
        lines = pc.split_pattern(one, b"\n").flatten()
        try:
            yield Block(line, [lines.cast(pa.string())], True)
        except pa.ArrowInvalid:
            yield Block(line, [lines], False)
        line += len(lines)


def _pieces(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Whole lines, about a block at a time, without the last newline; CRLF has become LF.

    The end-of-file mark of DOS behind the last line is no part of it.
    """
    carry = b""
    for chunk in chunks:
        end = chunk.rfind(b"\n")
        if end < 0:
            # What is too long for a line is a reject whatever follows: its start is enough.
            carry = (carry + chunk)[: LONGEST_LINE + 1]
            continue
        data = b"".join((carry, memoryview(chunk)[:end]))
        carry = chunk[end + 1 :][: LONGEST_LINE + 1]
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").removesuffix(b"\r")
        yield data
    if carry:
        yield carry.rstrip(_END_OF_FILE)


def _open_parquet(handle: IO[bytes], file: StoredFile) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(handle)
    except (pa.ArrowException, OSError):
        raise _damaged(file) from None


def _damaged(file: StoredFile) -> UserError:
    return UserError(
        f"{file.path}: the Parquet file is cut short or damaged; write it again",
        code="landing.bad_file",
    )


def _parquet_blocks(handle: IO[bytes], file: StoredFile, names: list[str]) -> Iterator[Block]:
    import pyarrow as pa

    source = _open_parquet(handle, file)
    line = 1
    batches = source.iter_batches(batch_size=65_536)
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError):
            raise _damaged(file) from None
        if batch is None:
            return
        cells = [_cell_text(array, file, name) for array, name in zip(batch, names, strict=True)]
        try:
            for cell in cells:
                cell.validate(full=True)
            yield Block(line, cells, True)
        except pa.ArrowInvalid:
            yield Block(line, [cell.cast(pa.binary()) for cell in cells], False)
        line += batch.num_rows


def _cell_text(array: "pa.Array", file: StoredFile, name: str) -> "pa.Array":
    """A Parquet column as the texts a CSV would have; floats that are whole become whole numbers.

    Many writers turn a column of integers with gaps into floats, and the gaps into NaN.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind):
        return array.cast(pa.string())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raw = array.cast(pa.binary())
        return pa.Array.from_buffers(pa.string(), len(raw), raw.buffers(), offset=raw.offset)
    if pa.types.is_null(kind):
        return pa.nulls(len(array), pa.string())
    if pa.types.is_floating(kind):
        numbers = array.cast(pa.float64())
        numbers = pc.if_else(pc.is_nan(numbers), None, numbers)
        whole = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(pc.abs(numbers), 2.0**53))
        integers = pc.if_else(whole, numbers, None).cast(pa.int64()).cast(pa.string())
        return pc.coalesce(integers, numbers.cast(pa.string()))
    raise UserError(
        f"{file.path}: column {name}: expected text or numbers, found {kind}",
        code="landing.bad_file",
    )


def shown(text: str, *, digits: bool = True) -> str:
    """A wrong name as a message may repeat it; without ``digits`` every digit is masked."""
    short = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return repr(short if digits else "".join("*" if c.isdigit() else c for c in short))
