"""One person's rows out of every Delta table, and out of every file that ever held them.

A table's present version is rewritten first, whole days in a commit, without the rows; then each
data file of any version that still holds some is removed. Earlier versions of those days cannot be
read any more; all others can. Killed at any place, the next call goes on.
"""

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from usergrowth_dagster.data.contracts import IDENTITY
from usergrowth_dagster.data.storage import StoredFile, file_literal
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.landing import QUARANTINE, row_stream
from usergrowth_dagster.warehouse.tables import Warehouse

if TYPE_CHECKING:
    from deltalake import DeltaTable

ORPHAN_AGE = timedelta(hours=1)
"""A data file that no version names belongs to an unfinished write while it is younger."""

_TRIES = 8
_DAYS = 400  # days of one commit
_LOOK_FILES = 500
_LOOK_BYTES = 1 << 30
"""How many files, and bytes of them, are looked through at once; so much may be copied for it."""
_REMOVERS = 8


@dataclass(frozen=True)
class Person:
    """Whose rows: a user id."""

    user_id: str

    def rows_sql(self, table: str, columns: Collection[str]) -> str:
        """Condition on a table's row: it is the person's, or names the person beside another.

        Args:
            table: its name.
            columns: names of its columns.
        """
        user = literal(self.user_id)
        if table != QUARANTINE:
            named = [f"user_id = {user}"]
            if "other_user_id" in columns:
                named.append(f"other_user_id = {user}")
            if {"id_type", "id_value"} <= {*columns}:
                named.append(f"(id_type = 'user_id' and id_value = {user})")
            return f"coalesce({' or '.join(named)}, false)" if named[1:] else named[0]
        # Digits of rejected rows with addresses are masked, so ids of one shape are not distinct.
        masked = literal("".join("*" if c.isdecimal() else c for c in self.user_id))
        cells = "string_split(replace(raw_row, '\"', ''), ',')"
        return (
            f"coalesce(list_contains({cells}, {user}) or ((table_name like 'population%' "
            f"or table_name = {literal(IDENTITY)}) and list_contains({cells}, {masked})), false)"
        )


@dataclass
class Erased:
    """What was erased of one table, or is to be: rows, days rewritten, files removed.

    ``busy`` files belong to a write that is not finished; they hold rows of the person too.
    """

    table: str
    rows: int = 0
    days: int = 0
    files: int = 0
    busy: int = 0


def person_tables(warehouse: Warehouse) -> list[str]:
    """Tables that may hold a person's rows: those with a user id, and the quarantine."""
    names = warehouse.tables()
    return [n for n in names if n == QUARANTINE or "user_id" in warehouse.columns(n)]


def erase_person(
    settings: Settings,
    warehouse: Warehouse,
    table: str,
    person: Person,
    *,
    dry_run: bool = False,
    known: dict[str, int] | None = None,
) -> Erased:
    """Erase a person from a table; in the quarantine the row stays, without its text.

    Args:
        settings: limits of the engine.
        warehouse: where the tables are.
        table: one of :func:`person_tables`.
        person: whose rows.
        dry_run: count only.
        known: the person's rows by path of the data files that were read before; those of others
            are added. A data file never changes, so it is read once.

    Raises:
        UserError: others kept writing the same days.
    """
    result = Erased(table)
    with open_engine(settings) as engine:
        erasure = _Erasure(engine, warehouse, table, person, {} if known is None else known)
        files = erasure.files_of_person()
        result.files = len(files)
        if dry_run and files:
            result.rows, result.days = erasure.count()
        elif files:
            _rewrite_until_gone(erasure, result)
            files = erasure.files_of_person()
            result.files = erasure.remove(files)
            result.busy = len(files) - result.files
    return result


def _rewrite_until_gone(erasure: "_Erasure", result: Erased) -> None:
    from deltalake.exceptions import CommitFailedError

    for attempt in range(_TRIES):
        try:
            for rows, days in erasure.rewrite():
                result.rows += rows
                result.days += days
            return
        except CommitFailedError:  # somebody wrote the same days meanwhile
            time.sleep(0.2 * 2**attempt)
    raise UserError(
        f"table {erasure.table}: other processes kept writing the days that hold the person; run "
        "the same command again when they have ended",
        code="store.busy",
    )


