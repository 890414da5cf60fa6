"""Propose a sources.yml for a log that nobody has described: which column is what, and why.

A log whose columns are those of a known export gets its preset. Of any other log the first rows are
looked at. A column is taken for the time, the user, the event, the item or a
number by what its values are and by its name; the reason stands beside it, for a person to correct.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import yaml
from pydantic import ValidationError

from usergrowth_dagster.data.encodings import seems
from usergrowth_dagster.data.storage import StoredFile
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.sources.databases.growth import growth_of
from usergrowth_dagster.sources.databases.pull import sample_table
from usergrowth_dagster.sources.definition import FILE_NAME, Source, parse_sources
from usergrowth_dagster.sources.files import (
    SPACES,
    format_of,
    matching_files,
    reach,
    readable_files,
    relation_sql,
    run_reading,
    source_columns,
)
from usergrowth_dagster.sources.land import open_source
from usergrowth_dagster.sources.presets.registry import Recognized, recognize
from usergrowth_dagster.sources.tables.delta import is_delta, open_delta
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.yaml_file import explain

SAMPLE_ROWS = 200_000
"""First rows that are looked at."""

_HEAD_BYTES = 1 << 16
_DELIMITERS = (",", ";", "\t", "|", " ", SPACES)
_BLANKS = (" ", SPACES)
_FORMATS = (
    "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y",
    "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y",
    "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d/%m/%Y",
    "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d", "%Y%m%d%H%M%S", "%Y%m%d",
)  # fmt: skip
_SECONDS, _MILLISECONDS = (9e8, 4e9), (9e11, 4e12)  # from 1998 to 2096
_WORDS = {
    "time": "time|date|^day$|^ts$|_at$|^at$|when|stamp",
    "user": "user|customer|client|member|player|visitor|account|sender|household|^uid$|person"
    "|buyer|shopper|subscriber|author|src|source|用户|会员",
    "event": "event|action|behaviou?r|^type$|kind|activity|verb|行为",
    "item": "item|product|sku|stock|article|movie|game|song|track|course|merchant|receiver"
    "|recipient|target|dst|asin|content|isbn|商品",
    "number": "amount|price|revenue|value|total|quantity|qty|rating|score|cost|sales|duration"
    "|second|points|stars|金额",
    "arm": "treat|^arm|group|variant|experiment|exposed|promotion|offer|segment|^test$",
}
"""By part, what such columns are often called."""

_KNOWN = 0.95  # share of rows that a time or a number must be read in
_FEW = 100  # kinds of events at most
_ARMS = 5  # of an experiment at most
_SIMPLE = re.compile(r"[a-z_]\w*", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Column:
    """What the first rows say of a column.

    Attributes:
        name: as an expression names it; a field of a nested column after dots.
        known: share of rows with a value.
        values: number of different values.
        repeats: rows a value.
        number: share of the values that are numbers.
        times: by expression of a time, share of the values that it reads.
        length: mean length of a value as text.
    """

    name: str
    known: float
    values: int
    repeats: float
    number: float
    times: dict[str, float]
    length: float

    def is_called(self, part: str) -> bool:
        """Whether the name is one that such columns have."""
        return bool(re.search(_WORDS[part], self.name.rpartition(".")[2], re.IGNORECASE))


@dataclass
class Suggestion:
    """A proposed sources.yml.

    Attributes:
        text: the file.
        reasons: by key, why a column was taken for it.
        counts: rows, days, users and kinds of the whole log, and rows without a day.
        span: the first and the last day, as ISO 8601; empty where no row has a day.
        counted: what was counted.
        is_whole: whether that is the whole log.
    """

    text: str = ""
    reasons: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    span: tuple[str, ...] = ()
    counted: str = "the whole log"
    is_whole: bool = True

    def write(self, home: Path) -> Path:
        """Make it the sources.yml of a home; returns its path.

        Raises:
            UserError: the home has one already.
        """
        path = home / FILE_NAME
        if path.exists():
            raise UserError(
                f"{path} is there already; add the suggestion to it by hand", code="source.invalid"
            )
        path.write_text(self.text, encoding="utf-8")
        return path


NAME = "log"
"""Name of a proposed source; one with a preset is called by it."""


def suggest_source(settings: Settings, pattern: str, folder: Path, name: str = NAME) -> Suggestion:
    """Look at a log, and propose how it becomes behaviors, or which preset it is.

    Args:
        settings: the business time zone, and limits of the engine.
        pattern: file, pattern of files, or folder of a Delta table.
        folder: what a relative pattern starts from.
        name: of the source.

    Raises:
        UserError: no file, files that cannot be read, or no column of theirs is a time or a user.
    """
    if is_delta(pattern, folder):
        return _suggest_delta(settings, pattern, folder, name)
    probe = _probe(name, {"from": [pattern]})
    files = matching_files(probe, folder)
    suggestion = Suggestion()
    if format_of(probe, files) == "csv":
        read, width = _dialect(files[0])
        if known := recognize([""] * width, has_header=False):
            return _preset(settings, probe, folder, known)
        probe = _probe(name, {"from": [pattern], "read": read})
    with open_engine(settings) as engine, readable_files(probe, files) as readable:
        reach(engine, files)
        relation = relation_sql(engine, probe, list(readable), format_of(probe, files))
        if known := recognize(_names(engine, probe, relation)):
            return _preset(settings, probe, folder, known)
        columns = list(_columns(engine, probe, relation))
    if not columns:
        raise UserError(f"source {name}: {pattern} holds no rows", code="source.unreadable")
    return _proposal(settings, probe, folder, columns, suggestion)


def _suggest_delta(settings: Settings, table: str, folder: Path, name: str) -> Suggestion:
    """The proposal for a Delta table."""
    probe = _probe(name, {"from": {"delta": table}})
    with (
        TemporaryDirectory(prefix="usergrowth-source-") as scratch,
        open_engine(settings) as engine,
    ):
        snapshot = open_delta(table, folder, f"source {name}: from.delta", Path(scratch))
        reach(engine, snapshot.files)
        relation = snapshot.relation(engine)
        if known := recognize(_names(engine, probe, relation)):
            return _preset(settings, probe, folder, known)
        columns = list(_columns(engine, probe, relation))
    if not columns:
        raise UserError(f"source {name}: {table} holds no rows", code="source.unreadable")
    return _proposal(settings, probe, folder, columns, Suggestion())


def suggest_table(
    settings: Settings, database: Mapping[str, Any], folder: Path, name: str = NAME
) -> Suggestion:
    """Look at a table of a database, and propose how it becomes behaviors.

    Args:
        settings: the business time zone, and limits of the engine.
        database: keys of a database as sources.yml has them.
        folder: what a relative path of a password starts from.
        name: of the source.

    Raises:
        UserError: the database cannot be read, or no column of it is a time or a user.
    """
    probe = _probe(name, {"database": database})
    keys = probe.database
    assert keys is not None
    suggestion = Suggestion()
    with TemporaryDirectory(prefix="usergrowth-source-") as scratch:
        file = Path(scratch) / "sample.parquet"
        place = f"source {name}"
        with (
            open_engine(settings) as engine,
            sample_table(keys, folder, place, SAMPLE_ROWS, file) as table,
        ):
            relation = relation_sql(engine, probe, [str(file)], "parquet")
            columns = list(_columns(engine, probe, relation))
            growth = growth_of(table, {column.name: column.known for column in columns})
            total = table.count()
    if not columns:
        raise UserError(f"source {name}: {keys.shown} holds no rows", code="source.unreadable")
    suggestion.counted = f"the first {min(total, SAMPLE_ROWS):,} of {total:,} rows"
    suggestion.is_whole = total <= SAMPLE_ROWS
    suggestion.reasons |= growth.reasons
    probe = _probe(name, {"database": {**database, **growth.keys}})
    return _proposal(settings, probe, folder, columns, suggestion)


def _proposal(
    settings: Settings,
    probe: Source,
    folder: Path,
    columns: Sequence[Column],
    suggestion: Suggestion,
) -> Suggestion:
    """Choose the columns, write the file, and count the log by it."""
    chosen = _choose(columns, probe, suggestion)
    suggestion.text = _text(probe, chosen, suggestion)
    _count(settings, folder, suggestion)
    return suggestion


def _names(engine: Engine, source: Source, relation: str) -> list[str]:
    """Names of the columns, and of the fields of nested ones after a dot."""
    columns = source_columns(engine, source, relation)
    names = list(columns)
    for name, kind in columns.items():
        if kind.startswith("STRUCT("):
            fields = engine.describe(f"select unnest({identifier(name)}) from {relation} limit 0")
            names += [f"{name}.{inner}" for inner in fields]
    return names


def _preset(settings: Settings, probe: Source, folder: Path, known: Recognized) -> Suggestion:
    """The proposal of a preset for a log."""
    suggestion = Suggestion(reasons={"preset": known.reason})
    lines = ["sources:", f"  # {known.reason}", f"  - preset: {known.preset.name}"]
    if probe.name != NAME:
        lines.append(f"    name: {probe.name}")
    if known.table != known.preset.table:
        lines.append(f"    fills: {known.table}")
    lines.append(f"    from: {_from(probe)}")
    suggestion.text = "\n".join(lines) + "\n"
    _count(settings, folder, suggestion)
    return suggestion


def _probe(name: str, origin: Mapping[str, Any]) -> Source:
    """A source that reads the rows and makes nothing of them yet.

    Args:
        name: of the source.
        origin: the keys that say where the rows are.
    """
    nothing = {"user_id": "''", "behavior": "''"}
    content = {
        "name": name,
        "fills": "behavior",
        **origin,
        "day": {"snapshot": "2000-01-01"},
        "columns": nothing,
    }
    try:
        return Source.model_validate(content)
    except ValidationError as error:
        raise UserError(str(explain(error, Source, "source")), code="source.invalid") from None


def _dialect(file: StoredFile) -> tuple[dict[str, Any], int]:
    """How a CSV file is read where it is not the default way, and the values of its first line."""
    head = _head(file)
    read: dict[str, Any] = {}
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start > len(head) - 4:  # a character that the block cut
            text = head[: error.start].decode("utf-8-sig")
        else:
            read["encoding"] = seems(head) or "latin-1"
            text = head.decode(read["encoding"], "replace")
    lines = text.splitlines()[: -1 if len(head) == _HEAD_BYTES else None][:200]
    if not lines:
        return read, 0
    delimiter = max(_DELIMITERS, key=lambda one: _fit(lines, one))
    if _fit(lines, delimiter)[0] < _KNOWN or delimiter in _BLANKS:
        # Texts and times hold blanks too, so these part values only where nothing else does.
        marks = [one for one in _DELIMITERS if one not in _BLANKS]
        best = max(marks, key=lambda one: _fit(lines, one))
        delimiter = best if _fit(lines, best)[0] >= _KNOWN else delimiter
    if delimiter != ("\t" if ".tsv" in file.name.lower() else ","):
        read["delimiter"] = delimiter
    first, *others = _rows(lines, delimiter)
    if others and any(_is_value(cell) for cell in first):
        read["names"] = [f"column{place}" for place in range(1, len(first) + 1)]
    return read, len(first)


def _head(file: StoredFile) -> bytes:
    """The first bytes of a file, unpacked.

    Raises:
        UserError: it cannot be read.
    """
    import fsspec

    codec = {".gz": "gzip", ".zst": "zstd"}.get(Path(file.name).suffix)
    opened: IO[bytes]
    try:
        with fsspec.open(file.uri, "rb") as raw:
            if codec is None:
                return bytes(raw.read(_HEAD_BYTES))
            import pyarrow as pa

            with pa.CompressedInputStream(raw, codec) as opened:
                return bytes(opened.read(_HEAD_BYTES))
    except OSError as error:
        raise UserError(
            f"{file.name} cannot be read: {error.strerror or error}", code="source.unreadable"
        ) from None


def _fit(lines: Sequence[str], delimiter: str) -> tuple[float, int]:
    """How many lines a delimiter cuts into as many parts as most, and into how many."""
    widths = [len(row) for row in _rows(lines, delimiter)]
    usual = max(set(widths), key=widths.count, default=1)
    return (widths.count(usual) / len(widths) if usual > 1 else 0.0), usual


def _rows(lines: Sequence[str], delimiter: str) -> Iterator[list[str]]:
    """The values of some lines."""
    if delimiter == SPACES:
        return (line.split() for line in lines if line.strip())
    return iter(csv.reader(lines, delimiter=delimiter))


def _is_value(cell: str) -> bool:
    """Whether a cell is a number, so that its line is no header."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _columns(engine: Engine, source: Source, relation: str) -> Iterator[Column]:
    first_rows = f"create temp table looked_at as select * from {relation} limit {SAMPLE_ROWS}"
    run_reading(source, lambda: engine.run(first_rows))
    for name, kind in source_columns(engine, source, "looked_at").items():
        yield from _looks(engine, name, identifier(name), kind)


