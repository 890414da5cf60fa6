"""One person's rows out of every Delta table, and out of every file that ever held them.

A table's present version is rewritten first, whole days in a commit, without the rows; then each
data file of any version that still holds some is removed. Earlier versions of those days cannot be
read any more; all others can. Killed at any place, the next call goes on.
"""

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from usergrowth_dagster.data.contracts import IDENTITY
from usergrowth_dagster.data.storage import file_literal
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
) -> Erased:
    """Erase a person from a table; in the quarantine the row stays, without its text.

    Args:
        settings: limits of the engine.
        warehouse: where the tables are.
        table: one of :func:`person_tables`.
        person: whose rows.
        dry_run: count only.

    Raises:
        UserError: others kept writing the same days.
    """
    result = Erased(table)
    with open_engine(settings) as engine:
        erasure = _Erasure(engine, warehouse, table, person)
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

    def __init__(self, engine: Engine, warehouse: Warehouse, table: str, person: Person) -> None:
        self.engine, self.warehouse, self.table = engine, warehouse, table
        self.mine = person.rows_sql(table, warehouse.columns(table))
        self.folder = f"tables/{table}"

    def _source(self, files: Sequence[str], keys: Sequence[str] = ()) -> str:
        listed = ", ".join(file_literal(name) for name in files)
        kinds = ", ".join(f"{literal(key)}: {'DATE' if key == 'ds' else 'VARCHAR'}" for key in keys)
        return (
            f"read_parquet([{listed}], union_by_name=true, filename=true, "
            + (f"hive_partitioning=true, hive_types={{{kinds}}})" if keys else "")
            + ("" if keys else "hive_partitioning=false)")
        )

    def files_of_person(self) -> list[str]:
        """Paths, below the storage's root, of all data files that hold rows of the person."""
        paths = [f for f in self._stored() if f.endswith(".parquet")]
        by_uri = {self.warehouse.storage.uri(path): path for path in paths}
        names = []
        keys = self._keys(self.warehouse.open(self.table))
        for group in _groups(list(by_uri)):
            names += self.engine.rows(
                f"select distinct filename from {self._source(group, keys)} where {self.mine}"
            )
        return sorted(by_uri[name] for (name,) in names)

    def _stored(self) -> list[str]:
        log = f"{self.folder}/_delta_log/"
        files = self.warehouse.storage.files(self.folder, deep=True)
        return [file.path for file in files if not file.path.startswith(log)]

    def count(self) -> tuple[int, int]:
        """Rows and days of the person in the present version."""
        base = self.warehouse.open(self.table)
        rows = days = 0
        for _, by_day in self._days(base).items():
            counted = self._counts([f for files in by_day.values() for f in files], base)
            rows += sum(counted.values())
            days += len(counted)
        return rows, days

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
            where.setdefault(day, []).append(
                self.warehouse.storage.uri(f"{self.folder}/{unquote(path)}")
            )
        return scopes

    def _counts(self, files: Sequence[str], base: "DeltaTable") -> dict[date, int]:
        counted: dict[date, int] = {}
        for group in _groups(files):
            source = self._source(group, self._keys(base))
            for day, rows in self.engine.rows(
                f"select ds, count(*) from {source} where {self.mine} group by ds"
            ):
                counted[day] = counted.get(day, 0) + rows
        return counted

    def rewrite(self) -> Iterator[tuple[int, int]]:
        """Commit the days that hold the person without the rows; yields rows and days of each."""
        base = self.warehouse.open(self.table)
        keys = [key for key in self._keys(base) if key != "ds"]
        for values, by_day in self._days(base).items():
            counted = self._counts([f for files in by_day.values() for f in files], base)
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
        source = self._source([f for files in by_day.values() for f in files], self._keys(base))
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
            source = self._source([f for day in kept for f in by_day[day]], self._keys(base))
            for day, arm, rows in self.engine.rows(
                f"select ds, arm, count(*) from {source} where {self.mine} group by ds, arm"
            ):
                erased = dict(kept[day].get("erased", {}))
                kept[day]["erased"] = erased | {arm: erased.get(arm, 0) + rows}
        return kept

    def remove(self, paths: Sequence[str]) -> int:
        """Remove files that the present version does not need; returns how many."""
        storage = self.warehouse.storage
        present = {f for files in self.warehouse.files(self.table).values() for f in files}
        named = self._named() if paths else set()
        removed = 0
        for path in paths:
            if storage.uri(path) in present:
                raise UserError(
                    f"table {self.table}: another process has written the person again; run the "
                    "same command again when it has ended",
                    code="store.busy",
                )
            if path in named or self._age(path) > ORPHAN_AGE:
                storage.remove(path)
                if self.engine.cache is not None:
                    self.engine.cache.drop([storage.uri(path)])
                removed += 1
        return removed

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


def _groups(files: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    for start in range(0, len(files), size):
        yield files[start : start + size]
