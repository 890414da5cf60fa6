"""Files as a source: which ones a pattern names, and how DuckDB reads them.

Every value of a CSV file stays the text that it is, so that no id loses a leading zero or becomes
1.38E+10.
"""

import codecs
import csv
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from usergrowth_dagster.data.storage import StoredFile, file_literal, is_of_store
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.sources.definition import Format, Source
from usergrowth_dagster.warehouse.engine import Engine

Result = TypeVar("Result")

FILE_COLUMN = "usergrowth_file"
"""Column of the rows read: the file that a row comes from."""

SPACES = "spaces"
"""Delimiter of values between any number of spaces and tabs."""

_KINDS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}
INEXACT = ("FLOAT", "DOUBLE")
"""DuckDB types of floating-point numbers, which lose digits of ids."""

_PACKED = (".gz", ".zst")
_OF_DUCKDB = {"utf-8", "utf-16", "iso8859-1", "ascii"}
_FILE = re.compile(r"^\s*file = (.+)$", re.MULTILINE)
_PLACE = re.compile(r"CSV Error on Line: (\d+)")


def matching_files(source: Source, folder: Path) -> list[StoredFile]:
    """The files that a source's patterns name, by path; each once.

    Args:
        source: the source.
        folder: what relative patterns start from.

    Raises:
        UserError: a pattern names no file, or its store cannot be reached.
    """
    files: dict[str, StoredFile] = {}
    for number, pattern in enumerate(source.patterns):
        place = f"source {source.name}: from.{number}"
        listed = _listed(pattern, folder, place)
        if not listed:
            raise UserError(f"{place}: no file matches {pattern!r}", code="source.gone")
        files |= {file.uri: file for file in listed}
    return [files[uri] for uri in sorted(files)]


def _listed(pattern: str, folder: Path, place: str) -> list[StoredFile]:
    import fsspec

    is_remote = "://" in pattern
    whole = pattern if is_remote else str((folder / Path(pattern).expanduser()).absolute())
    scheme = whole.split("://", 1)[0] if is_remote else "file"
    try:
        system, path = fsspec.core.url_to_fs(
            whole, **({"use_listings_cache": False} if is_remote else {})
        )
        entries = system.glob(path, detail=True)
    except Exception as error:
        if not isinstance(error, OSError | ValueError | ImportError) and not is_of_store(error):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{place}: {pattern!r} cannot be listed: {reason}", code="source.gone"
        ) from None
    return [
        _stored(info, f"{scheme}://{name}" if is_remote else str(name))
        for name, info in entries.items()
        if info["type"] == "file" and not Path(name).name.startswith((".", "_"))
    ]


def reach(engine: Engine, files: Sequence[StoredFile]) -> None:
    """Let an engine read files of other machines the way that they were listed."""
    engine.reach(*(file.uri for file in files))


def _stored(info: dict[str, Any], uri: str) -> StoredFile:
    written = info.get("mtime") or info.get("LastModified") or info.get("created")
    tag = info.get("ETag") or f"{info.get('size')}-{written}"
    return StoredFile(uri, uri, int(info.get("size") or 0), str(tag).strip('"'))


def format_of(source: Source, files: Sequence[StoredFile]) -> Format:
    """The format of a source's files: as it says, or by their ending.

    Raises:
        UserError: an ending is not known, or they differ.
    """
    if source.format is not None:
        return source.format
    formats = {_format_by_ending(file.name): file.name for file in files}
    unknown = formats.pop(None, None)
    if unknown is not None or len(formats) > 1:
        reason = f"{unknown} has no known ending" if unknown else "its files end differently"
        raise UserError(
            f"source {source.name}: {reason}; write format: csv, json or parquet",
            code="source.invalid",
        )
    (only,) = formats
    assert only is not None
    return only


def _format_by_ending(name: str) -> Format | None:
    bare = Path(name.lower())
    return _KINDS.get(Path(bare.stem).suffix if bare.suffix in _PACKED else bare.suffix)


@contextmanager
def readable_files(source: Source, files: Sequence[StoredFile]) -> Iterator[dict[str, str]]:
    """By the path that DuckDB reads, the file that it stands for.

    CSV files in an encoding that DuckDB does not know are copied as UTF-8 while this lasts.
    """
    name = codecs.lookup(source.read.encoding).name
    if format_of(source, files) != "csv" or name in _OF_DUCKDB:
        yield {file.uri: file.uri for file in files}
        return
    with TemporaryDirectory(prefix="usergrowth-source-") as folder:
        copies: dict[str, str] = {}
        for number, file in enumerate(files):
            copy = Path(folder) / f"{number}-{Path(file.name).name.removesuffix('.gz')}"
            _copy_as_utf8(source, file, copy)
            copies[str(copy)] = file.uri
        yield copies


