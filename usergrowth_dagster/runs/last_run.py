"""The last run of a date that changed nothing: the same run again would change nothing either.

What a run reads and writes is seen in marks that cost little: versions of the tables, times and
sizes of files, the heads of the databases' files. A run that leaves all of them as it found them is
written down with its report. While the marks stay the same, that report is the answer, and neither
Dagster nor MLflow nor an engine is needed. A run that changed something is never written down,
since somebody else may have changed something meanwhile.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from usergrowth_dagster import __version__
from usergrowth_dagster.data.contracts import LANDING_TABLES
from usergrowth_dagster.data.object_store import open_storage
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.runs.reports import ChainReport, read, written
from usergrowth_dagster.settings import CONFIG_NAME, Settings
from usergrowth_dagster.settings.places import sqlite_file
from usergrowth_dagster.sources.definition import FILE_NAME as SOURCES
from usergrowth_dagster.sources.definition import read_sources
from usergrowth_dagster.sources.files import matching_files

FILE = "last_run.json"
"""File of a home that keeps the last run that changed nothing."""

_ENVIRONMENT = ("USERGROWTH_", "DAGSTER_", "MLFLOW_", "AWS_", "TZ")
_HOME_FILES = (CONFIG_NAME, "secret.key", "credentials.toml")
_SQLITE_HEAD = 100  # bytes; the counter of changes is among them
_WAL_HEAD = 32  # bytes; new salts whenever the log starts over


class LastRun:
    """The marks of a date's run, taken before it begins, and the record of an earlier one.

    Args:
        settings: of the home.
        day: the execution date.
        asked: whether a person named the date.
    """

    def __init__(self, settings: Settings, day: date, *, asked: bool) -> None:
        self.settings, self.day, self.asked = settings, day, asked
        self.file = settings.home / FILE
        self.began = datetime.now(UTC)
        # Libraries add to it while they run.
        self._environment = sorted(i for i in os.environ.items() if i[0].startswith(_ENVIRONMENT))
        self._record = self._read()
        self.before: str | None = None

    def begin(self) -> None:
        """Take the marks before the run, unless they are taken."""
        self.before = self.before or self._marks()

    def report(self) -> ChainReport | None:
        """What the run would report, where it would change nothing; None: it has to be made."""
        record = self._record
        if record is not None:
            self.begin()
        if record is None or self.before is None or record["marks"] != self.before:
            return None
        if any(self._tag(path) != tag for path, tag in record["outputs"].items()):
            return None
        return read(record["report"], record["time"])

    def keep(self, report: ChainReport) -> bool:
        """Write a run down that changed nothing and of which nothing waits; says whether it did."""
        if report.has_failures or report.measure is not None or report.rehearsed is not None:
            return False
        if self.before is None or not self._is_settled(report) or self._marks() != self.before:
            return False
        outputs = {path: self._tag(path) for path in _output_files(report)}
        if None in outputs.values():
            return False
        document = {
            "outputs": outputs,
            "marks": self.before,
            "time": self.began.isoformat(timespec="seconds"),
            "report": written(report),
        }
        with suppress(OSError):  # a home that cannot be written keeps no record
            content = json.dumps(document, ensure_ascii=False, indent=1).encode()
            Storage(str(self.settings.home)).write_bytes(FILE, content)
            return True
        return False

    def _read(self) -> dict[str, Any] | None:
        try:
            record = json.loads(self.file.read_bytes())
            read(record["report"], record["time"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return None
        whole = isinstance(record.get("marks"), str) and isinstance(record.get("outputs"), dict)
        return dict(record) if whole else None

    def _tag(self, path: str) -> str | None:
        """The tag of a file below the landing root that is older than this command."""
        landing = open_storage(self.settings, self.settings.landing_root)
        folder, _, name = path.rpartition("/")
        tags = {file.name: file.tag for file in landing.files(folder)}
        return tags[name] if name in tags and landing.modified(path) < self.began else None

    def _is_settled(self, report: ChainReport) -> bool:
        """Whether the date's tasks are planned for good and no message waits for its hour."""
        from usergrowth_dagster.control.codes import JobStatus
        from usergrowth_dagster.control.tasks import tasks_for
        from usergrowth_dagster.messaging.dispatching.due import time_matters

        runs = [run for run in (report.ingest, report.decide) if run is not None]
        reported = [metadata for run in runs for metadata in run.metadata.values()]
        if any("left_to_another_run" in metadata for metadata in reported):
            return False
        store = Project(self.settings).store
        try:
            tasks = tasks_for(store, self.day)
            planned = all(task.status == JobStatus.SUCCESS and task.frozen for task in tasks)
            return bool(tasks) and planned and not time_matters(store, self.settings)
        finally:
            store.close()

    def _marks(self) -> str | None:
        """One hash over all that the run depends on; None where that cannot be known so cheaply."""
        files = [sqlite_file(url) for url in (self.settings.database, self.settings.tracking_uri)]
        databases = [file for file in files if file is not None]
        if len(databases) < len(files):  # on another machine
            return None
        try:
            sources = list(self._source_marks())
        except UserError:
            return None
        lines: list[Any] = [
            ("run", self.day, self.asked, self.settings.current_date(), __version__, sys.version),
            ("settings", self.settings.model_dump_json()),
            ("environment", self._environment),
            ("home", [_file_mark(self.settings.home / name) for name in _HOME_FILES]),
            ("databases", [_database_mark(file) for file in databases]),
            ("code", list(_code_marks())),
            ("tables", list(self._table_marks())),
            ("landing", list(self._landing_marks())),
            ("sources", sources),
            ("reports", _tree_marks(self.settings.home / "reports")),
        ]
        return hashlib.sha256(repr(lines).encode()).hexdigest()

    def _table_marks(self) -> Iterator[tuple[str, int | None]]:
        warehouse = Project(self.settings).warehouse
        for table in warehouse.tables():
            yield table, warehouse.version(table)

    def _landing_marks(self) -> Iterator[Any]:
        """Names of everything that a run looks for, and the files of the days that it lands."""
        landing = open_storage(self.settings, self.settings.landing_root)
        days = [
            self.day - timedelta(days=place) for place in range(self.settings.catch_up_days + 2)
        ]
        wanted = {f"ds={text}" for day in days for text in (f"{day:%Y%m%d}", f"{day}")}
        yield landing.folders(), [(file.path, file.tag) for file in landing.files()]
        for table in LANDING_TABLES:
            folders = landing.folders(table)
            yield table, folders, [(file.path, file.tag) for file in landing.files(table)]
            for folder in sorted(wanted & set(folders)):
                files = landing.files(f"{table}/{folder}", deep=True)
                yield [(file.path, file.tag) for file in files]
        yield [(file.path, file.tag) for file in landing.files("population", deep=True)]

    def _source_marks(self) -> Iterator[Any]:
        """What sources.yml says, and the files that its patterns name."""
        path = self.settings.home / SOURCES
        yield _file_mark(path)
        for source in read_sources(path) if path.exists() else ():
            files = matching_files(source, self.settings.home)
            yield source.name, [(file.uri, file.tag) for file in files]


