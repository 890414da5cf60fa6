"""Landing files against their contracts: each row lands as written or is rejected by its rule."""

import csv
import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from landing_files import write_files

from usergrowth_dagster.data import lines
from usergrowth_dagster.data.contracts import CONTRACTS, LONGEST_LINE, contract_of
from usergrowth_dagster.data.landing import find_files
from usergrowth_dagster.data.loader import PARSED, CountMismatchError, Counts, Loader
from usergrowth_dagster.data.rules import BLOCK, clean_sql, parse_sql, rest_sql
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError

DAY = date(2017, 3, 1)
HEADS = {table: ",".join(contract.names) for table, contract in CONTRACTS.items()}
SLOW = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Result:
    """What a load made of some files."""

    def __init__(self, loader: Loader) -> None:
        self.counts = loader.finish()[DAY]
        names = ", ".join(loader.contract.names)
        extra = ", variables" if loader.contract.table == "population" else ""
        run = loader.connection.execute
        self.rows = run(
            f"select {names}{extra} from {PARSED} where reject = 0 order by file, line"
        ).fetchall()
        self.rejects = [
            (file.rsplit("/", 1)[-1], line, column, rule)
            for file, line, column, rule in run(
                f"select file, line, column_name, rule from ({loader.rejects_sql('t')}) order by 1, 2"
            ).fetchall()
        ]
        self.raw = [
            row[0]
            for row in run(
                f"select raw_row from ({loader.rejects_sql('t')}) order by file, line"
            ).fetchall()
        ]


def load(root: Path, table: str, files: dict[str, Any]) -> Result:
    """Write files of a day (bytes, text or an Arrow table) and load them."""
    write_files(root / table / "ds=20170301", files)
    with loader(root, table) as reader:
        storage = Storage(str(root))
        reader.load(DAY, find_files(storage, f"{table}/ds=20170301", CONTRACTS[table]).files)
        return Result(reader)


@contextmanager
def loader(root: Path, table: str) -> Iterator[Loader]:
    connection = duckdb.connect(config={"threads": 1, "preserve_insertion_order": False})
    try:
        yield Loader(connection, Storage(str(root)), CONTRACTS[table])
    finally:
        connection.close()


def users(*rows: str) -> str:
    return "\n".join([HEADS["user"], *rows]) + "\n"


def test_good_rows_of_every_table_land_typed(tmp_path: Path) -> None:
    """A value that changes its type or a \\N that stays text would poison every feature."""
    got = load(
        tmp_path,
        "user",
        {
            "a.csv": users(
                r"u1,1,42,20160229,vip,ltv:1.5 n:-2e3,city:上海 x:y|z",
                r"u2,\N,\N,\N,\N,\N,\N",
                "u3,2,0,20170101,,,",
            )
        },
    )
    assert got.rows == [
        ("u1", 1, 42, "20160229", "vip", "ltv:1.5 n:-2e3", "city:上海 x:y|z"),
        ("u2", None, None, None, None, None, None),
        ("u3", 2, 0, "20170101", None, None, None),
    ]
    got = load(
        tmp_path, "behavior", {"a.csv": HEADS["behavior"] + "\n" + r"10001,login,\N,hh14:1,\N"}
    )
    assert got.rows == [("10001", "login", None, "hh14:1", None)] and got.rejects == []


CELLS = [
    ("user_id", r"\N", "not_null"), ("user_id", "", "empty"),
    ("gender", "3", "gender"), ("gender", "0", "gender"), ("gender", "F", "bigint"), ("gender", "1.0", "bigint"), ("gender", " 1", "bigint"),
    ("age", "-1", "age"), ("age", "151", "age"), ("age", "99999999999999999999", "bigint"), ("age", "9999999999999999999", "bigint"), ("age", "1_0", "bigint"),
    ("reg_time", "20170229", "yyyymmdd"), ("reg_time", "2017-01-01", "yyyymmdd"), ("reg_time", "20171301", "yyyymmdd"), ("reg_time", "00000101", "yyyymmdd"), ("reg_time", "2017010１", "yyyymmdd"),
    ("kvs_num", "a", "kvs"), ("kvs_num", "a:", "kvs"), ("kvs_num", ":1", "kvs"), ("kvs_num", "a:1  b:2", "kvs"), ("kvs_num", " a:1", "kvs"), ("kvs_num", "a:1 ", "kvs"), ("kvs_num", "a:1:2", "kvs"), ("kvs_num", "a：1", "kvs"), ('kvs_num', '"a:1,2"', "kvs"),
    ("kvs_num", "a:x", "kvs_number"), ("kvs_num", "a:nan", "kvs_number"), ("kvs_num", "a:inf", "kvs_number"), ("kvs_num", "b:1 a:1e999", "kvs_number"), ("kvs_num", "a:" + "9" * 400, "kvs_number"), ("kvs_num", "a:0x1", "kvs_number"), ("kvs_num", "a:1_000", "kvs_number"), ("kvs_num", "a:.", "kvs_number"),
    ("kvs_num", "a:1 b:2 a:3", "kvs_key"), ("kvs_str", "a:x a:x", "kvs_key"),
    ("kvs_str", "a:b:c", "kvs"), ("kvs_str", "city: x", "kvs"),
]  # fmt: skip