def _looks(engine: Engine, name: str, sql: str, kind: str) -> Iterator[Column]:
    """What the rows say of a column, or of the fields of a nested one."""
    if kind.startswith("STRUCT("):
        fields = engine.describe(f"select unnest({sql}) from looked_at")
        for inner, inner_kind in fields.items():
            yield from _looks(engine, f"{name}.{inner}", f"{sql}.{identifier(inner)}", inner_kind)
        return
    if kind.endswith("]") or kind.startswith("MAP"):
        return
    as_text = f"cast({sql} as varchar)"
    times = {**_times(name, sql, kind)}
    shares = ", ".join(f"count({test})" for test in times.values())
    rows, known, values, numbers, length, *read = engine.rows(
        f"select count(*), count({sql}), count(distinct {sql}), "
        f"count(try_cast({as_text} as double)), avg(length({as_text}))"
        f"{', ' + shares if shares else ''} from looked_at"
    )[0]
    if known:
        yield Column(
            name,
            known / rows,
            values,
            known / values,
            numbers / known,
            {text: count / known for text, count in zip(times, read, strict=True)},
            float(length),
        )


def _times(name: str, sql: str, kind: str) -> dict[str, str]:
    """By expression of a time, SQL that is NULL where a value is no such time."""
    if kind == "DATE" or kind.startswith("TIMESTAMP"):
        return {name: sql}
    if kind not in {"VARCHAR", "BIGINT", "INTEGER", "HUGEINT", "DOUBLE"}:
        return {}
    inner = name if _SIMPLE.fullmatch(name) or "." in name else identifier(name)
    number = f"try_cast({sql} as double)"
    times = {}
    if kind == "VARCHAR":
        dated = f"regexp_matches({sql}, '^\\d{{4}}-\\d\\d-\\d\\d')"
        times[name] = f"case when {dated} then try_cast({sql} as timestamptz) end"
        times |= {
            f"strptime({inner}, {literal(form)})": f"try_strptime({sql}, {literal(form)})"
            for form in _FORMATS
        }
    for call, (low, high) in (("to_timestamp", _SECONDS), ("epoch_ms", _MILLISECONDS)):
        between = f"case when {number} between {low} and {high} then 1 end"
        times[f"{call}({inner}::bigint)"] = between
    return times