def _file_mark(file: Path) -> tuple[int, int] | None:
    """Size and time of change; None when the file is not there."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _database_mark(file: Path) -> list[Any]:
    """What every change of an SQLite database changes, in its file or in the log beside it."""
    marks: list[Any] = []
    for part, length in ((file, _SQLITE_HEAD), (Path(f"{file}-wal"), _WAL_HEAD)):
        mark = _file_mark(part)
        if mark is not None and mark[0] > 0:  # an empty log is left by who reads
            with suppress(OSError), part.open("rb") as handle:
                marks.append((mark, handle.read(length)))
    return marks


def _code_marks() -> Iterator[Any]:
    """The product's own files, its SQL, and the versions of all that is installed."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package, package.parent / "sql", package.parent / "dbt_like_models"):
        yield _tree_marks(folder)
    for place in sys.path:
        with suppress(OSError):
            yield sorted(entry.name for entry in Path(place).glob("*.dist-info"))


def _tree_marks(folder: Path) -> list[tuple[str, int, int]]:
    """Path, size and time of change of all files below a folder, compiled ones left out."""
    marks = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in names:
            if (mark := _file_mark(Path(parent, name))) is not None:
                marks.append((os.path.relpath(f"{parent}/{name}", folder), *mark))
    return sorted(marks)


def _output_files(report: ChainReport) -> list[str]:
    """Paths of the output.csv that the run looked at, below the landing root."""
    metadata = report.decide.metadata.get("selection_output", {}) if report.decide else {}
    tasks = metadata.get("by_task")
    return [] if tasks is None else [line[tasks.header.index("file")] for line in tasks.lines]