def test_each_broken_cell_names_its_rule_and_column(tmp_path: Path) -> None:
    """A bad cell accepted, or blamed on the wrong rule, costs the user a search through a file."""
    good = dict(
        zip(
            CONTRACTS["user"].names,
            ["u", "1", "30", "20170101", "a", "n:1 m:2.5e300", "s:t"],
            strict=True,
        )
    )
    rows = []
    for place, (column, value, _) in enumerate(CELLS):
        row = {**good, "user_id": f"u{place}", column: value}
        rows.append(",".join(row.values()))
    got = load(tmp_path, "user", {"a.csv": users(*rows)})
    assert got.rejects == [
        ("a.csv", place + 2, column, rule) for place, (column, _, rule) in enumerate(CELLS)
    ]
    assert got.raw == rows and got.rows == []


def test_broken_lines_name_their_rule_and_physical_line(tmp_path: Path) -> None:
    """One damaged line must neither hide its neighbours nor shift their numbers."""
    ok = r"u,buy,\N,\N,\N"
    body = [
        (ok.encode(), None), (b"", None), (b"u,buy", "field_count"), (b"   ", None), (ok.encode() + b",x", "field_count"),
        (b"u,b\xffy,i,\\N,\\N", "bad_utf8"), (b"u,b\0y,i,\\N,\\N", "nul"), (b"u,b\ry,i,\\N,\\N", "line_break"),
        (b'u,"buy,i,\\N,\\N', "quote"), (b'u,b"u"y,i,\\N,\\N', "quote"), (b'"u"x,buy,i,\\N,\\N', "quote"),
        (b"u" * (LONGEST_LINE + 1), "too_long"), (b"x" * (2 * lines.BLOCK_BYTES) + b"\xff", "too_long"), (b'"u","bu""y","a,b",\\N,\\N', None), ("用户,买,\\N,\\N,\\N".encode(), None),
    ]  # fmt: skip
    content = HEADS["behavior"].encode() + b"\n" + b"\n".join(line for line, _ in body)
    for ends in (b"\n", b"\r\n"):
        got = load(tmp_path, "behavior", {"a.csv": b"\xef\xbb\xbf" + content.replace(b"\n", ends)})
        assert got.rejects == [
            ("a.csv", place, None, rule) for place, (_, rule) in enumerate(body, 2) if rule
        ]
        assert got.rows == [
            ("u", "buy", None, None, None),
            ("u", 'bu"y', "a,b", None, None),
            ("用户", "买", None, None, None),
        ]
        assert (got.counts.rows_in, got.counts.no_rows) == (len(body) - 2, 2)
        assert all(len(raw) <= 2000 and "\0" not in raw for raw in got.raw)
        assert got.raw[2] == r"u,b\xFFy,i,\N,\N"


