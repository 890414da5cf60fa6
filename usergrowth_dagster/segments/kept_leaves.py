"""The people of leaves about events, kept in files of the home so that they are worked out once.

A file has the users who match one leaf on one execution date. Its name is a hash of the leaf's
statement and of the data files that the statement reads, so a change of the leaf, of the
code, of the date or of a table gives another name. Only leaves of events are kept: others are as
quick to work out anew as to read. `usergrowth forget` empties the folder.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import date
from pathlib import Path

from usergrowth_dagster.data.storage import file_literal
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.segments.compile import (
    FEATURES,
    Inputs,
    compile_leaves,
    compile_segment,
)
from usergrowth_dagster.segments.definition import Named, Node, Segment
from usergrowth_dagster.segments.inputs import tables_mark
from usergrowth_dagster.segments.leaves import Event, Sequence
from usergrowth_dagster.segments.lifecycle import Lifecycle
from usergrowth_dagster.warehouse.engine import Engine

FOLDER = "segment_leaves"
"""Folder of a home with the files."""

MOST_BYTES = 256 << 20
"""Bytes of all files; those that were not read for the longest time go first."""

LEAST_PEOPLE = 50_000
"""With fewer people every leaf is worked out at once, and nothing is kept."""

_LOCK = "segment_leaves"


class KeptLeaves:
    """The leaves of events of one segment's tree on one date.

    Args:
        engine: gets the people of leaves that are known.
        project: the home.
        named: the segment.
        day: the execution date.
    """

    def __init__(self, engine: Engine, project: Project, named: Named, day: date) -> None:
        self._engine, self._project, self._named, self._day = engine, project, named, day
        self._folder = project.settings.home / FOLDER
        counts = project.warehouse.row_counts(FEATURES, first=day, last=day)
        is_large = sum(counts.values()) >= LEAST_PEOPLE
        self._names = dict(self._named_files()) if is_large else {}
        self._tables: dict[str, str] = {}

    def _named_files(self) -> Iterator[tuple[str, str]]:
        """By path of a leaf, the name of its file; none of a leaf that breaks a rule."""
        segment, known_days = self._named.segment, self._project.settings.history_days
        for at, leaf in segment.leaves():
            if isinstance(leaf, Event | Sequence | Lifecycle):
                node = Node.model_validate({at.rpartition(".")[2]: leaf})
                alone = Segment(missing=segment.missing, where=node)
                with suppress(UserError):
                    sql = compile_segment(alone, "", self._day, Inputs({}, known_days))
                    mark = tables_mark(self._project, alone, self._day)
                    yield at, hashlib.sha256(f"{sql}\n{mark}".encode()).hexdigest()[:32]

    def bind_kept(self) -> Mapping[str, str]:
        """By path of a leaf that is kept, a table of the engine with its ``user_id``."""
        import duckdb

        for name in dict.fromkeys(self._names.values()):
            path, table = self._path(name), f"kept_{name}"
            if not path.exists():
                continue
            try:
                self._engine.run(
                    f"create or replace temp table {table} as "
                    f"select user_id from read_parquet({file_literal(str(path))})"
                )
            except duckdb.Error:  # damaged, or taken away meanwhile
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                continue
            with suppress(OSError):  # of a home that is only read
                os.utime(path)
            self._tables |= {one: table for one, same in self._names.items() if same == name}
        return self._tables

    def fill(self, inputs: Inputs) -> Mapping[str, str]:
        """Work out the people of all other leaves of events by one statement, and keep them.

        Args:
            inputs: what the statement reads, bound in the engine.

        Returns:
            As :meth:`bind_kept`, of every leaf.

        Raises:
            UserError: a leaf breaks a rule.
        """
        import duckdb

        missing = {name: at for at, name in self._names.items() if at not in self._tables}
        if not missing:
            return self._tables
        paths = tuple(missing.values())
        sql = compile_leaves(self._named.segment, self._named.origin, self._day, inputs, paths)
        self._engine.run(f"create or replace temp table leaf_flags as {sql}")
        for place, name in enumerate(missing):
            self._engine.run(
                f"create or replace temp view kept_{name} as "
                f"select user_id from leaf_flags where leaf_{place}"
            )
            same = [at for at, one in self._names.items() if one == name]
            self._tables |= dict.fromkeys(same, f"kept_{name}")
        with suppress(OSError, duckdb.IOException):  # a full disk must not stop a segment
            self._keep(list(missing))
        return self._tables

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.parquet"

    def _keep(self, names: list[str]) -> None:
        """Write files, unless a table has changed meanwhile: a person may have been forgotten."""
        with self._project.alone(_LOCK):
            if dict(self._named_files()) != self._names:
                return
            self._folder.mkdir(mode=0o700, exist_ok=True)
            for name in names:
                draft = self._folder / f".{name}.tmp"
                self._write(f"select user_id from kept_{name}", draft)
                draft.replace(self._path(name))
            _make_room(self._folder)

    def _write(self, sql: str, path: Path) -> None:
        """Write rows into a file that its owner alone may read; the engine opens no file itself."""
        from pyarrow import parquet

        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            rows = self._engine.stream(sql)
            with parquet.ParquetWriter(file, rows.schema) as writer:
                for batch in rows:
                    writer.write_batch(batch)


def _make_room(folder: Path) -> None:
    """Remove files until the others fit."""
    files = [(path, path.stat()) for path in folder.iterdir()]
    left = sum(stat.st_size for _, stat in files)
    for path, stat in sorted(files, key=lambda one: one[1].st_mtime_ns):
        if left <= MOST_BYTES:
            return
        path.unlink()
        left -= stat.st_size


def empty(project: Project) -> None:
    """Remove every file; call it when the tables hold nothing more of a person."""
    with project.alone(_LOCK):
        shutil.rmtree(project.settings.home / FOLDER, ignore_errors=True)
