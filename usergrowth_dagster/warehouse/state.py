"""What the newest commits say of each day of a table, kept so that no history is read again.

The state is derived from the Delta log and from nothing else. It names the newest commit that it
includes and the hash of that commit's text: a look at a table reads this one commit, asks whether a
later one exists, and adds only those that do. Days lie on pages, a month each; the head holds a
hash over all pages. Whatever does not fit (another log, a changed page, a damaged file) is thrown
away with a warning and derived again.
"""

import hashlib
import json
import logging
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, unquote

from usergrowth_dagster.data.storage import Storage

if TYPE_CHECKING:
    from deltalake import DeltaTable

META_KEY = "usergrowth"
"""Key of our own metadata in a commit's information."""

WAIT_SECONDS = 60
"""How long a process waits for another one that adds commits to the state."""

T = TypeVar("T")

_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint.*\.parquet")
_TABLES = """
drop table if exists head;
drop table if exists page;
create table head (
    name text primary key, version integer not null, commit_hash text not null,
    pages_hash text not null
) without rowid;
create table page (
    name text, month text, content text not null, hash text not null, primary key (name, month)
);
create index page_hash on page (name, month, hash);
"""

_FORM = 1  # of the pages; another form is derived anew
_ALL = ("", "~")
_SEEN = 64

_LOGGER = logging.getLogger(__name__)


class CommitLog:
    """The commits of one Delta table, by version.

    Args:
        storage: where the tables live.
        table: the table's name.
        open_table: opens a version of it with deltalake; asked only when old commits are gone.
    """

    def __init__(
        self, storage: Storage, table: str, open_table: Callable[[int], "DeltaTable"]
    ) -> None:
        self.table = table
        self.open_table = open_table
        self._storage = storage
        self._folder = f"tables/{table}/_delta_log"

    def _path(self, version: int) -> str:
        return f"{self._folder}/{version:020d}.json"

    def has(self, version: int) -> bool:
        """Whether a commit is there."""
        return self._storage.has_file(self._path(version))

    def text(self, version: int) -> bytes | None:
        """A commit as it was written; None when it is not there."""
        try:
            return self._storage.read_bytes(self._path(version))
        except FileNotFoundError:
            return None

    def names(self) -> list[str]:
        """All files of the log."""
        return [file.name for file in self._storage.files(self._folder)]

    def information(self, version: int) -> dict[str, Any]:
        """What a commit says about itself; empty when it says nothing or is gone."""
        for line in (self.text(version) or b"").splitlines():
            if line.startswith(b'{"commitInfo"'):
                information: dict[str, Any] = json.loads(line)["commitInfo"]
                return information
        return {}


def own_metadata(information: Mapping[str, Any]) -> dict[str, Any] | None:
    """Our own metadata in a commit's information."""
    metadata = information.get(META_KEY)
    return None if metadata is None else dict(json.loads(metadata))


@dataclass(frozen=True)
class DataFile:
    """A data file of the newest version: path below the table's folder, rows, partition."""

    path: str
    day: date
    rows: int
    partition: Mapping[str, str]


@dataclass(frozen=True)
class Mark:
    """The newest commit that wrote a day, and the fingerprint that it gave the day."""

    version: int
    fingerprint: str


@dataclass(frozen=True)
class TableState:
    """A table at one version, as far as the days go that were asked for."""

    version: int
    files: Sequence[DataFile]
    marks: Mapping[str, Mapping[date, Mark]]

    def marks_of(self, scope: Mapping[str, str] | None) -> Mapping[date, Mark]:
        """Marks of the days that commits of exactly this scope wrote, in the days' order."""
        return self.marks.get(scope_key(scope), {})


def scope_key(scope: Mapping[str, str] | None) -> str:
    """A scope as a text."""
    return json.dumps(dict(scope or {}), sort_keys=True, ensure_ascii=False)


@dataclass
class _Page:
    """One month of a table.

    ``files`` holds day, rows and further partition values by path; ``marks`` version and
    fingerprint by scope and day.
    """

    files: dict[str, tuple[str, int, dict[str, str]]] = field(default_factory=dict)
    marks: dict[str, dict[str, tuple[int, str]]] = field(default_factory=dict)