def test_lines_keep_their_numbers_across_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block border inside a line, a CRLF or a character must not be seen in the result."""
    rows = [f"用户{n},buy,i{n},n:{n},\\N" if n % 7 else f"bad{n}" for n in range(1, 400)]
    content = ("\ufeff" + "\r\n".join([HEADS["behavior"], *rows])).encode()
    whole = load(tmp_path, "behavior", {"a.csv": content})
    assert [line for _, line, _, _ in whole.rejects] == [n + 1 for n in range(7, 400, 7)]
    for size in (61, 64, 997):
        monkeypatch.setattr(lines, "BLOCK_BYTES", size)
        got = load(tmp_path, "behavior", {"a.csv": content})
        assert (got.rows, got.rejects, got.raw) == (whole.rows, whole.rejects, whole.raw)


HEADER_FAULTS = [
    (HEADS["item"].replace("item_id", "Item_id"), "a.csv: line 1, column 1: expected 'item_id', found 'Item_id'"),
    ("kvs_str,kvs_num", "a.csv: line 1, column 3: expected 'item_id', found the end of the header"),
    ("item_id,kvs_num", "a.csv: line 1, column 3: expected 'kvs_str', found the end of the header"),
    (HEADS["item"] + ",kvs_str", "a.csv: line 1, column 4: expected a new name, found 'kvs_str' again"),
    ("item_id;kvs_num;kvs_str", "a.csv: line 1, column 1: expected 'item_id', found 'item_id;kvs_num;kvs_str'"),
    ("item_id, kvs_num,kvs_str", "a.csv: line 1, column 2: expected 'kvs_num', found ' kvs_num'"),
    ("", "a.csv: line 1 is empty; the first line must be the header"),
    ("\ufeff", "a.csv: line 1 is empty; the first line must be the header"),
    ("\n" + HEADS["item"], "a.csv: line 1 is empty; the first line must be the header"),
    (HEADS["item"].encode("utf-16"), 'a.csv: line 1 is not UTF-8 text: looks like UTF-16; save it as UTF-8, or set encoding = "utf-16"'),
    ("item_id,姓名".encode("gbk"), 'a.csv: line 1 is not UTF-8 text: looks like GBK; save it as UTF-8, or set encoding = "gbk"'),
    ("item_id,née".encode("latin-1"), 'a.csv: line 1 is not UTF-8 text: looks like Latin-1; save it as UTF-8, or set encoding = "latin-1"'),
    (b"\x1f\x8b\x08\x88abc", "a.csv: the file is compressed; name it .csv.gz"),
    (b"\x28\xb5\x2f\xfdabc", "a.csv: the file is compressed; name it .csv.zst"),
    (b"PK\x03\x04abc", "a.csv: the file is a spreadsheet or an archive; save it as CSV"),
    (b"item_id,\0", "a.csv: line 1 is not a header; the file is not CSV text"),
    (b"x" * (LONGEST_LINE + 9), "a.csv: line 1 is not a header; the file is not CSV text"),
    ("item_id\rkvs_num", "a.csv: line 1 is not a header of comma-separated names"),
]  # fmt: skip


def test_a_wrong_header_is_one_sentence(tmp_path: Path) -> None:
    """Columns read by place under wrong names would swap meanings silently."""
    for header, sentence in HEADER_FAULTS:
        whole = (
            header
            if isinstance(header, bytes)
            else (header + "\ni1,\\N,\\N\n" if header.strip("\ufeff\n") else header).encode()
        )
        with pytest.raises(UserError) as error:
            load(tmp_path, "item", {"a.csv": whole})
        assert str(error.value) == f"item/ds=20170301/{sentence}"
    quoted = load(tmp_path, "item", {"a.csv": '"item_id","kvs_num","kvs_str"\ni1,\\N,\\N\n'})
    assert quoted.rows == [("i1", None, None)]
    assert load(tmp_path, "item", {"a.csv": HEADS["item"]}).counts.rows_in == 0


def test_csv_and_parquet_make_one_day_and_the_first_of_a_key_stays(tmp_path: Path) -> None:
    """A user twice in a day would double every joined row; which of them stays must not be chance."""
    table = pa.table({
        "user_id": [7, 8, 1, None], "gender": [1.0, math.nan, 2.5, 1.0], "age": pa.array([5, None, 6, 7], pa.int8()),
        "reg_time": pa.array(["20170101", r"\N", None, None]).dictionary_encode(), "user_type": pa.nulls(4),
        "kvs_num": pa.array(["a:1", "a:1 a:2", None, None], pa.large_string()), "kvs_str": pa.array([b"x:y", None, None, None], pa.binary()),
    })  # fmt: skip
    got = load(tmp_path, "user", {
        "b.csv": users(r"1,1,1,\N,\N,\N,\N", r'"7",2,9,\N,\N,\N,\N', r"1,1,2,\N,\N,\N,\N"), "c.parquet": table,
        "z.csv": users(r"9,2,3,\N,\N,\N,\N"), "_SUCCESS": b"", ".hidden.csv": b"x", "_tmp.csv": b"junk",
    })  # fmt: skip
    assert [row[0] for row in got.rows] == ["1", "7", "9"] and got.rows[1][2] == 9
    assert got.rejects == [
        ("b.csv", 4, "user_id", "duplicate"), ("c.parquet", 1, "user_id", "duplicate"), ("c.parquet", 2, "kvs_num", "kvs_key"),
        ("c.parquet", 3, "gender", "bigint"), ("c.parquet", 4, "user_id", "not_null"),
    ]  # fmt: skip
    assert got.raw[:2] == [r"1,1,2,\N,\N,\N,\N", r"7,1,5,20170101,\N,a:1,x:y"]


def test_parquet_cells_keep_the_rules_of_lines(tmp_path: Path) -> None:
    """Parquet can hold what a line cannot (bad UTF-8, newlines): it must not slip through."""
    bad = pa.Array.from_buffers(
        pa.string(), 4, pa.array([b"ok", b"\xff\xfe", b"a\nb", b"n\0l"], pa.binary()).buffers()
    )
    got = load(
        tmp_path,
        "item",
        {
            "a.parquet": pa.table(
                {
                    "item_id": bad,
                    "kvs_num": pa.nulls(4, pa.string()),
                    "kvs_str": pa.nulls(4, pa.string()),
                }
            )
        },
    )
    assert got.rows == [("ok", None, None)]
    assert got.rejects == [
        ("a.parquet", 2, None, "bad_utf8"),
        ("a.parquet", 3, None, "line_break"),
        ("a.parquet", 4, None, "nul"),
    ]
    whole = pa.table(
        {
            "item_id": [f"i{n}" for n in range(50_000)],
            "kvs_num": pa.nulls(50_000, pa.string()),
            "kvs_str": pa.nulls(50_000, pa.string()),
        }
    )
    sink = io.BytesIO()
    pq.write_table(whole, sink)
    content = sink.getvalue()
    damaged = bytearray(content)
    damaged[1000:9000] = b"\xaa" * 8000
    for broken in (content[:-9], content[:2000], b"", b"PAR1", bytes(damaged)):
        with pytest.raises(
            UserError,
            match=r"item/ds=20170301/a\.parquet: the Parquet file is cut short or damaged",
        ):
            load(tmp_path, "item", {"a.parquet": broken})
    with pytest.raises(UserError, match="column kvs_num: expected text or numbers, found map"):
        load(
            tmp_path,
            "item",
            {
                "a.parquet": pa.table(
                    {
                        "item_id": ["i"],
                        "kvs_num": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
                        "kvs_str": ["a:b"],
                    }
                )
            },
        )
    with pytest.raises(UserError, match=r"x\.txt: landing files end in \.csv, \.csv\.gz, "):
        load(tmp_path, "item", {"x.txt": b"x"})


def test_an_unreadable_file_takes_its_whole_day_with_it(tmp_path: Path) -> None:
    """Half a day in the table would look like a quiet day."""
    root = tmp_path / "item" / "ds=20170301"
    root.mkdir(parents=True)
    (root / "a.csv").write_text(HEADS["item"] + "\n" + "i1,\\N,\\N\n" * 3)
    (root / "b.parquet").write_bytes(b"PAR1 no")
    storage = Storage(str(tmp_path))
    with loader(tmp_path, "item") as reader:
        with pytest.raises(UserError):
            reader.load(DAY, find_files(storage, "item/ds=20170301", contract_of("item")).files)
        gone = find_files(storage, "item/ds=20170301", contract_of("item")).files[:1]
        (root / "a.csv").unlink()
        with pytest.raises(
            UserError, match=r"a\.csv: cannot be read \(No such file or directory\)"
        ):
            reader.load(DAY, gone)
        assert reader.finish() == {}
        assert reader.connection.execute(f"select count(*) from {PARSED}").fetchall() == [(0,)]


CELL = st.one_of(
    st.sampled_from(
        [
            r"\N",
            "",
            "1",
            "2",
            "200",
            "20170101",
            "20170231",
            "a:1",
            "a:1 b:2.5",
            "a:b",
            "a:1 a:2",
            "u1",
            "买",
        ]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=6),
)
GOOD = (
    st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1, max_size=4),
    st.sampled_from([r"\N", "1", "2"]),
    st.integers(0, 150).map(str),
    st.dates(date(1, 1, 1)).map(lambda day: f"{day.year:04}{day:%m%d}"),
    CELL,
    st.dictionaries(
        st.sampled_from("abc"), st.floats(allow_nan=False, allow_infinity=False), max_size=3
    ).map(lambda kv: " ".join(f"{k}:{v}" for k, v in kv.items())),
    st.dictionaries(
        st.sampled_from("abc"), st.sampled_from(["x", "é|y", '"', "："]), max_size=3
    ).map(lambda kv: " ".join(f"{k}:{v}" for k, v in kv.items())),
)
# Mostly good rows, with now and then a random cell.
ROW = st.tuples(
    *(st.integers(0, 9).flatmap(lambda n, good=good: CELL if n == 0 else good) for good in GOOD)
).map(list)


def pairs(cell: str, number: bool) -> bool:
    """A plain reading of the kvs grammar."""
    keys = []
    for pair in cell.split(" "):
        if pair.count(":") != 1 or "," in pair or not all(pair.split(":")):
            return False
        key, value = pair.split(":")
        keys.append(key)
        if number and not (
            re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", value, re.ASCII)
            and math.isfinite(float(value))
        ):
            return False
    return len(keys) == len(set(keys))


def acceptable(row: list[str]) -> bool:
    """A plain reading of the user contract."""
    user_id, gender, age, reg_time, _, kvs_num, kvs_str = (
        None if cell in (r"\N", "") else cell for cell in row
    )
    if not user_id or gender not in (None, "1", "2"):
        return False
    if age is not None and not (re.fullmatch(r"-?[0-9]{1,19}", age) and 0 <= int(age) <= 150):
        return False
    if reg_time is not None:
        try:
            datetime.strptime(reg_time, "%Y%m%d")
        except ValueError:
            return False
        if not re.fullmatch("[0-9]{8}", reg_time):
            return False
    return (not kvs_num or pairs(kvs_num, True)) and (not kvs_str or pairs(kvs_str, False))


@SLOW
@given(st.lists(ROW, max_size=25), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_random_rows_are_judged_as_a_plain_reader_would(
    tmp_path: Path, rows: list[list[str]], end: str, bom: bool
) -> None:
    """An accepted row must read back as it was written, and exactly the good ones are accepted."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=end)
    writer.writerow(CONTRACTS["user"].names)
    writer.writerows(rows)
    got = load(tmp_path, "user", {"a.csv": ("\ufeff" if bom else "") + text.getvalue()})
    expected: dict[str, tuple[Any, ...]] = {}
    for row in rows:
        if acceptable(row) and row[0] not in expected:
            cells = [None if cell in (r"\N", "") else cell for cell in row]
            numbers = [int(cell) if cell is not None else None for cell in cells[1:3]]
            expected[row[0]] = (cells[0], *numbers, *cells[3:])
    assert got.rows == list(expected.values())
    assert got.counts.rows_in == len(rows) == len(got.rows) + len(got.rejects)


