"""What is kept of a table is what its log says, whatever happened to either."""

import json
import logging
import multiprocessing
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.warehouse.tables import Warehouse

DAY = date(2024, 1, 30)
DAYS = [DAY + timedelta(days=place) for place in range(4)]  # of two months


def warehouse_of(folder: Path) -> Warehouse:
    return Warehouse(Storage(str(folder / "storage")), folder / "tables.db")


def write(
    warehouse: Warehouse,
    day: date,
    mark: str,
    *,
    rows: int = 1,
    scope: Mapping[str, str] | None = None,
    table: str = "t",
) -> None:
    columns: dict[str, Any] = {"ds": pa.array([day] * rows, pa.date32()), "x": list(range(rows))}
    columns |= {name: [value] * rows for name, value in (scope or {}).items()}
    warehouse.replace(
        table,
        pa.table(columns),
        days=[day],
        scope=scope,
        fingerprints={day: mark},
        notes={day: {"said": mark}},
    )


def replayed(warehouse: Warehouse, table: str = "t") -> dict[str, Any]:
    """The plain definition: every commit read, oldest first, and the files as deltalake has them."""
    log = Path(warehouse.uri(table)) / "_delta_log"
    marks: dict[str, dict[str, str]] = {}
    for file in sorted(log.glob("*.json")):
        for line in file.read_text("utf-8").splitlines():
            meta = json.loads(line).get("commitInfo", {}).get("usergrowth")
            if meta is not None:
                parsed = json.loads(meta)
                scope = json.dumps(parsed["scope"], sort_keys=True)
                for day in parsed["days"]:
                    marks.setdefault(scope, {})[day] = parsed["fingerprints"].get(day, "")
    opened = DeltaTable(warehouse.uri(table))
    actions = opened.get_add_actions(flatten=True)
    paths = [unquote(path) for path in actions.column("path").to_pylist()]
    rows = dict(zip(paths, actions.column("num_records").to_pylist(), strict=True))
    return {"version": opened.version(), "marks": marks, "rows": rows}


def kept(warehouse: Warehouse, table: str = "t") -> dict[str, Any]:
    """What the state says, in the same words."""
    state = warehouse.state(table)
    assert state is not None
    marks = {
        json.dumps(json.loads(scope), sort_keys=True): {
            day.isoformat(): mark.fingerprint for day, mark in values.items()
        }
        for scope, values in state.marks.items()
    }
    rows = {file.path: file.rows for file in state.files}
    return {"version": state.version, "marks": marks, "rows": rows}


def test_state_is_the_replayed_log(tmp_path: Path) -> None:
    """A removed file, a scope with odd letters, or a day written twice is kept as it was before."""
    warehouse = warehouse_of(tmp_path)
    assert (warehouse.version("t"), warehouse.files("t"), warehouse.exists("t")) == (
        None,
        {},
        False,
    )
    for place, scope in enumerate(("a b", "50%", "a b", "ü=1")):
        for day in DAYS[: place + 1]:
            write(warehouse, day, f"{place}", rows=place + 1, scope={"task_id": scope})
            assert kept(warehouse) == replayed(warehouse)
    assert kept(warehouse_of(tmp_path)) == replayed(warehouse)
    files = [name for names in warehouse.files("t").values() for name in names]
    assert len(files) == 4 + 3 + 2 and all(Path(name).exists() for name in files)
    assert warehouse.row_counts("t", {"task_id": "50%"}) == {DAYS[0]: 2, DAYS[1]: 2}
    assert warehouse.row_counts("t", first=DAYS[3]) == {DAYS[3]: 4}
    assert warehouse.files("t", first=DAYS[1]) == warehouse.files(
        "t", first=DAYS[1], version=warehouse.version("t")
    )
    assert warehouse.notes("t", {"task_id": "a b"}, last=DAY) == {DAY: {"said": "2"}}