class _Pages:
    """The pages that some commits touch."""

    def __init__(self, load: Callable[[str], _Page], months: Callable[[], Sequence[str]]) -> None:
        self.touched: dict[str, _Page] = {}
        self._load, self._months = load, months

    def _page(self, day: str) -> _Page:
        month = day[:7]
        if month not in self.touched:
            self.touched[month] = self._load(month)
        return self.touched[month]

    def add_commit(self, version: int, text: bytes, *, with_files: bool = True) -> None:
        """Apply a commit."""
        actions = [json.loads(line) for line in text.splitlines() if line.strip()]
        for action in actions if with_files else []:
            if "remove" in action:
                self._remove(action["remove"])
        for action in actions:
            if "add" in action and with_files:
                add = action["add"]
                rows = json.loads(add.get("stats") or "{}").get("numRecords")
                self.add_file(unquote(add["path"]), add["partitionValues"], rows)
            elif "commitInfo" in action:
                self._mark(version, own_metadata(action["commitInfo"]))

    def add_file(self, path: str, partition: Mapping[str, str], rows: int | None) -> None:
        """Add a data file."""
        others = {key: value for key, value in partition.items() if key != "ds"}
        self._page(partition["ds"]).files[path] = (partition["ds"], rows or 0, others)

    def add_checkpoint(self, opened: "DeltaTable") -> None:
        """Add the data files of a version that deltalake read from a checkpoint."""
        actions = opened.get_add_actions(flatten=True)
        keys = [f"partition.{key}" for key in opened.metadata().partition_columns]
        columns = (actions.column(name).to_pylist() for name in ("path", "num_records", *keys))
        for path, rows, *values in zip(*columns, strict=True):
            names = (key.removeprefix("partition.") for key in keys)
            partition = {name: str(value) for name, value in zip(names, values, strict=True)}
            self.add_file(unquote(path), partition, rows)

    def _remove(self, action: Mapping[str, Any]) -> None:
        path = unquote(action["path"])
        day = (action.get("partitionValues") or {}).get("ds")
        for month in [day[:7]] if day else sorted({*self.touched, *self._months()}):
            self._page(month).files.pop(path, None)

    def _mark(self, version: int, meta: Mapping[str, Any] | None) -> None:
        if meta is None:
            return
        key = scope_key(meta.get("scope", {}))
        for day in meta["days"]:
            fingerprint = meta["fingerprints"].get(day, "")
            self._page(day).marks.setdefault(key, {})[day] = (version, fingerprint)


class _UnfitError(Exception):
    """What is kept of a table cannot be what its log says."""


@dataclass(frozen=True)
class _Head:
    """Up to which commit the pages go, the hash of its text, and one over all pages."""

    version: int
    commit_hash: str
    pages_hash: str


class TableStates:
    """The states of the tables of one storage.

    Args:
        file: where they are kept, an SQLite file that may be deleted at any time; None keeps them
            in this object. A file that cannot be written is read, and what is new kept here.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self._memory = _connect(":memory:") if file is None else None
        self._lock = threading.RLock()
        self._seen: dict[tuple[str, str, str], tuple[_Head, TableState]] = {}

    def look(
        self, log: CommitLog, *, first: date | None = None, last: date | None = None
    ) -> TableState | None:
        """A table's state at its newest version, of the days in [first, last].

        Returns:
            None when the table was never written.
        """
        months = (first.isoformat()[:7] if first else "", last.isoformat()[:7] if last else "~")
        key = (log.table, *months)
        with self._lock:
            seen = self._seen.get(key) or self._seen.get((log.table, *_ALL))
            if seen is None or not _is_newest(seen[0], log):
                seen = self._use(lambda db: _read(db, log, months))
                if seen is None:
                    return None
                if len(self._seen) >= _SEEN:
                    self._seen.clear()
                self._seen[key] = seen
        return _within(seen[1], first, last)

    def rebuild(self, log: CommitLog) -> None:
        """Throw away what is kept of a table, and derive it from the whole log."""
        with self._lock:
            self._seen.clear()
            self._use(lambda db: _derive_anew(db, log, _ALL))

    def fault(self, log: CommitLog) -> str | None:
        """How the kept state of a table differs from its log, read whole; None: it does not.

        Nothing is changed. Commits that the state does not include yet are no fault.
        """
        copy = _copy(self.file)
        with closing(copy):
            try:
                head = _head(copy, log.table)
                if head is None:
                    return None
                _add_commits(copy, log)
                kept = _state(copy, log.table, _ALL)
            except _UnfitError as error:
                return str(error)
            except sqlite3.Error as error:
                return f"cannot be read ({error})"
        return None if kept == TableStates().look(log) else "differs from the table's log"

    def _use(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Work on the file, anew when it is damaged; in memory when it cannot be written."""
        if self._memory is None and self.file is not None:
            for _ in range(2):
                try:
                    with closing(_connect(self.file)) as db:
                        return work(db)
                except sqlite3.DatabaseError as error:
                    if not _is_damage(error):
                        break
                    _LOGGER.warning("%s: %s; it is derived anew from the logs", self.file, error)
                    for name in ("", "-journal"):
                        with suppress(OSError):
                            Path(f"{self.file}{name}").unlink()
            self._memory = _copy(self.file)
        assert self._memory is not None
        return work(self._memory)


