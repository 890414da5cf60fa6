"""Landing whole days into the raw tables, over failures, kills and second landings."""

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from usergrowth_dagster.data import loader
from usergrowth_dagster.data.contracts import CONTRACTS
from usergrowth_dagster.data.landing import landing_days, landing_folders
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse import landing as module
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.landing import LandingError, land_days
from usergrowth_dagster.warehouse.tables import Warehouse

DAY = date(2017, 3, 1)
HEAD = ",".join(CONTRACTS["behavior"].names)
BAD = "u,buy\n"


def day(offset: int) -> date:
    """DAY plus some days."""
    return DAY + timedelta(days=offset)


def put(root: Path, offset: int, body: str, *, name: str = "part-0.csv", head: str = HEAD) -> None:
    """Write a landing file of a day."""
    folder = root / "behavior" / f"ds={day(offset):%Y%m%d}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"{head}\n{body}")


def events(*users: str) -> str:
    """One event a user."""
    return "".join(f"{user},buy,\\N,\\N,\\N\n" for user in users)


def table(warehouse: Warehouse, settings: Settings, name: str) -> list[tuple[Any, ...]]:
    """All rows of a table with the columns that these tests look at."""
    files = [path for paths in warehouse.files(name).values() for path in paths]
    raw = {"user_id": "VARCHAR", "ds": "DATE"}
    rejects = {
        "ds": "DATE",
        "file": "VARCHAR",
        "line": "BIGINT",
        "rule": "VARCHAR",
        "raw_row": "VARCHAR",
    }
    with open_engine(settings) as engine:
        engine.bind_files("t", files, rejects if name == "quarantine" else raw)
        return sorted(engine.rows("select * from t"))


def users(warehouse: Warehouse, settings: Settings) -> dict[int, str]:
    """Users of the raw table by day offset, in one word."""
    by_day: dict[int, str] = {}
    for user, ds in table(warehouse, settings, "raw_behavior"):
        by_day[(ds - DAY).days] = by_day.get((ds - DAY).days, "") + user
    return by_day