@SLOW
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=30),
            st.sampled_from(
                [
                    b"\n",
                    b"\r\n",
                    b"\r",
                    b",",
                    b'"',
                    b"\0",
                    b"\xff",
                    b"\x1a",
                    b",,\n",
                    b"2 rows exported\n",
                    b"u,buy,i,a:1,\\N",
                    b"\n\n",
                ]
            ),
        ),
        max_size=40,
    ),
    st.sampled_from(sorted(CONTRACTS)),
)
def test_garbage_is_counted_never_lost(tmp_path: Path, parts: list[bytes], table: str) -> None:
    """Whatever bytes follow the header, every line is accepted, rejected or counted as no row."""
    body = b"".join(parts)
    got = load(tmp_path, table, {"a.csv": HEADS[table].encode() + b"\n" + body})
    physical = body.replace(b"\r\n", b"\n").split(b"\n")
    if not physical[-1]:
        physical.pop()
    assert got.counts.rows_in + got.counts.no_rows == len(physical)
    assert got.counts.rows_in == len(got.rows) + len(got.rejects)
    numbers = [line for _, line, _, _ in got.rejects]
    assert len(set(numbers)) == len(numbers) and all(physical[line - 2] for line in numbers)


@SLOW
@given(st.binary(max_size=200), st.sampled_from(["a.csv", "a.parquet"]))
def test_a_garbage_file_is_a_sentence(tmp_path: Path, content: bytes, name: str) -> None:
    """A broken file must be named, not show a traceback."""
    with pytest.raises(UserError, match=f"item/ds=20170301/{name}: "):
        load(tmp_path, "item", {name: content})