def _copy_as_utf8(source: Source, file: StoredFile, copy: Path) -> None:
    import fsspec

    encoding = source.read.encoding
    try:
        with (
            fsspec.open(file.uri, "rt", encoding=encoding, newline="", compression="infer") as text,
            copy.open("w", encoding="utf-8", newline="") as target,
        ):
            while block := text.read(1 << 20):
                target.write(block)
    except UnicodeDecodeError as error:
        raise UserError(
            f"source {source.name}: {file.name}: not {encoding} at byte {error.start}; write its "
            "encoding under read",
            code="source.unreadable",
        ) from None


def relation_sql(engine: Engine, source: Source, files: Sequence[str], kind: Format) -> str:
    """The rows of files as something to select from, with the column :data:`FILE_COLUMN`.

    DuckDB does not guess the dialect of CSV files: it would skip lines that do not fit its guess.

    Raises:
        UserError: a CSV file has no header, or the same name twice.
    """
    if kind == "csv":
        by_names: dict[tuple[str, ...], list[str]] = {}
        for path in files:
            names = source.read.names or _header(engine, source, path)
            by_names.setdefault(names, []).append(path)
        parts = [_csv(source, names, paths) for names, paths in by_names.items()]
    else:
        options = ["union_by_name = true"]
        if kind == "json":
            options += ["format = 'auto'", *_json_columns(source)]
        parts = [_read(kind, files, options)]
    rows = f"({' union all by name '.join(f'select * from {part}' for part in parts)})"
    return as_expected(engine, source, rows)


def _json_columns(source: Source) -> list[str]:
    """Which columns of JSON files are read: those that are expected, or all that a file has."""
    kinds = dict.fromkeys(source.read.texts, "VARCHAR") | dict.fromkeys(source.read.nested, "JSON")
    if not kinds:
        return ["convert_strings_to_integers = false", "sample_size = -1"]
    columns = ", ".join(f"{literal(name)}: '{kind}'" for name, kind in kinds.items())
    # A record that is no JSON object becomes a row of NULLs, which unreadable_sql() counts.
    return [f"columns = {{{columns}}}", "ignore_errors = true"]


def unreadable_sql(source: Source, kind: str) -> str:
    """The condition that a record is no JSON object, or has none of the columns that are read."""
    expected = (*source.read.texts, *source.read.nested)
    if kind != "json" or not expected:
        return "false"
    return " and ".join(f"{identifier(name)} is null" for name in expected)


def as_expected(engine: Engine, source: Source, rows: str) -> str:
    """Rows with every column that is expected: as text or as JSON, NULL where there is none.

    Raises:
        UserError: a column that is to be text holds floating-point numbers.
    """
    if not (source.read.texts or source.read.nested):
        return rows
    present = run_reading(source, lambda: engine.describe(f"select * from {rows}"))
    by_folded = {name.casefold(): name for name in present}
    replaced, added = [], []
    for names, kind, read in (
        (source.read.texts, "varchar", _as_text),
        (source.read.nested, "json", _as_json),
    ):
        for expected in names:
            name = by_folded.get(expected.casefold())
            if name is None:
                added.append(f"cast(null as {kind}) as {identifier(expected)}")
            else:
                if read is _as_text:
                    _refuse_inexact(source, name, present[name])
                replaced.append(f"{read(identifier(name), present[name])} as {identifier(name)}")
    star = f"* replace ({', '.join(replaced)})" if replaced else "*"
    return f"(select {', '.join([star, *added])} from {rows})"


def _refuse_inexact(source: Source, name: str, kind: str) -> None:
    """Refuse a text made of floating-point numbers: it may be an id."""
    if kind in INEXACT:
        raise UserError(
            f"source {source.name}: read.texts: {name} is a {kind}, which writes 13800000000 as "
            "1.38e+10 and loses digits of longer ids; keep it as text or whole numbers where the "
            "file is made, or take it out of texts",
            code="source.invalid",
        )


def _as_text(column: str, kind: str) -> str:
    """A column as text."""
    if kind.startswith(("STRUCT", "MAP")) or kind.endswith("]"):
        return f"cast(to_json({column}) as varchar)"
    return f"cast({column} as varchar)"


def _as_json(column: str, kind: str) -> str:
    """A column as JSON, also where the JSON is written in a text; NULL where the text is none."""
    if kind == "VARCHAR":
        column = f"try_cast({column} as json)"
    elif kind != "JSON":
        column = f"to_json({column})"
    inner = f"try_cast({column} ->> '$' as json)"
    return f"case when json_type({column}) = 'VARCHAR' then {inner} else {column} end"


def _read(kind: Format, files: Sequence[str], options: Sequence[str]) -> str:
    listed = ", ".join(file_literal(path) for path in files)
    return f"read_{kind}([{listed}], {', '.join([f'filename = {literal(FILE_COLUMN)}', *options])})"


def _csv(source: Source, names: Sequence[str], files: Sequence[str]) -> str:
    has_header = not source.read.names if source.read.header is None else source.read.header
    if source.read.delimiter == SPACES:
        return _aligned(source, names, files, source.read.skip + has_header)
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    options = [
        *_dialect(source),
        f"columns = {{{columns}}}",
        f"delim = {literal(_delimiter(source, files[0]))}",
        f"quote = {literal(_quote(source))}",
        f"escape = {literal(_quote(source))}",
        f"header = {str(has_header).lower()}",
        f"skip = {source.read.skip}",
    ]
    return _read("csv", files, options)


