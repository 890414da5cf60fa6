"""Build SQL models for days: skip what is up to date, test, publish in chunks."""

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

from usergrowth_dagster.settings import Settings
from usergrowth_dagster.settings.machine import size_in_bytes
from usergrowth_dagster.warehouse.duckdb_rows import DuckDBRows
from usergrowth_dagster.warehouse.earlier import earlier_versions, text_version
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.maps import with_maps
from usergrowth_dagster.warehouse.model_rows import OUTPUT, ModelInputs, ModelRows, TableDays
from usergrowth_dagster.warehouse.models import (
    RUN_SETTING_NAMES,
    InputDays,
    ModelGraph,
    Snapshot,
    load_graph,
    offset_days,
)
from usergrowth_dagster.warehouse.quality import (
    TestResult,
    model_tests,
    refuse_failures,
    run_tests,
)
from usergrowth_dagster.warehouse.spark_rows import SparkRows
from usergrowth_dagster.warehouse.tables import Warehouse

if TYPE_CHECKING:
    import pyarrow as pa

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, the steps done, and the steps in all."""

CHUNK_ROWS = 2_000_000
"""Input rows that one statement may join at most, summed over its output days."""

CHUNK_ROW_BYTES = 2_000
"""Bytes of ``memory_limit`` for each of them: its output, and the tables of groups and joins."""

COPIED_ROWS = 80_000
"""Input rows that one statement may hand on whole, with all their maps, at most."""

COPIED_ROW_BYTES = 10_000
"""Bytes of ``memory_limit`` for each of them: some 5 KB a row, read and made."""

MAX_CHUNK_DAYS = 92

BATCH_ROWS = 8_192
"""Rows on their way from the engine into files: some 40 MB, where they have all features."""


@dataclass
class Build:
    """What building one model did.

    ``immature`` days lack landed days that the model must have (a label not yet complete).
    ``rows`` were written now, ``rows_in_all`` are those of all the days asked for.
    """

    model: str
    built: list[date] = field(default_factory=list)
    unchanged: list[date] = field(default_factory=list)
    immature: list[date] = field(default_factory=list)
    rows: int = 0
    rows_in_all: int = 0
    version: int | None = None
    code_version: str = ""
    inputs: dict[str, int] = field(default_factory=dict)
    tests: list[TestResult] = field(default_factory=list)


class Builder:
    """Builds models of a graph in a warehouse; reads each table's state once.

    Args:
        settings: windows and engine limits.
        warehouse: where tables are read and written.
        graph: the models; the project's own by default.
    """

    def __init__(
        self, settings: Settings, warehouse: Warehouse, graph: ModelGraph | None = None
    ) -> None:
        self.settings = settings
        self.warehouse = warehouse
        self.graph = graph or load_graph()
        self._engine = _engine(settings, warehouse, self.graph)
        self._seen: dict[str, tuple[int | None, dict[date, list[str]]]] = {}
        self._rows: dict[str, dict[date, int]] = {}

    def files(self, table: str) -> dict[date, list[str]]:
        """Data files of a table by day, as of this builder's first look or own last write."""
        return self._pinned(table)[1]

    def _pinned(self, table: str) -> tuple[int | None, dict[date, list[str]]]:
        """A table's version and data files, as of the same look as :meth:`files`."""
        if table not in self._seen:
            self._seen[table] = self.warehouse.pinned(table)
        return self._seen[table]

    def _forget(self, table: str) -> None:
        self._seen.pop(table, None)
        self._rows.pop(table, None)

    @cached_property
    def run_settings(self) -> dict[str, int]:
        """The settings that models may read, by name."""
        return {name: int(getattr(self.settings, name)) for name in RUN_SETTING_NAMES}

    def input_days(self, table: str, as_of: date, wanted: Sequence[InputDays]) -> set[date]:
        """Days of a table that an output day reads."""
        landed = self.files(table)
        input_days: set[date] = set()
        for days in wanted:
            if isinstance(days, Snapshot):
                limit = as_of + timedelta(days=days.newest)
                newest = max((day for day in landed if day <= limit), default=None)
                input_days |= {newest} if newest else set()
            else:
                first, last = days.bounds(as_of, self.settings)
                input_days |= {day for day in landed if first <= day <= last}
        return input_days

    def fingerprint(self, model: str, as_of: date) -> str:
        """Hash of all that an output day is made from: code, settings, and input files."""
        return _fingerprint_of(
            self.graph.code_version(model),
            self._settings_read(model),
            self._input_files(model, as_of),
        )

    def _settings_read(self, model: str) -> dict[str, int]:
        return {name: self.run_settings[name] for name in self.graph.settings(model)}

    def _is_current(self, model: str, as_of: date, fingerprint: str, known: str | None) -> bool:
        """Whether a day that stands was made from what it would be made from now."""
        if known in (fingerprint, None):
            return known == fingerprint
        version, files = self.graph.code_version(model), self._input_files(model, as_of)
        settings = self._settings_read(model)
        same = {
            _fingerprint_of(before, settings, files) for before in earlier_versions(model, version)
        }
        text = text_version(model, version)
        if text is not None:
            same.add(_fingerprint_of(text, self.run_settings, files))
        return known in same

    def _input_files(self, model: str, as_of: date) -> list[str]:
        """Tables and names of the data files that an output day is made from."""
        lines = []
        for table, wanted in sorted(self.graph.table_inputs(model).items()):
            landed = self.files(table)
            for day in sorted(self.input_days(table, as_of, wanted)):
                lines += [f"{table} {name.rsplit('/', 1)[-1]}" for name in landed[day]]
        return lines

    def is_mature(self, model: str, as_of: date) -> bool:
        """Whether the days that the model must have ahead of ``as_of`` have landed."""
        for table, offset in self.graph.models[model].complete_with.items():
            needed = as_of + timedelta(days=offset_days(offset, self.settings))
            if max(self.files(table), default=date.min) < needed:
                return False
        return True

    def build(
        self,
        model: str,
        days: Iterable[date],
        *,
        progress: Progress | None = None,
    ) -> Build:
        """Build the days of one model that are not up to date; its inputs are read as they are.

        Raises:
            UserError: a blocking test failed; days published before it stay published.
        """
        wanted = sorted(set(days))
        result = Build(model, code_version=self.graph.code_version(model))
        result.immature = [day for day in wanted if not self.is_mature(model, day)]
        fingerprints = {
            day: self.fingerprint(model, day) for day in wanted if day not in result.immature
        }
        known = self.warehouse.fingerprints(model)
        result.unchanged = [
            day
            for day, fingerprint in fingerprints.items()
            if self._is_current(model, day, fingerprint, known.get(day))
        ]
        todo = [day for day in fingerprints if day not in set(result.unchanged)]
        done = 0
        for chunk in self._chunks(model, todo):
            self._build_chunk(model, chunk, fingerprints, result)
            done += len(chunk)
            if progress:
                progress(model, done, len(todo))
        inputs = self.graph.table_inputs(model)
        versions = {table: self.warehouse.version(table) for table in inputs}
        result.inputs = {table: v for table, v in versions.items() if v is not None}
        if result.version is None:
            result.version = self.warehouse.version(model)
        if result.version is not None:
            rows_by_day = self._row_counts(model)
            result.rows_in_all = sum(rows_by_day.get(day, 0) for day in wanted)
        return result

    def build_with_inputs(
        self, targets: Sequence[str], days: Iterable[date], *, progress: Progress | None = None
    ) -> dict[str, Build]:
        """Build some models for the same days in the graph's order."""
        wanted = list(days)
        return {
            model: self.build(model, wanted, progress=progress)
            for model in self.graph.tables
            if model in targets
        }

    def _chunks(self, model: str, days: Sequence[date]) -> Iterator[list[date]]:
        """Days that one statement builds together: as many as its bounds on input rows allow.

        A snapshot that several days share is read and hashed once, so it counts once.
        """
        inputs = self.graph.table_inputs(model)
        most = _most_rows(self.settings, CHUNK_ROWS, CHUNK_ROW_BYTES)
        most_copied = _most_rows(self.settings, COPIED_ROWS, COPIED_ROW_BYTES)
        copied = [ref for ref in self.graph.models[model].inherit if ref in inputs]
        chunk: list[date] = []
        shared: set[tuple[str, date]] = set()
        rows = whole = 0
        for day in days:
            joined, snapshots, copies = self._rows_read(model, day, copied)
            new = sum(count for key, count in snapshots.items() if key not in shared)
            full = (
                rows + joined + new > most
                or whole + copies > most_copied
                or len(chunk) >= MAX_CHUNK_DAYS
            )
            if chunk and full:
                yield chunk
                chunk, shared, rows, whole = [], set(), 0, 0
                new = sum(snapshots.values())
            chunk.append(day)
            shared |= snapshots.keys()
            rows += joined + new
            whole += copies
        if chunk:
            yield chunk

    def _rows_read(
        self, model: str, day: date, copied: Sequence[str]
    ) -> tuple[int, dict[tuple[str, date], int], int]:
        """Input rows of an output day: of its windows, of each snapshot, and of copied tables.

        What passes one date at a time is left out.
        """
        joined = copies = 0
        snapshots: dict[tuple[str, date], int] = {}
        for table, wanted in self.graph.inputs_at_once(model).items():
            counts = self._row_counts(table)
            windows = [days for days in wanted if not isinstance(days, Snapshot)]
            newest = [days for days in wanted if isinstance(days, Snapshot)]
            read = sum(counts.get(one, 0) for one in self.input_days(table, day, windows))
            kept = {(table, one): counts.get(one, 0) for one in self.input_days(table, day, newest)}
            joined += read
            snapshots |= kept
            copies += read + sum(kept.values()) if table in copied else 0
        return joined, snapshots, copies

    def _row_counts(self, table: str) -> dict[date, int]:
        if table not in self._rows:
            self._rows[table] = self.warehouse.row_counts(table)
        return self._rows[table]

    def _build_chunk(
        self, model: str, days: list[date], fingerprints: Mapping[date, str], result: Build
    ) -> None:
        with open_engine(self.settings) as engine:
            self._engine.make(engine, model, self._inputs(model, days))
            declared = self.graph.types(model)
            tests = run_tests(engine, OUTPUT, model_tests(self.graph, model))
            _merge_tests(result, tests)
            refuse_failures(model, _span(days), tests)
            with self._alone(model):
                known = self.warehouse.fingerprints(model)
                left = [day for day in days if known.get(day) != fingerprints[day]]
                result.unchanged += [day for day in days if day not in left]
                if left:
                    commit = self.warehouse.replace(
                        model,
                        lambda: with_maps(_by_day(engine, left), declared),
                        days=left,
                        fingerprints={day: fingerprints[day] for day in left},
                    )
                    result.built += left
                    result.rows += commit.rows
                    result.version = commit.version
        self._forget(model)

    @contextmanager
    def _alone(self, model: str) -> Iterator[None]:
        """Keep the home's other processes from publishing days of a model meanwhile.

        Days that another process has published since this one began are then left as they are:
        the same rows in new files would make all that is made from them anew.
        """
        folder = self.settings.home / "locks" / "tables"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{model}.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _inputs(self, model: str, days: Sequence[date]) -> ModelInputs:
        """All that a model reads for some output days."""

        def read(table: str, wanted: Sequence[InputDays]) -> TableDays:
            pinned = self._pinned(table)
            return TableDays(table, *pinned, frozenset(self._needed(table, days, wanted)))

        return ModelInputs(
            days,
            self.run_settings,
            {name: read(name, some) for name, some in self.graph.direct_inputs(model).items()},
            {
                view: read(self.graph.monthly_table(view), some)
                for view, some in self.graph.monthly_inputs(model).items()
            },
        )

    def _needed(self, table: str, days: Sequence[date], wanted: Sequence[InputDays]) -> set[date]:
        """Days of a table that some output days read together."""
        return set().union(*(self.input_days(table, day, wanted) for day in days))