def _choose(columns: Sequence[Column], probe: Source, suggestion: Suggestion) -> dict[str, Any]:
    """The column of each part; the reasons go into the suggestion."""
    time, reads = _time(columns, probe, suggestion)
    left = [column for column in columns if column is not time]
    user = _best(left, "user", lambda one: one.values > 1 and one.known > 0.5)
    if user is None:
        raise UserError(
            f"source {probe.name}: no column looks like a user; its columns are "
            f"{', '.join(column.name for column in columns)}",
            code="source.invalid",
        )
    suggestion.reasons["user_id"] = (
        f"{user.name} has {user.values:,} values, each in {user.repeats:,.1f} rows"
    )
    left.remove(user)
    event = _best(left, "event", _names_an_event, named=True)
    left = [column for column in left if column is not event]
    suggestion.reasons["behavior"] = (
        f"{event.name} has {event.values:,} kinds" if event else "no column names a kind of event"
    )
    item = _best(left, "item", lambda one: one.values > 1, named=True)
    left = [column for column in left if column is not item]
    if item is not None:
        suggestion.reasons["item_id"] = f"{item.name} has {item.values:,} values"
    numbers = [one for one in left if one.is_called("number") and one.number >= _KNOWN]
    for one in numbers:
        suggestion.reasons[f"num.{_key(one)}"] = f"{one.name} holds numbers"
    return {"time": reads, "user": user, "event": event, "item": item, "numbers": numbers}