def judged(table: str, block: pa.Table, *, lines: bool, two_ways: bool) -> list[tuple[Any, ...]]:
    """The rows of a block, by the rules alone or with the short way of good rows before them."""
    contract = CONTRACTS[table]
    connection = duckdb.connect()
    connection.register(BLOCK, block)
    if not two_ways:
        sql = parse_sql(contract, contract.names, lines=lines, text=True)
    else:
        rest = rest_sql(contract, contract.names, lines=lines)
        left = parse_sql(contract, contract.names, lines=lines, text=True, block=f"({rest})")
        sql = f"({clean_sql(contract, contract.names, lines=lines)}) union all ({left})"
    return connection.execute(f"select * from ({sql}) order by line").fetchall()


@SLOW
@given(st.lists(ROW, max_size=25), st.sampled_from(sorted(CONTRACTS)), st.booleans())
def test_good_rows_are_taken_as_the_rules_would_take_them(
    rows: list[list[str]], table: str, lines: bool
) -> None:
    """Guards against a quick look at a row that takes it although it breaks a rule, loses it, or
    gives it other values."""
    width = len(CONTRACTS[table].names)
    rows = [(row[:1] + row[1 - width :])[:width] for row in rows]
    cells = {f"c{n + 1}": pa.array([r[n] for r in rows], pa.string()) for n in range(width)}
    if lines:
        cells = {"t": pa.array([",".join(row) for row in rows], pa.string())}
    size = len(rows)
    block = pa.table({
        "day": pa.array([DAY] * size, pa.date32()),
        "file": pa.array([0] * size, pa.int32()),
        "line": pa.array(range(size), pa.int64()),
        **cells,
    })  # fmt: skip
    plain = judged(table, block, lines=lines, two_ways=False)
    assert judged(table, block, lines=lines, two_ways=True) == plain