def _engine(settings: Settings, warehouse: Warehouse, graph: ModelGraph) -> ModelRows:
    """What makes the rows of models, as the settings say."""
    if settings.engine == "spark":
        return SparkRows(settings, warehouse, graph)
    return DuckDBRows(warehouse.storage, graph, settings.memory_limit)


def _most_rows(settings: Settings, most: int, row_bytes: int) -> int:
    """Input rows of one statement: at most so many, and no more than the engine has memory for."""
    limit = size_in_bytes(settings.memory_limit)
    return most if limit is None else min(most, limit // row_bytes)


def _by_day(engine: Engine, days: Sequence[date]) -> "pa.RecordBatchReader":
    """The rows of the output day by day: sorting wide rows costs more than to make them.

    A day without rows is not asked for: most days of a table of snapshots have none.
    """
    import pyarrow as pa

    filled = {row[0] for row in engine.rows(f"select distinct ds from {OUTPUT}")}
    schema = engine.arrow(f"select * from {OUTPUT} limit 0").schema
    parts = (
        engine.stream(f"select * from {OUTPUT} where ds = date '{day.isoformat()}'", BATCH_ROWS)
        for day in days
        if day in filled
    )
    return pa.RecordBatchReader.from_batches(schema, chain.from_iterable(parts))


def _fingerprint_of(version: str, settings: Mapping[str, int], files: Sequence[str]) -> str:
    """The fingerprint of an output day, from the version of its code, settings, and input files."""
    lines = [version, json.dumps(settings, sort_keys=True), *files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _span(days: Sequence[date]) -> str:
    return days[0].isoformat() if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _merge_tests(result: Build, tests: Sequence[TestResult]) -> None:
    failing = {test.name: test.failing for test in result.tests}
    result.tests = [
        TestResult(test.name, test.failing + failing.get(test.name, 0), test.blocking)
        for test in tests
    ]
