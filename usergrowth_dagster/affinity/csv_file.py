"""A CSV file as a table of texts with line numbers, where no line is lost without a reason."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.addresses.shown import hide_numbers
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.quoting import identifier
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    import pyarrow as pa

_BLOCK = 8 << 20
_NULLS = ("", "\\N")
_SHOWN = 40


@dataclass(frozen=True)
class Fault:
    """Rows of a file that are not taken, for one reason.

    Attributes:
        reason: the rule that they break.
        rows: how many.
        example: the first of them: its line, and the value where there is one.
    """

    reason: str
    rows: int
    example: str


@dataclass(frozen=True)
class FileReport:
    """What a file holds: ``rows`` are ``taken`` and those of the faults.

    Attributes:
        file: its name.
        rows: lines behind the header.
        taken: rows that count.
        faults: the others, by reason.
        notes: sentences about what is taken and yet odd.
    """

    file: str
    rows: int
    taken: int
    faults: tuple[Fault, ...]
    notes: tuple[str, ...] = ()


def bad_file(sentence: str) -> UserError:
    """A mistake in a file, as an error."""
    return UserError(sentence, code="affinity.bad_file")


def read_header(path: Path) -> tuple[list[str], str]:
    """The column names of a file and its delimiter, which is that which parts them into most.

    Raises:
        UserError: the file cannot be read, is empty or not UTF-8, or names a column twice.
    """
    try:
        with path.open("rb") as handle:
            first = handle.readline(1 << 20)
        line = first.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise bad_file(f"{path}: line 1 is not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise bad_file(f"{path}: cannot be read: {error.strerror}") from None
    if not line.strip():
        raise bad_file(f"{path}: line 1 is empty; a header with column names is expected")
    delimiter = max(",;\t|", key=line.count)
    names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter))]
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            raise bad_file(f"{path}: line 1: the column {name!r} appears twice; keep one")
        seen.add(name.casefold())
    return names, delimiter


def load_csv(
    engine: Engine, table: str, path: Path, wanted: Mapping[str, str]
) -> list[tuple[int, str]]:
    """Make a table of some columns of a file, as trimmed texts, with the column ``line``.

    Args:
        engine: where the table is made.
        table: its name.
        path: the file.
        wanted: the file's column by the table's column.

    Returns:
        Line and reason of each row that has more or fewer values than the header.

    Raises:
        UserError: a quote is not closed, or a broken line is not UTF-8.
    """
    names, delimiter = read_header(path)
    columns = ", ".join(f"{identifier(name)} varchar" for name in wanted)
    engine.run(f"create or replace table {identifier(table)} (line bigint, {columns})")
    broken: list[tuple[int, str]] = []
    for batch in _batches(path, names, delimiter, broken):
        arrays = [batch.column(names.index(source) + 1) for source in wanted.values()]
        engine.connection.register("_batch", _table([batch.column(0), *arrays], ["line", *wanted]))
        picked = ", ".join(_text(name) for name in wanted)
        engine.run(f"insert into {identifier(table)} select line, {picked} from _batch")
        engine.connection.unregister("_batch")
    return broken


def _text(name: str) -> str:
    column = f"trim({identifier(name)})"
    nulls = ", ".join(f"'{text}'" for text in _NULLS)
    return f"case when {column} not in ({nulls}) then {column} end"


def _table(arrays: Sequence[Any], names: Sequence[str]) -> "pa.Table":
    import pyarrow as pa

    return pa.table(arrays, names=list(names))


def _batches(
    path: Path, names: list[str], delimiter: str, broken: list[tuple[int, str]]
) -> "Iterator[pa.Table]":
    """The rows as texts, in blocks, with their line in the column ``\\0line``."""
    import pyarrow as pa
    import pyarrow.csv as arrow_csv

    skipped: list[int] = []
    columns = [f"{number}" for number in range(len(names))]

    def skip(row: Any) -> str:
        if "\n" in (row.text or "").rstrip("\r\n"):
            return "error"
        line = int(row.number)
        skipped.append(line)
        broken.append((line, f"{row.actual_columns} values where the header has {len(names)}"))
        return "skip"

    try:
        reader = arrow_csv.open_csv(
            path,
            arrow_csv.ReadOptions(
                use_threads=False, column_names=columns, skip_rows=1, block_size=_BLOCK
            ),
            arrow_csv.ParseOptions(
                delimiter=delimiter,
                newlines_in_values=True,
                ignore_empty_lines=False,
                invalid_row_handler=skip,
            ),
            arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.binary()),
                strings_can_be_null=False,
                quoted_strings_can_be_null=False,
            ),
        )
        line = 2
        for batch in reader:
            numbers, line = _lines(line, batch.num_rows, skipped)
            texts = [_decoded(column) for column in batch.columns]
            yield _table([numbers, *texts], ["\0line", *names])
    except pa.ArrowInvalid as error:
        if "Empty CSV" in str(error):
            return
        where = str(error).split("Row #")[-1].split(":")[0] if "Row #" in str(error) else ""
        place = f"line {where}" if where.isdecimal() else "a line"
        raise bad_file(
            f"{path}: {place} opens a quote that is not closed, or holds bytes that are not UTF-8"
        ) from None


def _lines(line: int, rows: int, skipped: list[int]) -> tuple[Any, int]:
    """The lines of the next rows when some were skipped, and the line behind them."""
    import numpy as np

    gaps = np.array(sorted(number for number in skipped if number >= line), dtype=np.int64)
    candidates = np.arange(line, line + rows + len(gaps))
    numbers = np.setdiff1d(candidates, gaps, assume_unique=True)[:rows]
    return numbers, (int(numbers[-1]) + 1 if rows else line)


def _decoded(column: Any) -> Any:
    """Bytes as texts; what is not UTF-8 keeps a mark in its place."""
    import pyarrow as pa

    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([value.decode("utf-8", "replace") for value in column.to_pylist()])


def faults_of(
    engine: Engine, table: str, broken: Sequence[tuple[int, str]], shown: Mapping[str, str]
) -> tuple[Fault, ...]:
    """The faults of a table whose column ``fault`` says why a row is not taken.

    Args:
        engine: where the table is.
        table: its name.
        broken: rows that never came into it.
        shown: by reason, the column whose value an example shows; other values stay unseen.
    """
    found = engine.rows(
        f"select fault, count(*), min(line) from {identifier(table)} where fault is not null "
        "group by fault order by 3"
    )
    faults = []
    for reason, rows, line in found:
        example = f"line {line:,}"
        if reason in shown:
            value = engine.value(
                f"select {identifier(shown[reason])} from {identifier(table)} where line = {line}"
            )
            example += f": {hide_numbers(str(value)[:_SHOWN])!r}"
        faults.append(Fault(reason, rows, example))
    by_reason: dict[str, list[int]] = {}
    for line, reason in broken:
        by_reason.setdefault(reason, []).append(line)
    faults += [
        Fault(reason, len(lines), f"line {min(lines):,}") for reason, lines in by_reason.items()
    ]
    return tuple(faults)