def _time(columns: Sequence[Column], probe: Source, suggestion: Suggestion) -> tuple[Column, str]:
    best: tuple[tuple[bool, float], Column, str] | None = None
    for column in columns:
        for text, share in column.times.items():
            rank = (column.is_called("time"), share)
            if share >= _KNOWN and (best is None or rank > best[0]):
                best = rank, column, text
    if best is None:
        arms = [one.name for one in columns if one.is_called("arm") and 1 < one.values <= _ARMS]
        raise UserError(
            f"source {probe.name}: no column looks like a time; its columns are "
            f"{', '.join(column.name for column in columns)}"
            + (
                f"; if {' or '.join(arms)} is the arm of a past experiment, the guide "
                "docs/how-to/experiments.md says how to land it"
                if arms
                else ""
            ),
            code="source.invalid",
        )
    (_, share), column, text = best
    suggestion.reasons["day.time"] = f"{share:.0%} of {column.name} are read as times"
    swapped = text.replace("%m/%d", "%d/%m")
    if swapped != text and column.times.get(swapped, 0.0) >= _KNOWN:
        suggestion.reasons["day.time"] += (
            "; day and month may be the other way round, so check them"
        )
    return column, text


def _best(columns: Sequence[Column], part: str, fits: Any, *, named: bool = False) -> Column | None:
    """The column that fits a part best: by its name, then by how often a value comes again.

    Of columns without such a name that are much alike, it is the first: logs name the one that acts
    before the one that is acted on.
    """
    candidates = [one for one in columns if fits(one) and (one.is_called(part) or not named)]
    best = max(
        candidates,
        key=lambda one: (one.is_called(part), one.repeats > 1.2, one.values),
        default=None,
    )
    if best is None or best.is_called(part):
        return best
    again = best.repeats > 1.2
    return next(c for c in candidates if (c.repeats > 1.2) == again and c.values * 2 >= best.values)