def test_only_new_commits_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question reads the history again: it costs more with every commit."""
    warehouse = warehouse_of(tmp_path)
    for place in range(12):
        write(warehouse, DAYS[place % 4], f"{place}")
    read: list[str] = []
    plain = Storage.read_bytes
    monkeypatch.setattr(Storage, "read_bytes", lambda s, path: read.append(path) or plain(s, path))
    monkeypatch.setattr(Storage, "files", lambda *_: pytest.fail("the log is listed"))
    again = warehouse_of(tmp_path)
    again.fingerprints("t"), again.files("t"), again.version("t"), again.row_counts("t")
    assert {path[-7:] for path in read} == {"12.json"}


def change_mark(db: sqlite3.Connection) -> None:
    db.execute("update page set content = replace(content, '\"3\"', '\"2\"')")


def change_mark_and_hash(db: sqlite3.Connection) -> None:
    import hashlib

    for month, content in db.execute("select month, content from page").fetchall():
        other = content.replace('"3"', '"2"')
        digest = hashlib.sha256(other.encode()).hexdigest()[:32]
        db.execute("update page set content = ?, hash = ? where month = ?", (other, digest, month))


CORRUPTIONS: dict[str, Callable[[sqlite3.Connection], object]] = {
    "a fingerprint": change_mark,
    "a fingerprint, with its page's hash": change_mark_and_hash,
    "a page is lost": lambda db: db.execute("delete from page where month = '2024-01'"),
    "a page of another table": lambda db: db.execute("update page set name = 'u'"),
    "the version": lambda db: db.execute("update head set version = version - 1"),
    "no number": lambda db: db.execute("update head set version = 'x'"),
    "another log": lambda db: db.execute("update head set commit_hash = 'x'"),
    "bytes": lambda db: db.execute("update page set content = x'00ff'"),
    "a table is lost": lambda db: db.execute("drop table page"),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corrupted_state_is_seen_and_derived_anew(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What is kept says other things than the log, and a day is skipped that must be built."""
    warehouse = warehouse_of(tmp_path)
    for place, day in enumerate(DAYS):
        write(warehouse, day, str(place))
    with closing(sqlite3.connect(tmp_path / "tables.db")) as db:
        CORRUPTIONS[name](db)
        db.commit()
    again = warehouse_of(tmp_path)
    assert again.states.fault(again.log("t"))
    with caplog.at_level(logging.WARNING):
        assert kept(again) == replayed(warehouse)
    assert "derived anew" in caplog.text
    assert warehouse_of(tmp_path).states.fault(again.log("t")) is None
    caplog.clear()
    assert kept(warehouse_of(tmp_path)) == replayed(warehouse)
    assert not caplog.text


@pytest.mark.parametrize(
    "content", [b"no database", b"", None], ids=["damaged", "empty", "deleted"]
)
def test_file_that_is_no_database(tmp_path: Path, content: bytes | None) -> None:
    """A damaged or deleted file stops every command."""
    warehouse = warehouse_of(tmp_path)
    write(warehouse, DAY, "a")
    file = tmp_path / "tables.db"
    file.unlink() if content is None else file.write_bytes(content)
    assert kept(warehouse_of(tmp_path)) == replayed(warehouse)
    write(warehouse, DAY, "b")
    assert warehouse_of(tmp_path).fingerprint("t", DAY) == "b"
    assert file.stat().st_size > 0


def test_killed_between_commit_and_state(tmp_path: Path) -> None:
    """A commit whose process ended before the state was written is never seen."""
    write(warehouse_of(tmp_path), DAY, "a")
    write(Warehouse(Storage(str(tmp_path / "storage"))), DAY, "b")  # keeps no state
    assert warehouse_of(tmp_path).fingerprint("t", DAY) == "b"


def test_older_copy_of_the_state_catches_up(tmp_path: Path) -> None:
    """A restored copy of the file hides the commits that came after it."""
    warehouse = warehouse_of(tmp_path)
    write(warehouse, DAY, "a")
    shutil.copy(tmp_path / "tables.db", tmp_path / "copy")
    write(warehouse, DAY, "b")
    write(warehouse, DAYS[3], "c")
    shutil.copy(tmp_path / "copy", tmp_path / "tables.db")
    assert kept(warehouse_of(tmp_path)) == replayed(warehouse)


def test_table_of_an_older_backup(tmp_path: Path) -> None:
    """A table restored from a backup, then written to, is taken for the one that was there."""
    warehouse = warehouse_of(tmp_path)
    write(warehouse, DAY, "a")
    shutil.copytree(tmp_path / "storage", tmp_path / "backup")
    write(warehouse, DAYS[1], "b")
    shutil.rmtree(tmp_path / "storage")
    shutil.copytree(tmp_path / "backup", tmp_path / "storage")
    assert warehouse.fingerprints("t") == {DAY: "a"}
    write(warehouse, DAYS[2], "c")
    assert warehouse.fingerprints("t") == {DAY: "a", DAYS[2]: "c"}
    shutil.rmtree(tmp_path / "storage")
    assert (warehouse.version("t"), warehouse.exists("t")) == (None, False)
    write(warehouse, DAY, "d")
    assert kept(warehouse) == replayed(warehouse)


def test_copied_home_goes_its_own_way(tmp_path: Path) -> None:
    """A home that was copied or moved replays its logs, or mixes its files with the other's."""
    one = tmp_path / "one"
    write(warehouse_of(one), DAY, "a")
    two = tmp_path / "two"
    shutil.copytree(one, two)
    write(warehouse_of(one), DAY, "b")
    write(warehouse_of(two), DAY, "c")
    for home in (one, two):
        warehouse = warehouse_of(home)
        assert kept(warehouse) == replayed(warehouse)
        assert all(name.startswith(str(home)) for name in warehouse.files("t")[DAY])