def _connect(file: Path | str) -> sqlite3.Connection:
    db = sqlite3.connect(file, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        if _form(db) != _FORM:
            db.executescript(f"begin immediate; {_TABLES} pragma user_version = {_FORM}; commit;")
    except BaseException:
        db.close()
        raise
    return db


def _copy(file: Path | None) -> sqlite3.Connection:
    """What can be read of a file, in memory."""
    copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    if file is not None and file.exists():
        address = f"file:{quote(str(file.absolute()))}?mode=ro"
        with suppress(sqlite3.Error), closing(sqlite3.connect(address, uri=True)) as source:
            source.backup(copy)
    with suppress(sqlite3.DatabaseError):
        if _form(copy) == _FORM:
            return copy
    copy.close()
    return _connect(":memory:")


def _form(db: sqlite3.Connection) -> int:
    return int(db.execute("pragma user_version").fetchone()[0])


@contextmanager
def _transaction(db: sqlite3.Connection, kind: str) -> Iterator[None]:
    """Work on one state of the file; ``immediate`` keeps other writers off until the end."""
    db.execute(f"begin {kind}")
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):
            db.execute("rollback")
        raise
    db.execute("commit")


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the file is no database with our tables, rather than one that cannot be written."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    return code in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _read(
    db: sqlite3.Connection, log: CommitLog, months: tuple[str, str]
) -> tuple[_Head, TableState] | None:
    try:
        with _transaction(db, "deferred"):
            head = _head(db, log.table)
            if head is not None and _is_newest(head, log):
                _check_pages(db, log.table, head)
                return head, _state(db, log.table, months)
        with _transaction(db, "immediate"):
            head = _add_commits(db, log)
            return None if head is None else (head, _state(db, log.table, months))
    except _UnfitError as error:
        _LOGGER.warning("what is kept of table %s %s; it is derived anew", log.table, error)
    return _derive_anew(db, log, months)


def _derive_anew(
    db: sqlite3.Connection, log: CommitLog, months: tuple[str, str]
) -> tuple[_Head, TableState] | None:
    with _transaction(db, "immediate"):
        db.execute("delete from head where name = ?", (log.table,))
        db.execute("delete from page where name = ?", (log.table,))
        head = _add_commits(db, log)
        return None if head is None else (head, _state(db, log.table, months))


def _head(db: sqlite3.Connection, table: str) -> _Head | None:
    sql = "select version, commit_hash, pages_hash from head where name = ?"
    row = db.execute(sql, (table,)).fetchone()
    if row is not None and [type(value) for value in row] != [int, str, str]:
        raise _UnfitError("has been changed by other hands")
    return None if row is None else _Head(*row)


def _is_newest(head: _Head, log: CommitLog) -> bool:
    """Whether a head belongs to the log and no commit follows it."""
    return _belongs(head, log) and not log.has(head.version + 1)


def _belongs(head: _Head, log: CommitLog) -> bool:
    """Whether the log has the head's commit. No two commits are alike: files' names are random."""
    text = log.text(head.version)
    return text is not None and _hash(text) == head.commit_hash


def _check_pages(db: sqlite3.Connection, table: str, head: _Head) -> None:
    if _pages_hash(db, table, head.version, head.commit_hash) != head.pages_hash:
        raise _UnfitError("has been changed by other hands")