def _names_an_event(column: Column) -> bool:
    """Whether the values are few, short, and no numbers."""
    return column.values <= _FEW and column.length < 40 and column.number < _KNOWN


def _key(column: Column) -> str:
    return re.sub(r"[\s:,.]+", "_", column.name).strip("_").lower()


def _text(probe: Source, chosen: dict[str, Any], suggestion: Suggestion) -> str:
    """The file, each line that was chosen with its reason."""
    lines = ["sources:", f"  - name: {probe.name}", "    fills: behavior"]
    lines += _origin(probe, suggestion)
    lines += [
        f"    # {suggestion.reasons['day.time']}",
        f"    day: {_flow({'time': chosen['time']})}",
    ]
    lines.append("    columns:")
    event = chosen["event"].name if chosen["event"] else "'event'"
    columns = {"user_id": chosen["user"].name, "behavior": event}
    if chosen["item"] is not None:
        columns["item_id"] = chosen["item"].name
    for key, value in columns.items():
        lines.append(f"      {key}: {_scalar(value)}  # {suggestion.reasons[key]}")
    if chosen["numbers"]:
        numbers = {_key(one): one.name for one in chosen["numbers"]}
        lines.append(f"    num: {_flow(numbers)}")
    return "\n".join(lines) + "\n"


def _origin(probe: Source, suggestion: Suggestion) -> list[str]:
    """The lines that say where the rows are."""
    if probe.database is None:
        read = probe.read.model_dump(mode="json", exclude_defaults=True)
        lines = [f"    from: {_from(probe)}"]
        return [*lines, f"    read: {_flow(read)}"] if read else lines
    lines = ["    database:"]
    for key, value in probe.database.model_dump(mode="json", exclude_defaults=True).items():
        if reason := suggestion.reasons.get(key):
            lines.append(f"      # {reason}")
        lines.append(f"      {key}: {_scalar(value)}")
    if probe.database.cursor is None:
        lines.append(f"      # {suggestion.reasons['cursor']}")
    return lines


def _from(probe: Source) -> str:
    """The files or the table of a lake, as YAML writes them on one line."""
    if probe.table is not None:
        return _flow(probe.table.model_dump(exclude_none=True))
    return _scalar(probe.patterns[0])


def _flow(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000).strip()


def _scalar(value: Any) -> str:
    """A value as YAML writes it on one line."""
    return _flow([value])[1:-1]


def _count(settings: Settings, folder: Path, suggestion: Suggestion) -> None:
    """Count the whole log by the proposal, which thereby is seen to hold."""
    (source,) = parse_sources(suggestion.text, "the suggestion")
    key = source.contract.names[0]
    with open_source(settings, source, folder, sample_rows=SAMPLE_ROWS) as opened:
        sql = opened.sql
        kind = sql.columns.get("behavior") or sql.columns.get("target") or "null"
        (row,) = run_reading(
            source,
            lambda: opened.engine.rows(
                f"select count(*), count(distinct {sql.day}), count(distinct {sql.columns[key]}), "
                f"count(distinct {kind}), count(*) - count({sql.day}), min({sql.day}), "
                f"max({sql.day}) from {opened.relation()} where {sql.where}"
            ),
        )
    *counts, first, last = row
    names = ("rows", "days", f"{key.removesuffix('_id')}s", "kinds", "rows without a day")
    suggestion.counts = dict(zip(names, counts, strict=True))
    if first and source.day.snapshot is None:
        suggestion.span = first.isoformat(), last.isoformat()
