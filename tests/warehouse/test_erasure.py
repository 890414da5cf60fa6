"""One person out of the Delta tables, bytes included."""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from usergrowth_dagster.data.storage import StoredFile
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse import erasure
from usergrowth_dagster.warehouse.erasure import Person, erase_person, person_tables
from usergrowth_dagster.warehouse.tables import Warehouse

D = date(2020, 2, 27)
WHO = "o'Brien 7"


def events(
    days: int, *, start: date = D, people: tuple[str | None, ...] = ("a", WHO, None)
) -> pa.Table:
    """Rows of so many days, one a day and person."""
    listed = ", ".join("null" if p is None else "'" + p.replace("'", "''") + "'" for p in people)
    return (
        duckdb.connect()
        .sql(
            f"""
            select (date '{start}' + d::int)::date as ds, p as user_id, d as n,
                map {{'city': p || ' town'}} as kvs, '+999' || lpad(d::varchar, 10, '0') as phone
            from range({days}) t(d), (select unnest([{listed}]) as p)
            """
        )
        .to_arrow_table()
    )


def days(number: int) -> list[date]:
    return [D + timedelta(days=n) for n in range(number)]


def on_disk(warehouse: Warehouse, text: str) -> list[str]:
    """Files below the root that hold a text: Parquet files decoded, others as they are."""
    places = []
    for path in sorted(Path(warehouse.storage.uri()).rglob("*")):
        if path.is_dir():
            continue
        if path.suffix == ".parquet":
            rows = duckdb.sql(f"select * from read_parquet('{path}')").to_arrow_table()
            content = repr(rows.to_pylist())
        else:
            content = path.read_text("utf-8", "replace")
        if text in content.replace("\\'", "'"):
            places.append(str(path.relative_to(warehouse.storage.uri())))
    return places


def test_rows_and_bytes_are_gone(warehouse: Warehouse, settings: Settings) -> None:
    """A person who is erased is still in an older version's file, in the log, or takes others along."""
    marks = {day: f"mark {day}" for day in days(5)}
    warehouse.replace("log", events(5), days=days(5), fingerprints=marks)
    warehouse.replace("log", events(1, people=("b", WHO)), days=[D], fingerprints={D: "newer"})
    warehouse.replace(
        "log",
        events(2, start=D + timedelta(days=5), people=("c",)),
        days=[D + timedelta(days=5), D + timedelta(days=6)],
    )
    warehouse.replace("items", pa.table({"ds": [D], "item_id": [WHO]}), days=[D])
    assert person_tables(warehouse) == ["log"]
    rehearsed = erase_person(settings, warehouse, "log", Person(WHO), dry_run=True)
    assert (rehearsed.rows, rehearsed.days, rehearsed.files) == (5, 5, 6)
    before = warehouse.version("log")
    assert on_disk(warehouse, WHO)
    done = erase_person(settings, warehouse, "log", Person(WHO))
    assert (done.rows, done.days, done.files, done.busy) == (5, 5, 6, 0)
    assert [path.split("/")[1] for path in on_disk(warehouse, WHO)] == ["items"]
    files = [f for names in warehouse.files("log").values() for f in names]
    kept = duckdb.sql(
        f"select ds, user_id, n, kvs from read_parquet({files}, hive_partitioning=true) order by all"
    ).fetchall()
    assert [row[1] for row in kept] == ["b", "a", None, "a", None, "a", None, "a", None, "c", "c"]
    assert kept[1][3] == {"city": "a town"}
    assert warehouse.fingerprints("log") == {
        **marks,
        D: "newer",
        D + timedelta(days=5): "",
        D + timedelta(days=6): "",
    }
    version = warehouse.version("log")
    assert version == before + 1  # type: ignore[operator]
    again = erase_person(settings, warehouse, "log", Person(WHO))
    assert (again.rows, again.files, warehouse.version("log")) == (0, 0, version)
    # days that never held the person can still be read as they were
    late = warehouse.files("log", first=D + timedelta(days=5), version=before)
    assert all(Path(f).exists() for names in late.values() for f in names)


