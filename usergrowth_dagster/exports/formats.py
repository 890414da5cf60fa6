"""Rows as Parquet or CSV files, and their rows counted again from what was written.

CSV is UTF-8 with a header, commas and line feeds. Texts are always in double quotes, so that an
empty text differs from a missing value, which is nothing between two commas; numbers and days are
not quoted. Every text comes back byte for byte.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pyarrow as pa

Format = Literal["parquet", "csv"]

_FORMULA = r"^[=+\-@\t\r\n＝＋－＠]"
"""How a text begins that a spreadsheet takes for a formula (OWASP, CSV injection)."""


class HashingFile:
    """Passes bytes on to a file, and keeps their number and their SHA-256."""

    closed = False

    def __init__(self, target: IO[bytes]) -> None:
        self._target = target
        self._digest = hashlib.sha256()
        self.bytes = 0

    def write(self, block: Any) -> int:
        """Write all of a block."""
        content = bytes(block)
        self._target.write(content)
        self._digest.update(content)
        self.bytes += len(content)
        return len(content)

    def tell(self) -> int:
        """Bytes written so far."""
        return self.bytes

    def flush(self) -> None:
        """Leave buffering to the file."""

    def close(self) -> None:
        """Leave closing to whoever opened the file."""

    @property
    def sha256(self) -> str:
        """Hash of what was written so far."""
        return self._digest.hexdigest()


@dataclass(frozen=True)
class Form:
    """How rows are written.

    Attributes:
        format: parquet or csv.
        for_spreadsheets: an apostrophe before texts that a spreadsheet takes for a formula.
    """

    format: Format
    for_spreadsheets: bool = False

    def write(
        self, target: HashingFile, schema: "pa.Schema", batches: "Iterator[pa.RecordBatch]"
    ) -> int:
        """Write one file; returns its rows."""
        if self.format == "parquet":
            return _write_parquet(target, schema, batches)
        guarded = map(_guarded, batches) if self.for_spreadsheets else batches
        return _write_csv(target, schema, guarded)

    def read(self, handle: IO[bytes], kinds: Mapping[str, str]) -> "Iterator[pa.RecordBatch]":
        """The rows of a written file; at least one batch, which may be empty.

        Args:
            handle: the file.
            kinds: DuckDB type by column.
        """
        if self.format == "parquet":
            yield from _parquet_batches(handle)
        else:
            yield from csv_batches(handle, kinds)

    def count(self, handle: IO[bytes]) -> int:
        """The rows of a written file, read from it."""
        return _count_parquet(handle) if self.format == "parquet" else _count_csv(handle)


def _write_parquet(
    target: HashingFile, schema: "pa.Schema", batches: "Iterator[pa.RecordBatch]"
) -> int:
    from pyarrow import parquet

    rows = 0
    with parquet.ParquetWriter(target, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _write_csv(
    target: HashingFile, schema: "pa.Schema", batches: "Iterator[pa.RecordBatch]"
) -> int:
    from pyarrow import csv

    rows = 0
    with csv.CSVWriter(target, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def looks_like_a_formula(text: str) -> bool:
    """Whether a text gets an apostrophe in a CSV file for spreadsheets."""
    return re.match(_FORMULA, text) is not None


def _guarded(batch: "pa.RecordBatch") -> "pa.RecordBatch":
    """A batch whose texts no spreadsheet takes for formulas."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = [
        pc.replace_substring_regex(column, _FORMULA, r"'\0")
        if pa.types.is_string(column.type)
        else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _count_parquet(handle: IO[bytes]) -> int:
    from pyarrow import parquet

    return int(parquet.ParquetFile(handle).metadata.num_rows)


def _count_csv(handle: IO[bytes]) -> int:
    return sum(batch.num_rows for batch in csv_batches(handle))


def _parquet_batches(handle: IO[bytes]) -> "Iterator[pa.RecordBatch]":
    from pyarrow import parquet

    file, rows = parquet.ParquetFile(handle), 0
    for batch in file.iter_batches():
        rows += batch.num_rows
        yield batch
    if not rows:
        yield _no_rows(file.schema_arrow)


def csv_batches(
    handle: IO[bytes], kinds: Mapping[str, str] | None = None
) -> "Iterator[pa.RecordBatch]":
    """The rows of a written CSV file, at least one batch; a missing value is null.

    Args:
        handle: the file.
        kinds: DuckDB type by column; default: every value is read as text.
    """
    import pyarrow as pa
    from pyarrow import csv

    types = {
        "VARCHAR": pa.string(),
        "BIGINT": pa.int64(),
        "INTEGER": pa.int32(),
        "DOUBLE": pa.float64(),
        "DATE": pa.date32(),
    }
    parsing = csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)
    header = csv.open_csv(handle, parse_options=parsing).schema.names
    handle.seek(0)
    reader = csv.open_csv(
        handle,
        parse_options=parsing,
        convert_options=csv.ConvertOptions(
            column_types={name: types[(kinds or {}).get(name, "VARCHAR")] for name in header},
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        ),
    )
    rows = 0
    for batch in reader:
        rows += batch.num_rows
        yield batch
    if not rows:
        yield _no_rows(reader.schema)


def _no_rows(schema: "pa.Schema") -> "pa.RecordBatch":
    import pyarrow as pa

    return pa.RecordBatch.from_pylist([], schema=schema)