def _aligned(source: Source, names: Sequence[str], files: Sequence[str], skip: int) -> str:
    """Lines whose values stand between spaces, as columns that are aligned have any number of."""
    lines = _read("csv", files, [*_whole_lines(source), f"skip = {skip}"])
    columns = ", ".join(
        f"cells[{place}] as {identifier(name)}" for place, name in enumerate(names, 1)
    )
    wrong = f"'Expected Number of Columns: {len(names)} Found: ' || len(cells)"
    cells = f"""select {FILE_COLUMN}, case when len(cells) = {len(names)} then cells
        else error({FILE_COLUMN} || ': ' || {wrong}) end as cells
        from (select {FILE_COLUMN}, string_split_regex(trim(line, e' \\t\\r'), '[ \\t]+') as cells
        from {lines} where trim(line, e' \\t\\r') <> '') as split"""
    return f"(select {columns}, {FILE_COLUMN} from ({cells}) as checked)"


def _whole_lines(source: Source) -> list[str]:
    """Options that read each line as one value, in the column ``line``."""
    options = [*_dialect(source), "columns = {'line': 'VARCHAR'}", "delim = '\x01'", "quote = ''"]
    return [*options, "escape = ''", "header = false"]


def _dialect(source: Source) -> list[str]:
    name = codecs.lookup(source.read.encoding).name
    encoding = {"iso8859-1": "latin-1", "utf-16": "utf-16"}.get(name, "utf-8")
    return ["auto_detect = false", f"encoding = {literal(encoding)}"]


def _delimiter(source: Source, path: str) -> str:
    by_ending = "\t" if ".tsv" in Path(path.lower()).suffixes else ","
    return source.read.delimiter or by_ending


def _quote(source: Source) -> str:
    return '"' if source.read.quote is None else source.read.quote


def _header(engine: Engine, source: Source, path: str) -> tuple[str, ...]:
    """The names in the first line of a CSV file; a column without one is called by its place."""
    options = [*_whole_lines(source), f"skip = {source.read.skip}"]
    line = run_reading(
        source, lambda: engine.rows(f"select line from {_read('csv', [path], options)} limit 1")
    )
    if not line or not line[0][0]:
        raise UserError(
            f"source {source.name}: {Path(path).name} has no header; write its columns under "
            "read.names",
            code="source.unreadable",
        )
    delimiter, quote = _delimiter(source, path), _quote(source)
    try:
        cells = _cells(line[0][0], delimiter, quote)
    except csv.Error as error:
        raise UserError(
            f"source {source.name}: {Path(path).name}, line 1: {error}", code="source.unreadable"
        ) from None
    names = tuple(cell.strip() or f"column{place}" for place, cell in enumerate(cells, 1))
    folded = [name.casefold() for name in names]
    for name in names:
        if folded.count(name.casefold()) > 1:
            raise UserError(
                f"source {source.name}: {Path(path).name}: two columns are called {name!r}; write "
                "the columns under read.names, with header: true",
                code="source.unreadable",
            )
    return names


def _cells(line: str, delimiter: str, quote: str) -> list[str]:
    """The values of a line of CSV."""
    if delimiter == SPACES:
        return line.split()
    if len(delimiter) > 1:
        return line.split(delimiter)
    if quote:
        (cells,) = csv.reader([line], delimiter=delimiter, quotechar=quote)
    else:
        (cells,) = csv.reader([line], delimiter=delimiter, quoting=csv.QUOTE_NONE)
    return cells


def source_columns(engine: Engine, source: Source, relation: str) -> dict[str, str]:
    """DuckDB type of each column of a source's files.

    Raises:
        UserError: the files cannot be read as the source says; names file and line where known.
    """
    columns = run_reading(source, lambda: engine.describe(f"select * from {relation}"))
    columns.pop(FILE_COLUMN, None)
    return columns


def run_reading(source: Source, work: Callable[[], Result]) -> Result:
    """Do what reads a source's rows; what DuckDB says of a bad file becomes one sentence.

    Raises:
        UserError: the files cannot be read.
    """
    import duckdb

    try:
        return work()
    except Exception as error:
        if not isinstance(error, duckdb.Error) and not is_of_store(error):
            raise
        raise UserError(
            f"source {source.name}: {_reason(str(error))}", code="source.unreadable"
        ) from None


def _reason(text: str) -> str:
    """What DuckDB says of a bad file, without the line itself: it may hold personal data."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    place, file = _PLACE.search(text), _FILE.search(text)
    if place is None:
        return lines[0].split("Error: ", 1)[-1] if lines else "it cannot be read"
    rule = next((line for line in lines[1:] if not line.startswith("Original Line")), lines[0])
    name = f"{Path(file[1]).name}, " if file else ""
    return f"{name}line {place[1]}: {rule}"