class _Erasure:
    """One table in one engine."""

    def __init__(
        self,
        engine: Engine,
        warehouse: Warehouse,
        table: str,
        person: Person,
        known: dict[str, int],
    ) -> None:
        self.engine, self.warehouse, self.table, self.known = engine, warehouse, table, known
        self.mine = person.rows_sql(table, warehouse.columns(table))
        self.folder = f"tables/{table}"

    def files_of_person(self) -> dict[str, int]:
        """The person's rows by data file that holds some: its path below the storage's root."""
        files = self._stored()
        if unread := [file for file in files if file.path not in self.known]:
            keys = self._keys(self.warehouse.open(self.table))
            for some in _portions(unread):
                self.known |= self._rows_in(some, keys)
        return {file.path: self.known[file.path] for file in files if self.known[file.path]}

    def _rows_in(self, files: Sequence[StoredFile], keys: Sequence[str]) -> dict[str, int]:
        uris = [file.uri for file in files]
        with ExitStack() as stack:
            if self.engine.cache is not None:
                aside = self.engine.scratch / "looked through"
                uris = stack.enter_context(self.engine.cache.lent(uris, aside))
            rows = dict(
                self.engine.rows(
                    f"select filename, count(*) from {_source(uris, keys)} "
                    f"where {self.mine} group by filename"
                )
            )
        return {file.path: rows.get(uri, 0) for file, uri in zip(files, uris, strict=True)}

    def _stored(self) -> list[StoredFile]:
        """The data files of all versions, and of no version yet."""
        log = f"{self.folder}/_delta_log/"
        files = self.warehouse.storage.files(self.folder, deep=True)
        return [
            file
            for file in files
            if file.path.endswith(".parquet") and not file.path.startswith(log)
        ]

    def _source_of(self, paths: Sequence[str], base: "DeltaTable") -> str:
        uris = [self.warehouse.storage.uri(path) for path in paths]
        local = uris if self.engine.cache is None else self.engine.cache.local(uris)
        return _source(local, self._keys(base))

    def count(self) -> tuple[int, int]:
        """Rows and days of the person in the present version."""
        base = self.warehouse.open(self.table)
        holding = self.files_of_person()
        counted = [_by_day(files, holding) for files in self._days(base).values()]
        return sum(sum(days.values()) for days in counted), sum(map(len, counted))

    def _keys(self, base: "DeltaTable") -> list[str]:
        return list(base.metadata().partition_columns)

    def _days(self, base: "DeltaTable") -> dict[tuple[str, ...], dict[date, list[str]]]:
        """Data files of a version, by the values of further partition columns and by day."""
        keys = [key for key in self._keys(base) if key != "ds"]
        actions = base.get_add_actions(flatten=True)
        columns = [actions.column(f"partition.{key}").to_pylist() for key in ("ds", *keys)]
        scopes: dict[tuple[str, ...], dict[date, list[str]]] = {}
        for path, day, *values in zip(actions.column("path").to_pylist(), *columns, strict=True):
            where = scopes.setdefault(tuple(values), {})
            where.setdefault(day, []).append(f"{self.folder}/{unquote(path)}")
        return scopes

    def rewrite(self) -> Iterator[tuple[int, int]]:
        """Commit the days that hold the person without the rows; yields rows and days of each."""
        base = self.warehouse.open(self.table)
        holding = self.files_of_person()  # afterwards: it has all files of this version
        keys = [key for key in self._keys(base) if key != "ds"]
        for values, by_day in self._days(base).items():
            counted = _by_day(by_day, holding)
            wanted = sorted(counted)
            scope = dict(zip(keys, values, strict=True))
            for start in range(0, len(wanted), _DAYS):
                days = wanted[start : start + _DAYS]
                self._write(base, {day: by_day[day] for day in days}, scope)
                base = self.warehouse.open(self.table)
                yield sum(counted[day] for day in days), len(days)

    def _write(
        self, base: "DeltaTable", by_day: Mapping[date, list[str]], scope: Mapping[str, str]
    ) -> None:
        fingerprints = self.warehouse.fingerprints(self.table, scope)
        notes = self._notes(by_day, scope, base)
        files = [file for some in by_day.values() for file in some]
        source = self._source_of(files, base)
        present = set(self.engine.describe(f"select * from {source}"))
        names = [f.name for f in base.schema().fields if f.name in present]
        blank = self.table == QUARANTINE
        listed = ", ".join(
            f"case when {self.mine} then null else {name} end as {name}"
            if blank and name in ("raw_row", "broken")
            else identifier(name)
            for name in names
        )
        sql = f"select {listed} from {source}"
        if not blank:
            sql += f" where ({self.mine}) is not true"
        self.warehouse.rewrite(
            base,
            self.table,
            row_stream(self.engine, sql),
            days=by_day,
            scope=scope,
            fingerprints={day: fingerprints[day] for day in by_day if day in fingerprints},
            notes=notes,
        )

    def _notes(
        self, by_day: Mapping[date, list[str]], scope: Mapping[str, str], base: "DeltaTable"
    ) -> dict[date, dict[str, Any]]:
        """The days' notes; where rows have an arm, with how many were erased of each so far."""
        notes = self.warehouse.notes(self.table, scope)
        kept = {day: dict(notes[day]) for day in by_day if day in notes}
        if kept and "arm" in {field.name for field in base.schema().fields}:
            files = [file for day in kept for file in by_day[day]]
            source = self._source_of(files, base)
            for day, arm, rows in self.engine.rows(
                f"select ds, arm, count(*) from {source} where {self.mine} group by ds, arm"
            ):
                erased = dict(kept[day].get("erased", {}))
                kept[day]["erased"] = erased | {arm: erased.get(arm, 0) + rows}
        return kept

    def remove(self, paths: Collection[str]) -> int:
        """Remove files that the present version does not need; returns how many."""
        storage = self.warehouse.storage
        present = {f for files in self.warehouse.files(self.table).values() for f in files}
        if present & {storage.uri(path) for path in paths}:
            raise UserError(
                f"table {self.table}: another process has written the person again; run the "
                "same command again when it has ended",
                code="store.busy",
            )
        young = {path for path in paths if self._age(path) <= ORPHAN_AGE}
        named = self._named() if young else set()
        going = [path for path in paths if path not in young or path in named]
        with ThreadPoolExecutor(_REMOVERS) as threads:
            list(threads.map(storage.remove, going))
        if self.engine.cache is not None:
            self.engine.cache.drop([storage.uri(path) for path in going])
        return len(going)

    def _named(self) -> set[str]:
        """Paths of the data files of every version, from the table's log, which is kept whole."""
        storage = self.warehouse.storage
        named = set()
        for entry in storage.files(f"{self.folder}/_delta_log"):
            if entry.name.endswith(".json"):
                for line in storage.read_bytes(entry.path).splitlines():
                    action: dict[str, Any] = json.loads(line)
                    if "add" in action:
                        named.add(f"{self.folder}/{action['add']['path']}")
        return named

    def _age(self, path: str) -> timedelta:
        return datetime.now(UTC) - self.warehouse.storage.modified(path)


def _source(files: Sequence[str], keys: Sequence[str]) -> str:
    """The rows of data files with their files' names, as SQL; partition columns are ``keys``."""
    listed = ", ".join(file_literal(name) for name in files)
    kinds = ", ".join(f"{literal(key)}: {'DATE' if key == 'ds' else 'VARCHAR'}" for key in keys)
    partitions = f"hive_partitioning=true, hive_types={{{kinds}}}" if keys else ""
    return (
        f"read_parquet([{listed}], union_by_name=true, filename=true, "
        f"{partitions or 'hive_partitioning=false'})"
    )


def _portions(files: Sequence[StoredFile]) -> Iterator[Sequence[StoredFile]]:
    """The files in portions that are looked through at once."""
    portion: list[StoredFile] = []
    size = 0
    for file in files:
        if portion and (len(portion) == _LOOK_FILES or size + file.size > _LOOK_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(file)
        size += file.size
    if portion:
        yield portion


def _by_day(by_day: Mapping[date, Sequence[str]], holding: Mapping[str, int]) -> dict[date, int]:
    """The person's rows by day, of days that have some."""
    counted = {day: sum(holding.get(file, 0) for file in files) for day, files in by_day.items()}
    return {day: rows for day, rows in counted.items() if rows}