def test_usual_rows_go_the_short_way() -> None:
    """Guards against rules that no usual row satisfies at a glance: landing takes twice as long."""
    usual = [
        r"u1,buy,i1,hh01:1 amount:2.50,shop:s1",
        r"u2,login,\N,\N,\N",
        r"用户,login,\N,a:-1 b:.5 c:3,t:x u:y v:z",
    ]
    block = pa.table({
        "day": pa.array([DAY] * 3, pa.date32()),
        "file": pa.array([0] * 3, pa.int32()),
        "line": pa.array(range(3), pa.int64()),
        "t": usual,
    })  # fmt: skip
    contract = contract_of("behavior")
    connection = duckdb.connect()
    connection.register(BLOCK, block)
    taken = connection.execute(clean_sql(contract, contract.names, lines=True)).fetchall()
    assert len(taken) == len(usual)


@pytest.mark.parametrize(
    ("fault", "counts"),
    [
        (f"delete from {PARSED} where line = 2", "3 rows read, but 1 accepted and 1 quarantined"),
        (f"delete from {PARSED} where line = 4", "3 rows read, but 2 accepted and 0 quarantined"),
        (
            f"insert into {PARSED} from {PARSED} where line = 3",
            "3 rows read, but 3 accepted and 1 quarantined",
        ),
    ],
)
def test_a_row_lost_or_doubled_on_the_way_stops_the_landing(
    tmp_path: Path, fault: str, counts: str
) -> None:
    """A fault of the reader that loses rows, or takes some twice, and lands the day all the same."""
    table = "behavior"
    folder = f"{table}/ds=20170301"
    body = "a,buy,\\N,\\N,\\N\nb,buy,\\N,\\N,\\N\nc,buy\n"
    write_files(tmp_path / folder, {"a.csv": f"{HEADS[table]}\n{body}"})
    with loader(tmp_path, table) as reader:
        reader.load(DAY, find_files(Storage(str(tmp_path)), folder, CONTRACTS[table]).files)
        assert reader.finish()[DAY] == Counts(rows_in=3, accepted=2, quarantined=1)
        reader.connection.execute(fault)
        with pytest.raises(CountMismatchError, match=f"behavior 2017-03-01: {counts}"):
            reader.finish()