def _pages_hash(db: sqlite3.Connection, table: str, version: int, commit_hash: str) -> str:
    pages = db.execute("select month, hash from page where name = ? order by month", (table,))
    return _hash(repr([table, version, commit_hash, pages.fetchall()]).encode())


def _hash(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:32]


def _page(content: str, known: str) -> _Page:
    if not isinstance(content, str) or _hash(content.encode()) != known:
        raise _UnfitError("has been changed by other hands")
    return _Page(**json.loads(content))


def _state(db: sqlite3.Connection, table: str, months: tuple[str, str]) -> TableState:
    head = _head(db, table)
    assert head is not None
    files: list[DataFile] = []
    marks: dict[str, dict[date, Mark]] = {}
    sql = "select content, hash from page where name = ? and month between ? and ? order by month"
    for content, digest in db.execute(sql, (table, *months)):
        page = _page(content, digest)
        for path, (day, rows, partition) in page.files.items():
            files.append(DataFile(path, date.fromisoformat(day), rows, partition))
        for scope, by_day in page.marks.items():
            of_scope = marks.setdefault(scope, {})
            for day, (version, fingerprint) in by_day.items():
                of_scope[date.fromisoformat(day)] = Mark(version, fingerprint)
    return TableState(head.version, tuple(sorted(files, key=lambda f: (f.day, f.path))), marks)


def _within(state: TableState, first: date | None, last: date | None) -> TableState:
    if first is None and last is None:
        return state
    low, high = first or date.min, last or date.max
    marks = {
        scope: {day: mark for day, mark in by_day.items() if low <= day <= high}
        for scope, by_day in state.marks.items()
    }
    files = tuple(file for file in state.files if low <= file.day <= high)
    return TableState(state.version, files, marks)


def _add_commits(db: sqlite3.Connection, log: CommitLog) -> _Head | None:
    """Bring what is kept of a table to the newest commit."""
    table = log.table
    head = _head(db, table)
    if head is not None:
        if not _belongs(head, log):
            raise _UnfitError("is of another log than the table has")
        _check_pages(db, table, head)

    def load(month: str) -> _Page:
        sql = "select content, hash from page where name = ? and month = ?"
        row = db.execute(sql, (table, month)).fetchone()
        return _Page() if row is None else _page(*row)

    def months() -> list[str]:
        return [m for (m,) in db.execute("select month from page where name = ?", (table,))]

    pages = _Pages(load, months)
    newest = _replay(log, pages) if head is None else _follow(log, pages, head.version + 1)
    if newest is None:
        return head
    for month, page in pages.touched.items():
        content = json.dumps(vars(page), ensure_ascii=False)
        row = (table, month, content, _hash(content.encode()))
        db.execute("insert or replace into page values (?, ?, ?, ?)", row)
    brought = _Head(*newest, _pages_hash(db, table, *newest))
    db.execute(
        "insert or replace into head values (?, ?, ?, ?)",
        (table, brought.version, brought.commit_hash, brought.pages_hash),
    )
    return brought


def _follow(log: CommitLog, pages: _Pages, version: int) -> tuple[int, str] | None:
    """Add the commits from a version on; the newest and its hash, None when there is none."""
    newest = None
    while (text := log.text(version)) is not None:
        pages.add_commit(version, text)
        newest = (version, _hash(text))
        version += 1
    return newest


def _replay(log: CommitLog, pages: _Pages) -> tuple[int, str] | None:
    """Add a whole log. Where its first commits were cleaned up, files come from a checkpoint."""
    names = log.names()
    versions = sorted(int(m[1]) for name in names if (m := _COMMIT.fullmatch(name)))
    if not versions:
        return None
    start = versions[0]
    if start > 0:
        checkpoints = (int(m[1]) for name in names if (m := _CHECKPOINT.fullmatch(name)))
        base = min(version for version in checkpoints if version >= start)
        pages.add_checkpoint(log.open_table(base))
        for version in range(start, base + 1):
            pages.add_commit(version, log.text(version) or b"", with_files=False)
        newest = (base, _hash(log.text(base) or b""))
        return _follow(log, pages, base + 1) or newest
    return _follow(log, pages, start)
