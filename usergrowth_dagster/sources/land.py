"""Land a source: its rows become landing files, one a day, which the raw tables then read.

A day is written again when its rows change in any file, or the source's definition does.
Each day's file takes the place of the last one at once, and is noted when it stands; a run that is
killed goes on where it was. What has landed stays when a file is gone, since logs rotate. A day
with rows of a file that is gone is not written again: these rows would be lost. A table of a lake
names the data files of its newest version, so that what is gone from it is gone.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Any, Literal

from usergrowth_dagster.data.contracts import IDENTITY
from usergrowth_dagster.data.forgotten import Forgotten, is_forgotten_sql
from usergrowth_dagster.data.storage import Storage, StoredFile
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.quoting import identifier
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.sources.databases.pull import (
    Pull,
    alone,
    parts_of,
    pull_table,
    sample_table,
)
from usergrowth_dagster.sources.definition import FILE_NAME, Source
from usergrowth_dagster.sources.elements import EMPTY, Elements, elements_of
from usergrowth_dagster.sources.files import (
    FILE_COLUMN,
    as_expected,
    format_of,
    matching_files,
    reach,
    readable_files,
    relation_sql,
    run_reading,
    source_columns,
    unreadable_sql,
)
from usergrowth_dagster.sources.forgetting import without_forgotten
from usergrowth_dagster.sources.rows import RowSql, row_sql
from usergrowth_dagster.sources.tables.delta import open_delta
from usergrowth_dagster.sources.tables.iceberg import open_iceberg
from usergrowth_dagster.sources.tables.keys import TableKeys
from usergrowth_dagster.sources.tables.snapshot import Snapshot
from usergrowth_dagster.warehouse.engine import Engine, open_engine

if TYPE_CHECKING:
    import pyarrow as pa

SOURCE_VERSION = 1
"""Raised when the same source would land other rows, so that its days are written again."""

STATE = "_sources"
"""Folder of the storage with what is known of each source."""

SAMPLE_ROWS = 10_000
"""Rows of a database that are read to look at it."""

_USUAL_DAYS = 14  # days whose median is the usual number of rows
_FORGOTTEN = "usergrowth_forgotten"
_SAVE_DAYS = 50  # days written between two notes of what stands


def landed_days(state: Storage, name: str) -> list[date]:
    """The days that a source has landed rows of, in order.

    Args:
        state: where it is noted what has landed.
        name: of the source.
    """
    path = f"{STATE}/{name}.json"
    if not state.exists(path):
        return []
    landed = SourceState(**json.loads(state.read_bytes(path))).landed
    return sorted(date.fromisoformat(day) for day, (_, rows, *_) in landed.items() if rows)


@dataclass
class SourceState:
    """What is known of a source's files, and what of them has landed.

    Attributes:
        definition: hash of the definition that the rest belongs to.
        files: by URI, the tag of the file and, by day, its rows and their hash; "" for rows without
            a day; and the numbers of its records that cannot be read, and whose list is empty.
            Files that are gone stay.
        landed: by day, the hash of what its landing file was made from, its rows, and, since
            late rows are counted, the rows that it was made from.
        reading: of a database, the reading from its first row on that all this belongs to.
    """

    definition: str = ""
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    landed: dict[str, Sequence[Any]] = field(default_factory=dict)
    reading: str = ""

    def rows_by_day(self) -> Counter[str]:
        """Rows of each day, over all files; "" for rows without a day."""
        rows: Counter[str] = Counter()
        for file in self.files.values():
            for day, (count, _) in file["days"].items():
                rows[day] += count
        return rows

    def records(self, fault: Literal["unreadable", "empty"]) -> int:
        """Records of all files that cannot be read, or whose list is empty."""
        return sum(file.get(fault, 0) for file in self.files.values())

    def made_from(self) -> dict[str, str]:
        """By day, the hash of what it would be made from now: the definition and the rows."""
        hashes: Counter[str] = Counter()
        for file in self.files.values():
            for day, (_, of_rows) in file["days"].items():
                hashes[day] += int(of_rows)
        del hashes[""]
        return {
            day: hashlib.sha256(f"{self.definition} {of_rows}".encode()).hexdigest()[:16]
            for day, of_rows in hashes.items()
        }

    def made_from_none(self) -> str:
        """The hash of what a day without rows is made from."""
        return hashlib.sha256(f"{self.definition} 0".encode()).hexdigest()[:16]

    def forget_renamed(self, gone: Collection[str], new: Collection[str]) -> set[str]:
        """Forget files that are there under a new name; returns those that are gone for good.

        Each new file stands for one of them at most.
        """
        contents = [self.files[uri]["days"] for uri in new]
        for_good = set()
        for uri in sorted(gone):
            if self.files[uri]["days"] in contents:
                contents.remove(self.files.pop(uri)["days"])
            else:
                for_good.add(uri)
        return for_good


@dataclass(frozen=True)
class SourceLanding:
    """What landing one source did.

    Attributes:
        source: its name.
        table: the landing table that it fills.
        files: files that its patterns name.
        landed: days written now, in order.
        unchanged: days that stood already.
        rows: rows written now.
        rows_in_all: rows of the landing files of all days that were asked for.
        duplicates: rows of those days left out, since another row has the same key.
        without_day: rows of all files whose time says no day; they do not land.
        unreadable: records of all files that are no JSON objects; they do not land.
        not_numbers: by key of ``num``, texts of the days written that are no number.
        gone: files that landed earlier and are not there any more; their days stay.
        waiting: days that were not written, with the reason.
        kept: days that stand although no file holds rows of them any more.
        elsewhere: days that are not up to date and were not asked for.
        newest: the last day that the source has rows of.
        pull: what was read from its database; None for others.
        version: of a table of a lake, the version that was read; "" for others.
        late: days that changed and stay as they are (late_days), with the rows that they gained.
        forgotten: rows of the days written now left out, as those of forgotten persons.
        empty: records of all files whose list is empty; they give no row.
    """

    source: str
    table: str
    files: int
    landed: tuple[date, ...] = ()
    unchanged: int = 0
    rows: int = 0
    rows_in_all: int = 0
    duplicates: int = 0
    without_day: int = 0
    not_numbers: Mapping[str, int] = field(default_factory=dict)
    gone: tuple[str, ...] = ()
    waiting: Mapping[date, str] = field(default_factory=dict)
    kept: tuple[date, ...] = ()
    elsewhere: int = 0
    newest: date | None = None
    pull: Pull | None = None
    version: str = ""
    late: Mapping[date, int] = field(default_factory=dict)
    unreadable: int = 0
    forgotten: int = 0
    empty: int = 0

    def notes(self) -> list[str]:
        """What did not land, and why, a sentence each."""
        notes = self.pull.notes() if self.pull else []
        if self.unreadable:
            notes.append(
                f"{self.unreadable:,} records are no JSON objects with a column that is read, and "
                "do not land"
            )
        if self.empty:
            what = "none of the ids" if self.table == IDENTITY else "an empty list (each)"
            notes.append(f"{self.empty:,} records have {what} and give no row")
        if self.without_day:
            notes.append(f"{self.without_day:,} rows have no day and do not land")
        if self.forgotten:
            notes.append(f"{self.forgotten:,} rows of forgotten persons left out")
        if self.duplicates:
            notes.append(f"{self.duplicates:,} rows left out: another has the same key (unique)")
        for key, count in self.not_numbers.items():
            notes.append(f"{count:,} texts of num.{key} are no numbers and are left out")
        by_reason: dict[str, list[date]] = {}
        for day, reason in self.waiting.items():
            by_reason.setdefault(reason, []).append(day)
        for reason, days in by_reason.items():
            one = f"{days[0]} waits"
            notes.append(f"{one if len(days) == 1 else f'{len(days):,} days wait'}: {reason}")
        if self.late:
            notes.append(
                f"{len(self.late):,} days changed and stay as they landed, "
                f"{sum(self.late.values()):,} late rows are left out: they are older than late_days"
            )
        if self.elsewhere:
            notes.append(
                f"{self.elsewhere:,} further days are not up to date; `sources land` writes all"
            )
        if self.gone:
            notes.append(
                f"{len(self.gone):,} files are gone, {self.gone[0]} first; their days stay"
            )
        if self.kept:
            notes.append(f"{len(self.kept):,} days stay although no file holds rows of them now")
        return notes


@dataclass(frozen=True)
class OpenSource:
    """A source whose files can be read and whose expressions hold.

    Attributes:
        engine: reads it.
        kind: of its files.
        readable: by the path that the engine reads, the file's URI.
        columns: DuckDB type of each column of its files.
        sql: how its rows become landing rows.
        elements: its lists, of which every element is a row.
        pull: what was read from its database; None for others, and for a sample.
        table: the snapshot of the table of a lake that it reads; None for others.
    """

    source: Source
    engine: Engine
    kind: Any
    files: Sequence[StoredFile]
    readable: Mapping[str, str]
    columns: Mapping[str, str]
    sql: RowSql
    elements: Elements
    pull: Pull | None = None
    table: Snapshot | None = None

    @property
    def sees_deleted(self) -> bool:
        """Whether rows that the source has no more are known to be gone."""
        return self.table is not None or self.pull is not None

    def sample(self) -> str:
        """The rows of all files, or of the first data file of a table of a lake."""
        return self.relation(None if self.table is None else [f.uri for f in self.files[:1]])

    def relation(self, uris: Iterable[str] | None = None) -> str:
        """The rows of all files, or of some; a row for each element of a list."""
        return self.elements.rows(self._records(uris))

    def _records(self, uris: Iterable[str] | None) -> str:
        if self.table is not None:
            return _table_rows(self.engine, self.source, self.table, uris)
        wanted = None if uris is None else set(uris)
        paths = [path for path, uri in self.readable.items() if wanted is None or uri in wanted]
        relation = relation_sql(self.engine, self.source, paths, self.kind)
        if self.pull is None:
            return relation
        nulls = ", ".join(
            f"cast(null as {kind}) as {identifier(name)}" for name, kind in self.columns.items()
        )  # older parts lack columns that the table has got since
        return f"(select * from {relation} union all by name select {nulls} where false)"


@contextmanager
def open_source(
    settings: Settings,
    source: Source,
    folder: Path,
    pull: Pull | None = None,
    sample_rows: int = SAMPLE_ROWS,
) -> Iterator[OpenSource]:
    """Open a source's files and check its expressions.

    Args:
        settings: the business time zone, and limits of the engine.
        source: the source.
        folder: what its relative patterns start from.
        pull: what was read from its database; without it some rows are read.
        sample_rows: how many.

    Raises:
        UserError: no files, files that cannot be read, or an expression that breaks a rule.
    """
    source = source.on_first_day(settings.start_date)
    with _rows_of(source, folder, pull, sample_rows) as rows, open_engine(settings) as engine:
        files, table = rows
        with _readable(source, files, table) as readable:
            reach(engine, files)
            if table is not None:
                kind: str = table.kind
                relation = _table_rows(engine, source, table, ())
            else:
                kind = "parquet" if source.database else format_of(source, files)
                relation = relation_sql(engine, source, list(readable), kind)
            columns = source_columns(engine, source, relation)
            if pull is not None:  # columns that the table had once are there no more
                expected = {*source.read.texts, *source.read.nested}
                columns = {n: k for n, k in columns.items() if n in {*pull.columns, *expected}}
            elements = elements_of(engine, source, columns)
            sql = row_sql(engine, source, elements.columns, settings.zone)
            yield OpenSource(
                *(source, engine, kind, files, readable, elements.columns, sql, elements),
                pull,
                table,
            )


@contextmanager
def _rows_of(
    source: Source, folder: Path, pull: Pull | None, sample_rows: int
) -> Iterator[tuple[Sequence[StoredFile], Snapshot | None]]:
    """The files that hold a source's rows, and the snapshot of the table that they belong to.

    They are its own, those of a table, or what was read from its database.
    """
    if source.patterns:
        yield matching_files(source, folder), None
        return
    if pull is not None:
        yield pull.files, None
        return
    with TemporaryDirectory(prefix="usergrowth-source-") as scratch:
        if source.table is not None:
            table = _snapshot(source, source.table, folder, Path(scratch))
            yield table.files, table
            return
        assert source.database is not None
        file = Path(scratch) / "sample.parquet"
        with sample_table(source.database, folder, _place(source), sample_rows, file):
            pass
        yield [StoredFile(file.name, str(file), file.stat().st_size, "")], None


def listed_files(source: Source, folder: Path) -> Sequence[StoredFile]:
    """The files of a source, or the data files of its table, as they are now; none is read.

    Raises:
        UserError: they cannot be listed.
    """
    if source.table is None:
        return matching_files(source, folder)
    return _snapshot(source, source.table, folder, Path()).files


def _snapshot(source: Source, keys: TableKeys, folder: Path, scratch: Path) -> Snapshot:
    """The newest snapshot of a table, with a folder for copies."""
    place = f"source {source.name}: from.{keys.kind}"
    if keys.delta is None:
        return open_iceberg(keys, place, scratch)
    return open_delta(keys.delta, folder, place, scratch)


def _readable(
    source: Source, files: Sequence[StoredFile], table: Snapshot | None
) -> AbstractContextManager[Mapping[str, str]]:
    if table is not None:
        return nullcontext(table.readable)
    if source.database is None:
        return readable_files(source, files)
    return nullcontext({file.uri: file.uri for file in files})


def _place(source: Source) -> str:
    return f"{FILE_NAME}: source {source.name}"


def _table_rows(engine: Engine, source: Source, table: Snapshot, uris: Iterable[str] | None) -> str:
    return as_expected(engine, source, table.relation(engine, uris))


def land_source(
    settings: Settings,
    landing: Storage,
    state: Storage,
    source: Source,
    folder: Path,
    days: Collection[date] | None = None,
    *,
    reread: bool = False,
    forgotten: Forgotten | None = None,
) -> SourceLanding:
    """Write the landing files of the days of a source that are over and not up to date.

    Args:
        settings: the business clock, and limits of the engine.
        landing: root of the landing files.
        state: root of the product's own files.
        source: the source.
        folder: what its relative patterns start from.
        days: the days that may be written; None: all.
        reread: whether all rows of a database are read anew, a table without rows is taken, and
            days that late_days keeps are written.
        forgotten: persons whose rows are left out.

    Raises:
        UserError: the source cannot be read; what has landed stays.
    """
    database = source.database
    with nullcontext() if database is None else alone(settings.home, source.name):
        if "user_id" not in source.contract.names:
            forgotten = None
        pull = None
        if database is not None:
            before = [part.file for part in parts_of(settings.home, source.name, database).parts]
            pull = pull_table(settings, database, source.name, folder, _place(source), anew=reread)
            if forgotten is not None:
                pull = without_forgotten(settings, source, pull, forgotten, before)
        with open_source(settings, source, folder, pull) as opened:
            return _Landing(
                settings, landing, state, opened, reread=reread, forgotten=forgotten
            ).run(days)


class _Landing:
    """One call of :func:`land_source`."""

    def __init__(
        self,
        settings: Settings,
        landing: Storage,
        state: Storage,
        opened: OpenSource,
        *,
        reread: bool,
        forgotten: Forgotten | None,
    ) -> None:
        self.settings = settings
        self.reread = reread
        self.left_out = 0
        self.has_forgotten = forgotten is not None
        if forgotten is not None:
            forgotten.bind(opened.engine.connection)
        self.landing = landing
        self.storage = state
        self.opened = opened
        self.source = opened.source
        self.path = f"{STATE}/{self.source.name}.json"
        self.state = self._read_state()

    def run(self, wanted: Collection[date] | None) -> SourceLanding:
        """Look at the files that are new or changed, then write the days that they touch."""
        gone = self._count_rows()
        rows = self.state.rows_by_day()
        made_from = self.state.made_from()
        left = self._leave_days(made_from)
        if self.opened.sees_deleted:  # a day that the table has no rows of any more
            made_from = {day: self.state.made_from_none() for day in self.state.landed} | made_from
        days = {date.fromisoformat(day): digest for day, digest in sorted(made_from.items())}
        all_stale = {day: digest for day, digest in days.items() if not self._stands(day, digest)}
        late = self._late(all_stale, rows)
        all_stale = {day: digest for day, digest in all_stale.items() if day not in late}
        stale = {day: d for day, d in all_stale.items() if wanted is None or day in wanted}
        waiting = {day: reason for day in stale if (reason := self._why_wait(day, gone, rows))}
        todo = {day: digest for day, digest in stale.items() if day not in waiting}
        self._refuse_impossible(todo)
        not_numbers = self._not_numbers(todo)
        written = self._write(todo)
        return SourceLanding(
            self.source.name,
            self.source.lands_in,
            files=len(self.opened.files),
            landed=tuple(sorted(written)),
            unchanged=len(days) - len(all_stale) - len(late),
            rows=sum(written.values()),
            rows_in_all=sum(
                count
                for day, (_, count, *_) in self.state.landed.items()
                if wanted is None or date.fromisoformat(day) in wanted
            ),
            duplicates=sum(rows[day.isoformat()] for day in todo)
            - sum(written.values())
            - self.left_out,
            forgotten=self.left_out,
            without_day=rows[""],
            not_numbers=not_numbers,
            gone=tuple(sorted(gone)),
            waiting=waiting,
            elsewhere=len(all_stale) - len(stale),
            kept=tuple(
                sorted(map(date.fromisoformat, left | self.state.landed.keys() - made_from.keys()))
            ),
            newest=max((date.fromisoformat(day) for day in rows if day), default=None),
            pull=self.opened.pull,
            version=self.opened.table.version if self.opened.table else "",
            late=late,
            unreadable=self.state.records("unreadable"),
            empty=self.state.records("empty"),
        )

    def _late(self, stale: Mapping[date, str], rows: Mapping[str, int]) -> dict[date, int]:
        """Days that changed and are too old to be written again, with the rows that they gained.

        A time in the future makes no day old: the newest day is one that is over.
        """
        today = self.settings.current_date()
        over = [day for text in rows if text and (day := date.fromisoformat(text)) < today]
        if self.source.late_days is None or self.reread or not over:
            return {}
        oldest = max(over) - timedelta(days=self.source.late_days)
        late = {}
        for day, digest in stale.items():
            made_from, written, *counted = self.state.landed.get(day.isoformat(), ("", 0))
            changed = made_from not in {"", digest} and self.landing.exists(self._file_of(day))
            if day < oldest and changed:
                before = counted[0] if counted else written
                late[day] = max(0, rows[day.isoformat()] - before)
        return late

    def _leave_days(self, made_from: Mapping[str, str]) -> set[str]:
        """Leave the days that a database read anew has no rows of: it may have forgotten them.

        Returns:
            these days; their landing files stay.
        """
        pull, database = self.opened.pull, self.source.database
        if pull is None or database is None or pull.reading == self.state.reading:
            return set()
        self.state.reading = pull.reading
        if database.cursor is None:  # every row is read every time, so what is missing is deleted
            return set()
        left = self.state.landed.keys() - made_from.keys()
        for day in left:
            del self.state.landed[day]
        return left

    def _why_wait(self, day: date, gone: Collection[str], rows: Mapping[str, int]) -> str:
        """Why a day is not written now; "" when nothing keeps it."""
        own = day.isoformat()
        if day < self.settings.start_date:
            first = self.settings.start_date
            return f"the days of the home begin on {first} (setting start_date)"
        if day >= self.settings.current_date():
            return "the day is not over"
        for uri in sorted(gone):
            if own in self.state.files[uri]["days"]:
                return f"rows of it came from {uri}, which is gone; bring it back to write it again"
        if not self.source.least_share or own in self.state.landed:
            return ""
        before = sorted(other for other in rows if other and other < own)[-_USUAL_DAYS:]
        usual = median(rows[other] for other in before) if before else 0.0
        if rows[own] >= self.source.least_share * usual:
            return ""
        return (
            f"it has {rows[own]:,} rows and a day usually has {usual:,.0f}; it waits for "
            f"{self.source.least_share:.0%} of them (least_share)"
        )

    def _read_state(self) -> SourceState:
        if not self.storage.exists(self.path):
            return SourceState(self._definition())
        stored = SourceState(**json.loads(self.storage.read_bytes(self.path)))
        if stored.definition == self._definition():
            return stored
        known = {uri: {**file, "tag": ""} for uri, file in stored.files.items()}
        return SourceState(self._definition(), known, stored.landed, stored.reading)

    def _definition(self) -> str:
        meaning = [
            SOURCE_VERSION,
            str(self.settings.zone),
            self.source.model_dump(mode="json", by_alias=True),
        ]
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:16]

    def _save(self) -> None:
        content = json.dumps(vars(self.state), sort_keys=True)
        self.storage.write_bytes(self.path, content.encode())

    def _count_rows(self) -> set[str]:
        """Count and hash the rows of files that are new or changed, by day.

        Returns:
            the files that are gone.
        """
        now = {file.uri: file for file in self.opened.files}
        fresh = [u for u, f in now.items() if self.state.files.get(u, {}).get("tag") != f.tag]
        new = now.keys() - self.state.files.keys()
        gone = self.state.files.keys() - now.keys()
        if self.opened.table is not None:
            self._refuse_empty(now)
        if self.opened.table is not None or self.opened.pull is not None:
            # other data files or parts hold their rows, or nothing does
            for uri in gone:
                del self.state.files[uri]
            gone = set()
        if not fresh:
            return gone
        for uri, counts in self._counts_of(fresh).items():
            self.state.files[uri] = {"tag": now[uri].tag, **counts}
        return self.state.forget_renamed(gone, new)

    def _counts_of(self, uris: Collection[str]) -> dict[str, dict[str, Any]]:
        """By file, its rows and their hash by day, and how many records give none."""
        sql = self.opened.sql
        unreadable = unreadable_sql(self.source, self.opened.kind)
        empty = EMPTY if self.source.gives_lists else "false"
        fault = f"case when {unreadable} then 'unreadable' when {empty} then 'empty' end"
        counted: dict[str, dict[str, Any]] = {uri: {"days": {}} for uri in uris}
        for path, name, day, rows, of_rows in self._rows(
            f"select {identifier(FILE_COLUMN)}, {fault} as fault, {sql.day}, count(*), "
            f"cast(sum(cast(hash({', '.join(sql.content)}) as hugeint)) as varchar) from "
            f"{self.opened.relation(uris)} where ({sql.where}) or ({unreadable}) or {empty} "
            "group by all"
        ):
            own = counted[self.opened.readable[path]]
            if name is not None:
                own[name] = own.get(name, 0) + rows
            else:
                own["days"][day.isoformat() if day else ""] = [rows, of_rows]  # as JSON has it
        for uri, counts in counted.items():
            if counts.get("unreadable") and not counts["days"]:
                self._refuse_another_file(uri, unreadable)
        return counted

    def _refuse_another_file(self, uri: str, unreadable: str) -> None:
        """Refuse a file that has no record with a column that is read: it is another export."""
        (row,) = self._rows(
            f"select count(*) from {self.opened.relation([uri])} where not ({unreadable})"
        )
        if not row[0]:
            names = ", ".join((*self.source.read.texts, *self.source.read.nested))
            raise UserError(
                f"source {self.source.name}: {Path(uri).name} has no record with one of the "
                f"columns {names}; is it another export?",
                code="source.unreadable",
            )

    def _refuse_empty(self, files: Collection[str]) -> None:
        """Refuse to take all days away at once."""
        if self.state.landed and not files and not self.reread:
            raise UserError(
                f"{_place(self.source)}: {self.source.rows_from} has no rows now, and "
                f"{len(self.state.landed):,} days have landed; they stay",
                code="source.emptied",
            )

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return run_reading(self.source, lambda: self.opened.engine.rows(sql))

    def _file_of(self, day: date) -> str:
        return f"{self.source.lands_in}/ds={day:%Y%m%d}/source-{self.source.name}.parquet"

    def _stands(self, day: date, digest: str) -> bool:
        """Whether a day's landing file was made from what it would be made from now."""
        made_from, *_ = self.state.landed.get(day.isoformat(), ("", 0))
        return made_from == digest and self.landing.exists(self._file_of(day))

    def _uris_of(self, days: Iterable[date]) -> list[str]:
        wanted = {day.isoformat() for day in days}
        return [uri for uri, file in self.state.files.items() if wanted & file["days"].keys()]

    def _not_numbers(self, todo: Mapping[date, str]) -> dict[str, int]:
        """Texts of some days that should be numbers and are none, by key."""
        conditions = self.opened.sql.not_numbers
        uris = self._uris_of(todo)
        if not conditions or not uris:
            return {}
        counts = ", ".join(f"count(*) filter (where {sql})" for sql in conditions.values())
        (row,) = self._rows(
            f"select {counts} from {self.opened.relation(uris)} "
            f"where ({self.opened.sql.where}) and {_among(self.opened.sql.day, todo)}"
        )
        return {key: count for key, count in zip(conditions, row, strict=True) if count}

    def _refuse_impossible(self, todo: Mapping[date, str]) -> None:
        """Refuse rows that no experiment can have, such as a chance of 50."""
        uris = self._uris_of(todo)
        for column, (condition, fault) in self.opened.sql.refusals.items() if uris else ():
            (row,) = self._rows(
                f"select count(*) from {self.opened.relation(uris)} "
                f"where ({self.opened.sql.where}) and {_among(self.opened.sql.day, todo)} "
                f"and {condition}"
            )
            if row[0]:
                raise UserError(
                    f"{_place(self.source)}: columns.{column}: {row[0]:,} rows have {fault}; "
                    "nothing can be learned of them: correct the expression, or leave them out "
                    "with where",
                    code="source.invalid",
                )

    def _write(self, todo: Mapping[date, str]) -> dict[date, int]:
        """Write the files of some days, each at once, and note it."""
        written: dict[date, int] = {}
        rows = self.state.rows_by_day()
        if not todo:
            self._save()
            return written
        try:
            for day, batches in self._by_day(todo):
                written[day] = self._write_day(day, batches)
                self.state.landed[day.isoformat()] = todo[day], written[day], rows[day.isoformat()]
                if len(written) % _SAVE_DAYS == 0:
                    self._save()
            for day in todo.keys() - written.keys():
                written[day] = self._write_day(day, iter(()))
                self.state.landed[day.isoformat()] = todo[day], 0, rows[day.isoformat()]
        finally:
            self._save()
        return written

    def _by_day(
        self, todo: Mapping[date, str]
    ) -> Iterator[tuple[date, Iterator["pa.RecordBatch"]]]:
        uris = self._uris_of(todo)
        if not uris:
            return
        select = self.opened.sql.select(self.opened.relation(uris), _among("ds", todo))
        if self.has_forgotten:
            select = f"select *, {is_forgotten_sql('user_id')} as {_FORGOTTEN} from ({select})"
        reader = run_reading(
            self.source, lambda: self.opened.engine.stream(f"{select} order by ds")
        )

        def parts() -> Iterator[tuple[date, "pa.RecordBatch"]]:
            import pyarrow.compute as pc

            while (batch := run_reading(self.source, lambda: _next(reader))) is not None:
                for day in pc.unique(batch.column("ds")).to_pylist():
                    own = batch.filter(pc.equal(batch.column("ds"), day))
                    yield day, self._without_forgotten(own.drop_columns(["ds"]))

        for day, group in groupby(parts(), key=lambda part: part[0]):
            yield day, (batch for _, batch in group)

    def _without_forgotten(self, rows: "pa.RecordBatch") -> "pa.RecordBatch":
        """Rows without those of forgotten persons, which are counted."""
        import pyarrow.compute as pc

        if not self.has_forgotten:
            return rows
        left = rows.filter(pc.invert(rows.column(_FORGOTTEN)))
        self.left_out += rows.num_rows - left.num_rows
        return left.drop_columns([_FORGOTTEN])

    def _write_day(self, day: date, batches: Iterator["pa.RecordBatch"]) -> int:
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = self.source.contract.names
        schema = pa.schema([(name, pa.string()) for name in names])
        rows = 0

        def produce(handle: IO[bytes]) -> None:
            nonlocal rows
            with pq.ParquetWriter(handle, schema, compression="zstd") as writer:
                for batch in batches:
                    writer.write_batch(batch.cast(schema))
                    rows += batch.num_rows

        self.landing.write_atomic(self._file_of(day), produce)
        return rows


def _next(reader: "pa.RecordBatchReader") -> "pa.RecordBatch | None":
    try:
        return reader.read_next_batch()
    except StopIteration:
        return None


def _among(expression: str, days: Iterable[date]) -> str:
    listed = ", ".join(f"date '{day.isoformat()}'" for day in days)
    return f"{expression} in ({listed})"