def test_home_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only home, whose state is older than its tables, cannot be looked at."""
    write(warehouse_of(tmp_path), DAY, "a")
    write(Warehouse(Storage(str(tmp_path / "storage"))), DAY, "b")
    before = (tmp_path / "tables.db").read_bytes()
    from usergrowth_dagster.warehouse import state

    plain = state._connect

    def connect(file: Path | str) -> sqlite3.Connection:
        db = plain(file)
        if file != ":memory:":
            db.execute("pragma query_only = on")  # root may write into any folder
        return db

    monkeypatch.setattr(state, "_connect", connect)
    warehouse = warehouse_of(tmp_path)
    assert warehouse.fingerprint("t", DAY) == "b"
    assert (tmp_path / "tables.db").read_bytes() == before
    nowhere = Warehouse(Storage(str(tmp_path / "storage")), tmp_path / "none" / "tables.db")
    assert nowhere.fingerprint("t", DAY) == "b"


def _write_some(job: tuple[str, int]) -> None:
    folder, number = job
    warehouse = warehouse_of(Path(folder))
    for turn in range(5):
        for day in (DAYS[number], DAYS[3]):
            write(warehouse, day, f"{number} {turn}")
            mark = warehouse.fingerprint("t", DAYS[number])
            assert mark == f"{number} {turn}", mark


def test_two_processes_write_one_table(tmp_path: Path) -> None:
    """A commit of one process is lost from the state that the other one writes."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(_write_some, [(str(tmp_path), 0), (str(tmp_path), 1)], chunksize=1)
    warehouse = warehouse_of(tmp_path)
    assert kept(warehouse) == replayed(warehouse)
    assert warehouse.states.fault(warehouse.log("t")) is None


def test_log_without_its_first_commits(tmp_path: Path) -> None:
    """Another program cleaned the log up: the files of the commits that are gone are missing."""
    warehouse = warehouse_of(tmp_path)
    for place, day in enumerate(DAYS):
        write(warehouse, day, str(place), rows=place + 1, scope={"task_id": "a b"})
    DeltaTable(warehouse.uri("t")).create_checkpoint()
    write(warehouse, DAYS[1], "new", rows=7, scope={"task_id": "a b"})
    log = Path(warehouse.uri("t")) / "_delta_log"
    for version in range(3):
        (log / f"{version:020d}.json").unlink()
    (tmp_path / "tables.db").unlink()
    again = warehouse_of(tmp_path)
    assert again.exists("t")
    assert kept(again)["rows"] == replayed(warehouse)["rows"]
    assert again.fingerprints("t", {"task_id": "a b"}) == {
        DAYS[1]: "new",
        DAYS[2]: "2",
        DAYS[3]: "3",
    }


def test_commit_of_another_program(tmp_path: Path) -> None:
    """Files that another program compacted or removed are still read."""
    warehouse = warehouse_of(tmp_path)
    write(warehouse, DAY, "a", rows=3)
    log = Path(warehouse.uri("t")) / "_delta_log"
    (path,) = (file.path for file in warehouse.state("t").files)  # type: ignore[union-attr]
    other = f"part-{uuid.uuid4()}.parquet"
    actions = [
        {"commitInfo": {"operation": "OPTIMIZE"}},
        {"remove": {"path": path, "dataChange": False, "deletionTimestamp": 1}},
        {
            "add": {
                "path": other,
                "partitionValues": {"ds": DAY.isoformat()},
                "size": 1,
                "modificationTime": 1,
                "dataChange": False,
            }
        },
    ]
    (log / f"{2:020d}.json").write_text("\n".join(map(json.dumps, actions)), "utf-8")
    assert [Path(name).name for name in warehouse.files("t")[DAY]] == [other]
    assert warehouse.fingerprint("t", DAY) == "a"


def test_rebuilding(tmp_path: Path) -> None:
    """The command that derives the state anew leaves a changed page, or touches other tables."""
    warehouse = warehouse_of(tmp_path)
    for table in ("t", "u"):
        write(warehouse, DAY, "3", table=table)
    with closing(sqlite3.connect(tmp_path / "tables.db")) as db:
        change_mark_and_hash(db)
        db.commit()
    warehouse.states.rebuild(warehouse.log("t"))
    assert warehouse_of(tmp_path).states.fault(warehouse.log("t")) is None
    assert warehouse_of(tmp_path).states.fault(warehouse.log("u"))
