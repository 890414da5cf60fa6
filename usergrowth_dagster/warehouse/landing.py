"""Landing files into the raw tables: whole days, replaced in one commit, rejects kept aside."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Literal, cast

from usergrowth_dagster.data.contracts import QUARANTINE_TYPES, Contract, Reading, contract_of
from usergrowth_dagster.data.forgotten import Forgotten
from usergrowth_dagster.data.landing import FileSet, find_files, landing_folders
from usergrowth_dagster.data.loader import PARSED, CountMismatchError, Counts, Loader
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import LISTED, UserError
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.data_files import DayFiles
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.tables import Commit, RowStream, Warehouse

if TYPE_CHECKING:
    import pyarrow as pa

QUARANTINE = "quarantine"
COMMIT_BYTES = 128 << 20
"""Landing bytes of the small days that share a commit; a larger day has its own."""

MEMORY_SHARE = 0.5
"""DuckDB's part of ``memory_limit``: the writer of the table's files needs the rest."""

STREAM_ROWS = 8_192
"""Rows of a batch on the way to the writer, which takes many batches in before it writes."""

COMMIT_DAYS = 400
"""Days that share a commit at most."""

HELD_ROWS = 500_000
"""Rows that the engine holds before the days they are of are written: some 60 MB of events."""

_SENTENCES = LISTED - 1  # bad days whose whole sentence a failure repeats; the others are named

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class LandedDay:
    """What became of one landing day.

    Args:
        day: the day.
        status: ``landed`` (written now), ``unchanged`` (its files are those of the table) or
            ``missing`` (no files; the table keeps what it has).
        rows_in: rows of the files: accepted + quarantined.
        accepted: rows in the raw table.
        quarantined: rows in the quarantine table.
        forgotten: those of them that were set aside now, unread, as rows of forgotten persons.
        kept: rows that the table keeps of a day without files.
        files: number of landing files.
        version: Delta version of the raw table that holds the day; None when never written.
        no_rows: lines that were no rows now: blank, commas only, a footer, of a repeated file.
        notices: sentences about what was taken now, but is not as it should be.
    """

    day: date
    status: Literal["landed", "unchanged", "missing"]
    rows_in: int
    accepted: int
    quarantined: int
    files: int
    version: int | None
    forgotten: int = 0
    no_rows: int = 0
    notices: tuple[str, ...] = ()
    kept: int = 0


class LandingError(UserError):
    """Some days could not be landed; the others were. Its text is a sentence a line.

    Attributes:
        failures: the sentence of every failed day.
        landed: the days that were landed, unchanged or missing.
    """

    def __init__(self, failures: dict[date, str], landed: list[LandedDay]) -> None:
        self.failures = dict(sorted(failures.items()))
        self.landed = landed
        sentences = list(self.failures.values())[:_SENTENCES]
        further = [f"{day:%Y%m%d}" for day in self.failures][_SENTENCES:]
        if further:
            sentences.append(f"{len(further)} more days fail: {', '.join(further)}")
        super().__init__("\n".join(sentences), code="landing.day_failed")


def land_days(
    settings: Settings,
    landing: Storage,
    warehouse: Warehouse,
    table: str,
    days: Sequence[date],
    *,
    forgotten: Forgotten | None = None,
    progress: Progress | None = None,
) -> list[LandedDay]:
    """Land days of a table: accepted rows to ``raw_<table>``, rejects to ``quarantine``.

    A day whose files and contract are those of its last landing is left alone. Days are written
    whole: a run that is killed leaves each day as it was or as it is to be, and the next run goes
    on. A day fails when a header is wrong, a file cannot be read, or its share of rejects is above
    ``settings.max_reject_share``; its earlier rows stay, and its rejects can be read in the
    quarantine.

    Args:
        settings: limits of rejects and memory.
        landing: root of the landing files.
        warehouse: where the tables are.
        table: user, item, behavior, operation or identity.
        days: the days, in any order.
        forgotten: persons whose rows are set aside, without what is in them.
        progress: called with the table's name, days done and days in all.

    Returns:
        One entry a day, in order.

    Raises:
        LandingError: days failed; raised after all the others have been written.
        CountMismatchError: rows in are not accepted + quarantined.
    """
    run = _Run(settings, landing, warehouse, contract_of(table), forgotten)
    wanted = sorted(set(days))
    todo = run.plan(wanted)
    _report_progress(progress, table, len(wanted) - len(todo), len(wanted))
    done = len(wanted) - len(todo)
    for group in _groups(todo):
        left = group
        while left:
            before, left = len(left), run.land(left)
            done += before - len(left)
            _report_progress(progress, table, done, len(wanted))
    results = [run.results[day] for day in wanted if day in run.results]
    if run.failures:
        raise LandingError(run.failures, results)
    return results


class _Run:
    """One call of :func:`land_days`."""

    def __init__(
        self,
        settings: Settings,
        landing: Storage,
        warehouse: Warehouse,
        contract: Contract,
        forgotten: Forgotten | None,
    ) -> None:
        self.settings = settings
        self.forgotten = forgotten
        self.landing = landing
        self.warehouse = warehouse
        self.contract = contract
        self.reading = Reading.of(settings)
        self.results: dict[date, LandedDay] = {}
        self.failures: dict[date, str] = {}
        self._scope = {"table_name": contract.table}
        self._folders: dict[date, str] = {}

    def plan(self, days: Sequence[date]) -> dict[date, FileSet]:
        """Settle the days that need no reading; return the others with their files."""
        folders = landing_folders(self.landing, self.contract.table)
        self._folders = folders.days
        raw = self.contract.raw_table
        first, last = min(days, default=None), max(days, default=None)
        version = self.warehouse.version(raw)
        accepted = self.warehouse.fingerprints(raw, first=first, last=last)
        rejected = self.warehouse.fingerprints(QUARANTINE, self._scope, first=first, last=last)
        rows = self.warehouse.row_counts(raw, first=first, last=last)
        todo: dict[date, FileSet] = {}
        same: dict[date, FileSet] = {}
        for day in days:
            stray = folders.stray_of(day)
            try:
                file_set = self._file_set(day) if day in folders.days else None
            except UserError as error:
                self.failures[day] = str(error)
                continue
            if stray is not None:
                self.failures[day] = stray
            elif file_set is None or not file_set.files:
                kept = rows.get(day, 0)
                self.results[day] = LandedDay(day, "missing", 0, 0, 0, 0, version, kept=kept)
            elif accepted.get(day) == rejected.get(day) and file_set.matches(accepted.get(day)):
                same[day] = file_set
            else:
                todo[day] = file_set
        self._settle_unchanged(same, version)
        return todo

    def _file_set(self, day: date) -> FileSet:
        return find_files(self.landing, self._folders[day], self.contract, self.reading)

    def _settle_unchanged(self, same: dict[date, FileSet], version: int | None) -> None:
        if not same:
            return
        first, last = min(same), max(same)
        accepted = self.warehouse.row_counts(self.contract.raw_table, first=first, last=last)
        rejected = self.warehouse.row_counts(QUARANTINE, self._scope, first=first, last=last)
        for day, file_set in same.items():
            good, bad = accepted.get(day, 0), rejected.get(day, 0)
            self.results[day] = LandedDay(
                day, "unchanged", good + bad, good, bad, len(file_set.files), version
            )

    def land(self, group: dict[date, FileSet]) -> dict[date, FileSet]:
        """Read days while the engine may hold their rows, and write these days.

        Rejects and rows have one commit each.

        Returns:
            The days that are left.
        """
        left = dict(group)
        with ExitStack() as stack:
            engine = stack.enter_context(open_engine(self.settings, MEMORY_SHARE))
            loader = Loader(
                *(engine.connection, self.landing, self.contract, self.forgotten, self.reading),
                self._day_files,
            )
            stack.callback(loader.discard_early)
            known_by = {}
            for day, file_set in group.items():
                if loader.held >= HELD_ROWS:
                    break
                del left[day]
                try:
                    known_by[day] = file_set.fingerprint
                    loader.load(day, file_set.files)
                except UserError as error:
                    self.failures[day] = str(error)
            counts = loader.finish()
            for day, count in counts.items():
                where = self._folders[day]
                problem = loader.complaint(day, where, count, self.settings.max_reject_share)
                if problem is not None:
                    self.failures[day] = problem
            fingerprints = {day: known_by[day] for day in counts}
            # Rejects first: only the raw table's fingerprint says that a day is done.
            self._write_rejects(engine, loader, fingerprints)
            good = {
                day: fingerprint
                for day, fingerprint in fingerprints.items()
                if day not in self.failures
            }
            commit = self._write_rows(engine, loader, good)
        if commit is not None:
            check_written(commit, sum(counts[day].accepted for day in good))
            for day in good:
                self.results[day] = _landed(
                    *(day, counts[day], len(group[day].files), commit.version),
                    tuple(loader.notices[day]),
                )
        return left

    def _write_rejects(self, engine: Engine, loader: Loader, fingerprints: dict[date, str]) -> None:
        if fingerprints:
            write_quarantine(
                self.warehouse,
                engine,
                loader.rejects_sql(self.contract.table),
                self._scope,
                fingerprints,
            )

    def _day_files(self, day: date) -> DayFiles:
        import pyarrow as pa

        kinds = {"VARCHAR": pa.string(), "BIGINT": pa.int64(), "DATE": pa.date32()}
        schema = pa.schema([(n, kinds[kind]) for n, kind in self.contract.raw_types().items()])
        return self.warehouse.day_files(self.contract.raw_table, schema, day)

    def _write_rows(
        self, engine: Engine, loader: Loader, fingerprints: dict[date, str]
    ) -> Commit | None:
        if not fingerprints:
            return None
        columns = ", ".join(self.contract.names)
        listed = ", ".join(f"date '{day}'" for day in fingerprints)
        sql = f"select {columns}, day as ds from {PARSED} where reject = 0 and day in ({listed})"
        return self.warehouse.replace(
            self.contract.raw_table,
            row_stream(engine, sql),
            days=fingerprints,
            fingerprints=fingerprints,
            ready=[cast(DayFiles, early.writer) for early in loader.take_early(fingerprints)],
        )


def _landed(
    day: date, count: Counts, files: int, version: int | None, notices: tuple[str, ...]
) -> LandedDay:
    return LandedDay(
        day,
        "landed",
        count.rows_in,
        count.accepted,
        count.quarantined,
        files,
        version,
        count.forgotten,
        count.no_rows,
        notices,
    )


def _groups(todo: dict[date, FileSet]) -> Iterator[dict[date, FileSet]]:
    """Consecutive days whose files are small enough together for one commit."""
    group: dict[date, FileSet] = {}
    size = 0
    for day, file_set in todo.items():
        if group and (size + file_set.size > COMMIT_BYTES or len(group) == COMMIT_DAYS):
            yield group
            group, size = {}, 0
        group[day] = file_set
        size += file_set.size
    if group:
        yield group


def _report_progress(progress: Progress | None, table: str, done: int, total: int) -> None:
    if progress is not None:
        progress(table, done, total)


def row_stream(engine: Engine, sql: str) -> RowStream:
    """A query as a stream that can be opened again: a cursor each time, so none is left busy."""

    def start() -> "pa.RecordBatchReader":
        return engine.connection.cursor().sql(sql).to_arrow_reader(STREAM_ROWS)

    return start


def write_quarantine(
    warehouse: Warehouse,
    engine: Engine,
    rejects_sql: str,
    scope: dict[str, str],
    fingerprints: dict[date, str],
) -> None:
    """Replace the rejects of some days of one table (``scope``: its ``table_name``)."""
    columns = ", ".join(
        f"cast({name} as {kind}) as {name}" for name, kind in QUARANTINE_TYPES.items()
    )
    warehouse.replace(
        QUARANTINE,
        row_stream(engine, f"select {columns} from ({rejects_sql})"),
        days=fingerprints,
        scope=scope,
        fingerprints=fingerprints,
    )


def check_written(commit: Commit, accepted: int) -> None:
    """Every accepted row is in the table.

    Raises:
        CountMismatchError: the commit has more or fewer rows.
    """
    if commit.rows != accepted:
        raise CountMismatchError(
            f"{commit.table} version {commit.version}: {accepted} rows accepted, "
            f"but {commit.rows} written"
        )
