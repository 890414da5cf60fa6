"""Rows that are written as they are read: the same as those that are held until all is known."""

import hashlib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from landing_files import Content, write_files

from usergrowth_dagster.data import early as early_rows
from usergrowth_dagster.data import lines
from usergrowth_dagster.data import loader as module
from usergrowth_dagster.data.contracts import CONTRACTS
from usergrowth_dagster.data.forgotten import Forgotten
from usergrowth_dagster.data.landing import find_files
from usergrowth_dagster.data.loader import PARSED, Loader
from usergrowth_dagster.data.storage import Storage

DAY = date(2017, 3, 1)
HEAD = ",".join(CONTRACTS["behavior"].names)
PADS = (b"inside", b"outside")


class Kept:
    """A writer that keeps what it gets."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.open = True

    def write(self, batch: pa.RecordBatch) -> None:
        assert batch.schema.names == [*CONTRACTS["behavior"].names, "ds"]
        self.rows += [tuple(row.values()) for row in batch.to_pylist()]
        assert self.open

    def finish(self) -> None:
        self.open = False

    def discard(self) -> None:
        self.rows = []


def forgotten(*users: str) -> Forgotten:
    """Persons who were forgotten."""
    inside = (hashlib.sha256(PADS[0] + user.encode()).digest() for user in users)
    return Forgotten(PADS, frozenset(hashlib.sha256(PADS[1] + one).digest()[:16] for one in inside))


def load(root: Path, files: Mapping[str, Content], *, early: bool) -> dict[str, Any]:
    """All that landing says of a day's files."""
    folder = root / "behavior"
    write_files(folder, files)
    writers: list[Kept] = []

    def writer_of(_: date) -> Kept:
        writers.append(Kept())
        return writers[-1]

    connection = duckdb.connect(config={"threads": 1, "preserve_insertion_order": False})
    try:
        storage, contract = Storage(str(root)), CONTRACTS["behavior"]
        landing_files = find_files(storage, "behavior", contract).files
        loader = Loader(
            *(connection, storage, contract, forgotten("gone")),
            writer_of=writer_of if early else None,
        )
        loader.load(DAY, landing_files)
        counts = loader.finish()[DAY]
        names = ", ".join(contract.names)
        good = connection.execute(f"select {names}, day from {PARSED} where reject = 0").fetchall()
        rejects = connection.execute(f"from ({loader.rejects_sql('t')}) order by all").fetchall()
        assert not any(writer.open for writer in writers)
        written = [row for writer in writers for row in writer.rows]
        assert len(written) == sum(one.rows for one in loader.take_early([DAY]))
        return {
            "written": len(written),
            "rows": sorted([*good, *written], key=repr),
            "rejects": rejects,
            "counts": counts,
            "notices": loader.notices[DAY],
            "complaint": loader.complaint(DAY, "behavior", counts, 0),
        }
    finally:
        connection.close()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is large, and has many blocks."""
    monkeypatch.setattr(module, "EARLY_BLOCKS", 0)
    monkeypatch.setattr(module, "BLOCK_BYTES", 150)
    monkeypatch.setattr(lines, "BLOCK_BYTES", 100)


def both(root: Path, files: Mapping[str, Content]) -> dict[str, Any]:
    """What landing says, the same both ways, and the same of rows that are judged one by one."""
    late, early = (load(root, files, early=one) for one in (False, True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "stored_rows", lambda *_: None)
        assert load(root, files, early=False) == late
    assert late["written"] == 0
    assert {**early, "written": 0} == late
    return early


ID = st.sampled_from(
    ["u1", "u2", "gone", "nan", " NULL ", "NULL\u3000", "用户", "u\r", "", r"\N", "x\0"]
)
CELLS = (
    ID,
    st.sampled_from(["buy", "login", "None", "", r"\N", "a b"]),
    st.sampled_from(["i1", "NaT", "", r"\N", "\udcff"]),
    st.sampled_from(["a:1", "a:1 b:2", "a:1 a:2", "a:x", "a", "", r"\N", "a:1e999", "a:1e3"]),
    st.sampled_from(["a:x", "a:x b:y", "a:x a:y", "a:b:c", "", r"\N"]),
)  # fmt: skip
GOOD = st.sampled_from(["u1,buy,i1,a:1,b:x", r"u2,buy,\N,\N,\N", "gone,buy,i2,a:2,\\N"])
LINE = st.one_of(
    GOOD,
    GOOD,
    st.tuples(*CELLS).map(",".join),
    st.sampled_from(["", ",,,,", "u,buy", "2 rows exported", '"u","b,y",i,a:1,b:x']),
)
CSV = st.lists(LINE, max_size=12).map(lambda rows: "\n".join([HEAD, *rows]))


def _parquet(rows: list[tuple[str | None, ...]]) -> pa.Table:
    bare = [
        [None if cell is None else cell.encode("utf-8", "replace").decode() for cell in column]
        for column in (zip(*rows, strict=True) if rows else [[]] * len(CELLS))
    ]
    names = CONTRACTS["behavior"].names
    return pa.table({n: pa.array(c, pa.string()) for n, c in zip(names, bare, strict=True)})


PARQUET = st.lists(
    st.one_of(
        GOOD.map(lambda row: tuple(None if c == r"\N" else c for c in row.split(","))),
        st.tuples(*(st.one_of(st.none(), cell) for cell in CELLS)),
    ),
    max_size=8,
).map(_parquet)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.one_of(CSV, PARQUET), min_size=1, max_size=3), st.booleans())
def test_written_rows_are_those_that_would_be_held(
    tmp_path: Path, contents: list[Content], twice: bool
) -> None:
    """A row that is lost, doubled, or judged in another way once its file is large."""
    if twice:
        contents = [*contents, contents[0]]
    both(
        tmp_path,
        {
            f"{place}.{'csv' if isinstance(content, str) else 'parquet'}": content
            for place, content in enumerate(contents)
        },
    )


def test_good_rows_are_written_and_the_others_held(tmp_path: Path) -> None:
    """Rows that are all held, or cells that are all looked at one by one, cost what they did."""
    good = [(f"u{n}", "buy", "i", "a:1 b:2", None) for n in range(50)]
    lines_of = [",".join(cell or r"\N" for cell in row) for row in good]
    loaded = both(tmp_path, {"a.csv": "\n".join([HEAD, *lines_of, "u,buy", 'u,"b",i,a:1,b:x'])})
    assert (loaded["written"], len(loaded["rows"]), len(loaded["rejects"])) == (50, 51, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(early_rows, "clean_sql", lambda *_, **__: pytest.fail("the cells are typed"))
        assert load(tmp_path, {"a.parquet": _parquet(good)}, early=True)["written"] == 50


def test_a_file_that_is_there_twice_is_written_once(tmp_path: Path) -> None:
    """Its rows are in a data file before the last line shows that they are a repetition."""
    body = "\n".join([HEAD, *[f"u{n},nan,\\N,\\N,\\N" for n in range(30)]])
    loaded = both(tmp_path, {"a.csv": body, "b.csv": body.replace("\n", "\r\n") + "\r\n"})
    assert loaded["written"] == len(loaded["rows"]) == 30
    assert any("says nan 30 times" in notice for notice in loaded["notices"])


def test_a_footer_is_the_last_line_of_the_file(tmp_path: Path) -> None:
    """The last line that is held is not the last one of the file: a cut row would be dropped."""
    good = [f"u{n},buy,\\N,\\N,\\N" for n in range(20)]
    middle = both(tmp_path, {"a.csv": "\n".join([HEAD, *good, "20 rows exported", *good])})
    assert [reject[5] for reject in middle["rejects"]] == ["field_count"]
    end = both(tmp_path, {"a.csv": "\n".join([HEAD, *good, "20 rows exported"])})
    assert (end["rejects"], end["counts"].no_rows) == ([], 1)


def test_nothing_of_a_forgotten_person_is_written(tmp_path: Path) -> None:
    """Good rows go to the table before anybody asks whose they are."""
    rows = ["gone,buy,i,a:1,b:x", "u1,buy,i,a:1,b:x"] * 20
    cells = [tuple(row.split(",")) for row in rows]
    for files in ({"a.csv": "\n".join([HEAD, *rows])}, {"a.parquet": _parquet(cells)}):
        loaded = both(tmp_path, files)
        assert (loaded["written"], loaded["counts"].forgotten) == (20, 20)
        assert {row[0] for row in loaded["rows"]} == {"u1"}
        assert all(reject[7] is None for reject in loaded["rejects"])