@pytest.fixture(params=["held", "early"])
def root(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty landing root; every file is held until all is known, or written as it is read."""
    if request.param == "early":
        monkeypatch.setattr(loader, "EARLY_BLOCKS", 0)
    return tmp_path / "landing"


def land(settings: Settings, root: Path, warehouse: Warehouse, days: Sequence[int]) -> list[Any]:
    return land_days(settings, Storage(str(root)), warehouse, "behavior", [day(n) for n in days])


def test_a_day_lands_once_and_again_when_it_changes(
    settings: Settings, warehouse: Warehouse, root: Path
) -> None:
    """Landing twice must not double rows; a mended day must replace its rows and its rejects."""
    settings = settings.model_copy(update={"max_reject_share": 0.5})
    put(root, 0, events("a", "b") + BAD)
    put(root, 1, events("c"))
    first = land(settings, root, warehouse, [0, 1, 2])
    assert [(r.status, r.rows_in, r.accepted, r.quarantined, r.files) for r in first] == [
        ("landed", 3, 2, 1, 1), ("landed", 1, 1, 0, 1), ("missing", 0, 0, 0, 0),
    ]  # fmt: skip
    assert table(warehouse, settings, "quarantine") == [
        (DAY, "behavior/ds=20170301/part-0.csv", 4, "field_count", "u,buy")
    ]
    again = land(settings, root, warehouse, [0, 1, 2])
    assert [r.status for r in again] == ["unchanged", "unchanged", "missing"]
    assert [(r.rows_in, r.accepted, r.quarantined) for r in again[:2]] == [(3, 2, 1), (1, 1, 0)]
    assert warehouse.version("raw_behavior") == first[0].version
    put(root, 0, events("d"))
    put(root, 0, events("e"), name="later.csv")
    put(root, 1, "")
    changed = land(settings, root, warehouse, [1, 0])
    assert [(r.status, r.accepted, r.files) for r in changed] == [
        ("landed", 2, 2),
        ("landed", 0, 1),
    ]
    assert users(warehouse, settings) == {0: "de"}
    assert table(warehouse, settings, "quarantine") == []
    assert [r.status for r in land(settings, root, warehouse, [0, 1])] == ["unchanged", "unchanged"]


def test_a_bad_day_keeps_its_earlier_rows_and_the_good_days_land(
    settings: Settings, warehouse: Warehouse, root: Path
) -> None:
    """One bad day must neither empty its partition nor hold up the others, nor hide its rejects."""
    for n in range(4):
        put(root, n, events(f"old{n}"))
    land(settings, root, warehouse, range(4))
    put(root, 0, events("new0"))
    put(root, 1, BAD * 3 + "u,buy,\\N,x,\\N\n")
    put(root, 2, "", head="user_id,behaviour,item_id,kvs_num,kvs_str")
    put(root, 3, events("new3"))
    put(root, 3, "", name="notes.txt")
    with pytest.raises(LandingError) as error:
        land(settings, root, warehouse, range(4))
    assert list(error.value.failures) == [day(1), day(2), day(3)]
    assert [r.status for r in error.value.landed] == ["landed"]
    text = str(error.value)
    assert "behavior/ds=20170302: 4 of 4 rows break the contract, more than the 1.00%" in text
    assert (
        "rule field_count (a row has exactly as many values as the header has names), 3 times, first at behavior/ds=20170302/part-0.csv:2;"
        in text
    )
    assert "part-0.csv: line 1, column 2: expected 'behavior', found 'behaviour'" in text
    assert "notes.txt: landing files end in .csv, .csv.gz, .csv.zst or .parquet" in text
    assert users(warehouse, settings) == {0: "new0", 1: "old1", 2: "old2", 3: "old3"}
    assert [(row[0], row[2], row[3]) for row in table(warehouse, settings, "quarantine")] == [
        (day(1), 2, "field_count"), (day(1), 3, "field_count"), (day(1), 4, "field_count"), (day(1), 5, "kvs"),
    ]  # fmt: skip
    for n in (1, 2, 3):
        put(root, n, events(f"new{n}"))
    (root / "behavior" / "ds=20170304" / "notes.txt").unlink()
    land(settings, root, warehouse, range(4))
    assert users(warehouse, settings) == {n: f"new{n}" for n in range(4)}
    assert table(warehouse, settings, "quarantine") == []


def test_rows_of_a_failing_day_are_thrown_away(
    settings: Settings, warehouse: Warehouse, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Good rows of a file are on the disk before its bad ones are counted."""
    put(root, 0, events("a", "b") + BAD)
    put(root, 1, events("c", "d"))

    def stored() -> int:
        folder = Path(warehouse.uri("raw_behavior"))
        return len(list(folder.rglob("*.parquet")))

    with pytest.raises(LandingError, match="1 of 3 rows break the contract"):
        land(settings, root, warehouse, [0, 1])
    assert (stored(), users(warehouse, settings)) == (1, {1: "cd"})
    put(root, 0, events("e", "f"))
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_quarantine", lambda *_: pytest.fail("the disk is full"))
        with pytest.raises(pytest.fail.Exception):
            land(settings, root, warehouse, [0])
    assert stored() == 1
    land(settings, root, warehouse, [0])
    assert (stored(), users(warehouse, settings)) == (2, {0: "ef", 1: "cd"})


def test_the_reject_share_is_a_limit_not_a_rounding(
    settings: Settings, warehouse: Warehouse, root: Path
) -> None:
    """Exactly the allowed share passes, one row more fails, and a reject of a column names it."""
    bad = "u,buy,\\N,a:1 a:2,\\N\n"
    put(root, 1, events(*"x" * 71) + bad * 29)
    exact = settings.model_copy(update={"max_reject_share": 0.29})
    assert land(exact, root, warehouse, [1])[0].quarantined == 29
    put(root, 0, events(*"x" * 99) + bad)
    assert land(settings, root, warehouse, [0])[0].quarantined == 1
    put(root, 0, events(*"x" * 98) + bad)
    with pytest.raises(
        UserError,
        match=r"1 of 99 rows .*rule kvs_key \(a key occurs once .*part-0\.csv:100:kvs_num \(kvs_num: kvs_key 'a:1 a:2'\);",
    ):
        land(settings, root, warehouse, [0])


def test_a_restored_file_restores_its_rejects(
    settings: Settings, warehouse: Warehouse, root: Path
) -> None:
    """After a failed landing the old file, put back, must not count as unchanged with foreign rejects."""
    put(root, 0, events("a"))
    file = root / "behavior" / "ds=20170301" / "part-0.csv"
    content, stat = file.read_bytes(), file.stat()
    land(settings, root, warehouse, [0])
    put(root, 0, BAD)
    with pytest.raises(LandingError):
        land(settings, root, warehouse, [0])
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    land(settings, root, warehouse, [0])
    assert table(warehouse, settings, "quarantine") == []


@pytest.mark.parametrize("kill_at", ["quarantine", "raw_behavior"])
def test_a_killed_run_leaves_whole_days_and_goes_on(
    settings: Settings,
    warehouse: Warehouse,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    kill_at: str,
) -> None:
    """A run that dies between commits must leave days old or new, and end the same when repeated."""
    settings = settings.model_copy(update={"max_reject_share": 0.5})
    monkeypatch.setattr(module, "COMMIT_DAYS", 2)
    for n in range(6):
        put(root, n, events(f"old{n}"))
    land(settings, root, warehouse, range(6))
    for n in range(6):
        put(root, n, events(f"new{n}") + BAD)
    replace, calls = Warehouse.replace, []

    def dying(self: Warehouse, name: str, *args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        if calls.count(kill_at) == 2 and name == kill_at:
            raise KeyboardInterrupt
        return replace(self, name, *args, **kwargs)

    monkeypatch.setattr(Warehouse, "replace", dying)
    with pytest.raises(KeyboardInterrupt):
        land(settings, root, warehouse, range(6))
    assert users(warehouse, settings) == {n: f"{'new' if n < 2 else 'old'}{n}" for n in range(6)}
    monkeypatch.setattr(Warehouse, "replace", replace)
    assert [r.status for r in land(settings, root, warehouse, range(6))] == ["unchanged"] * 2 + [
        "landed"
    ] * 4
    assert users(warehouse, settings) == {n: f"new{n}" for n in range(6)}
    assert len(table(warehouse, settings, "quarantine")) == 6


def test_days_are_written_before_their_rows_fill_the_engine(
    settings: Settings, warehouse: Warehouse, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a year of small days that the engine holds until the last one is read, and
    against days that are left out, or land twice, where a part of a group ends."""
    monkeypatch.setattr(module, "HELD_ROWS", 4)
    settings = settings.model_copy(update={"max_reject_share": 0.5})
    for n in range(7):
        put(root, n, events("a", "b", f"c{n}") + BAD)
    landed = land(settings, root, warehouse, range(8))
    assert [(one.status, one.accepted) for one in landed] == [("landed", 3)] * 7 + [("missing", 0)]
    assert users(warehouse, settings) == {n: f"abc{n}" for n in range(7)}
    assert len(table(warehouse, settings, "quarantine")) == 7
    rows = 4 if loader.EARLY_BLOCKS else 1  # that the engine holds of a day
    days_at_once = -(-4 // rows)
    assert warehouse.version("raw_behavior") == -(-7 // days_at_once)


def test_a_year_of_days_is_one_commit_with_progress(
    settings: Settings, warehouse: Warehouse, root: Path
) -> None:
    """A commit a day would make a first landing slow and every later read of the log slower."""
    for n in range(90):
        put(root, n, events(f"u{n:02}"))
        put(root, n, events("v"), name="other.csv")
    reported: list[tuple[str, int, int]] = []
    days = [day(n) for n in range(90)]
    landed = land_days(
        settings,
        Storage(f"file://{root}"),
        warehouse,
        "behavior",
        days,
        progress=lambda *step: reported.append(step),
    )
    assert {r.version for r in landed} == {1} and [r.day for r in landed] == days
    assert users(warehouse, settings) == {n: f"u{n:02}v" for n in range(90)}
    assert reported[0] == ("behavior", 0, 90) and reported[-1] == ("behavior", 90, 90)


def test_other_tables_of_the_day_keep_their_rejects(
    settings: Settings, warehouse: Warehouse, root: Path
) -> None:
    """The quarantine is shared: replacing one table's rejects must leave those of the others."""
    settings = settings.model_copy(update={"max_reject_share": 1.0})
    put(root, 0, BAD)
    land(settings, root, warehouse, [0])
    folder = root / "item" / "ds=20170301"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("item_id,kvs_num,kvs_str\ni,\\N,\\N\ni,a:1,\\N\n")
    got = land_days(settings, Storage(str(root)), warehouse, "item", [DAY])[0]
    assert (got.accepted, got.quarantined) == (1, 1)
    assert [row[3] for row in table(warehouse, settings, "quarantine")] == [
        "field_count",
        "duplicate",
    ]


def test_misnamed_folders_are_reported(
    settings: Settings, warehouse: Warehouse, root: Path
) -> None:
    """A folder that is skipped without a word is a day that nobody misses until the report."""
    put(root, 1, events("a"))
    for name in ("ds_20170301", "ds=20170230", "_temporary", ".trash"):
        (root / "behavior" / name).mkdir()
    (root / "behavior" / "stray.csv").write_text(HEAD)
    storage = Storage(str(root))
    folders = landing_folders(storage, "behavior")
    assert list(folders.days) == [day(1)] and sorted(folders.strays) == [
        "ds=20170230",
        "ds_20170301",
        "stray.csv",
    ]
    with pytest.raises(
        UserError, match=r"behavior/ds_20170301: a day's folder is named ds=yyyymmdd"
    ):
        landing_days(storage, "behavior")
    with pytest.raises(LandingError, match="ds_20170301"):
        land(settings, root, warehouse, [0, 1])
    assert users(warehouse, settings) == {1: "a"}
    assert landing_days(storage, "item") == []
    with pytest.raises(UserError, match="'events' is not a landing table; choose from user, item"):
        land_days(settings, storage, warehouse, "events", [DAY])


def test_many_bad_days_are_all_named(settings: Settings, warehouse: Warehouse, root: Path) -> None:
    """A message must neither swallow a day nor run over pages."""
    for n in range(23):
        put(root, n, BAD)
    with pytest.raises(LandingError) as error:
        land(settings, root, warehouse, range(23))
    assert all(f"{day(n):%Y%m%d}" in str(error.value) for n in range(23))
    lines = str(error.value).splitlines()
    assert len(lines) == 20 and lines[-1].startswith("4 more days fail: 20170320, 20170321")


def test_landing_does_without_pandas(tmp_path: Path) -> None:
    """Guards against a call such as pa.array or pa.scalar, which imports pandas: half a second of
    each process that lands a small day, and 40 MB."""
    put(tmp_path, 0, events("u1", "u2"))
    folder = tmp_path / "behavior" / f"ds={day(1):%Y%m%d}"
    folder.mkdir()
    duckdb.execute(
        f"copy (select 'u' as user_id, 'buy' as behavior, 7 as item_id, 'a:1' as kvs_num, "
        f"null::varchar as kvs_str) to '{folder}/a.parquet'"
    )
    code = f"""
import sys
from datetime import date
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.landing import land_days
from usergrowth_dagster.warehouse.tables import Warehouse
from pathlib import Path
root = {str(tmp_path)!r}
days = [date(2017, 3, 1), date(2017, 3, 2)]
warehouse = Warehouse(Storage(root + "/storage"))
landed = land_days(load_settings(Path(root, "home")), Storage(root), warehouse, "behavior", days)
assert [one.accepted for one in landed] == [2, 1]
assert "pandas" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr


def test_rows_lost_while_they_are_written_are_an_error(
    settings: Settings, warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that drops rows which were accepted, so that the day lands short without a word."""
    put(tmp_path / "landing", 0, events("a", "b", "c"))
    whole = module.row_stream
    monkeypatch.setattr(
        module, "row_stream", lambda engine, sql: whole(engine, f"select * from ({sql}) limit 2")
    )
    with pytest.raises(loader.CountMismatchError, match="3 rows accepted, but 2 written"):
        land(settings, tmp_path / "landing", warehouse, [0])