def test_each_file_is_read_once(
    warehouse: Warehouse, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against every file of a table crossing a network at every look."""
    warehouse.replace("log", events(4), days=days(4))
    original, read = erasure._Erasure._rows_in, []

    def rows_in(self: erasure._Erasure, files: Sequence[StoredFile], *keys: Any) -> dict[str, int]:
        read.extend(file.path for file in files)
        return original(self, files, *keys)

    monkeypatch.setattr(erasure._Erasure, "_rows_in", rows_in)
    known: dict[str, int] = {}
    erase_person(settings, warehouse, "log", Person(WHO), dry_run=True, known=known)
    warehouse.replace("log", events(1, people=("b", WHO)), days=[D])
    done = erase_person(settings, warehouse, "log", Person(WHO), known=known)
    assert (done.rows, done.files) == (4, 5)
    assert erase_person(settings, warehouse, "log", Person(WHO), known=known).files == 0
    assert len(read) == len({*read}) == 4 + 1 + 4
    assert on_disk(warehouse, WHO) == []


def test_partitions_of_tasks_and_quarantine(warehouse: Warehouse, settings: Settings) -> None:
    """Another task's day is rewritten too, a count of rejects changes, or a masked row stays."""
    for task in ("2017", "spring"):
        table = events(2)
        warehouse.replace(
            "decisions",
            table.append_column("task_id", pa.array([task] * table.num_rows)),
            days=days(2),
            scope={"task_id": task},
            fingerprints=dict.fromkeys(days(2), task),
        )
    rejects = {
        "user": [f"{WHO},1,200", "x,1,200"],
        "population.care": [
            "o'Brien *,i*,+***,Ann",
            "o'Brien *,i*,+***,Bob",
            "y,i*,+***,Cleo",
            None,
        ],
    }
    for name, raw in rejects.items():
        size = len(raw)
        table = pa.table(
            {
                "ds": [D] * size,
                "table_name": [name] * size,
                "line": list(range(size)),
                "rule": ["age"] * size,
                "broken": [f"age: age '{text}'" for text in raw],
                "raw_row": raw,
            }
        )
        warehouse.replace("quarantine", table, days=[D], scope={"table_name": name})
    assert erase_person(settings, warehouse, "decisions", Person(WHO)).rows == 4
    for task in ("2017", "spring"):
        assert warehouse.fingerprints("decisions", {"task_id": task}) == dict.fromkeys(
            days(2), task
        )
    assert warehouse.row_counts("decisions") == dict.fromkeys(days(2), 4)
    done = erase_person(settings, warehouse, "quarantine", Person(WHO))
    assert (done.rows, done.days) == (3, 2)
    assert warehouse.row_counts("quarantine") == {D: 6}
    for text in (WHO, "Ann", "Bob"):
        assert on_disk(warehouse, text) == [], text
    assert on_disk(warehouse, "Cleo")


def test_beside_other_writers(
    warehouse: Warehouse, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day that lands while it is rewritten is lost, or an unfinished write loses its file."""
    warehouse.replace("log", events(2), days=days(2), fingerprints=dict.fromkeys(days(2), "old"))
    original, landed = erasure._Erasure._write, []

    def write(self: erasure._Erasure, *args: object) -> None:
        if not landed:
            landed.append(
                warehouse.replace(
                    "log", events(1, people=("new", WHO)), days=[D], fingerprints={D: "new"}
                )
            )
        original(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(erasure._Erasure, "_write", write)
    unfinished = Path(warehouse.uri("log")) / f"ds={D}" / "part-unfinished.parquet"
    duckdb.sql("select 1 as n, ? as user_id", params=[WHO]).write_parquet(str(unfinished))
    done = erase_person(settings, warehouse, "log", Person(WHO))
    assert done.busy == 1
    assert unfinished.exists()
    assert on_disk(warehouse, WHO) == [f"tables/log/ds={D}/part-unfinished.parquet"]
    assert on_disk(warehouse, "new town")
    assert warehouse.fingerprints("log") == {D: "new", days(2)[1]: "old"}
    monkeypatch.setattr(erasure, "ORPHAN_AGE", timedelta(0))
    assert erase_person(settings, warehouse, "log", Person(WHO)).files == 1
    assert on_disk(warehouse, WHO) == []
    monkeypatch.setattr(erasure, "_TRIES", 2)

    def busy(self: erasure._Erasure, *args: object) -> None:
        warehouse.replace("log", events(1, people=("new", WHO)), days=[D])
        original(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(erasure._Erasure, "_write", busy)
    warehouse.replace("log", events(1), days=[D])
    with pytest.raises(UserError, match="run the same command again"):
        erase_person(settings, warehouse, "log", Person(WHO))
