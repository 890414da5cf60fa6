"""Landing files as people have them: what is no row, other orders, words, encodings, compression."""

import gzip
import io
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from usergrowth_dagster.data.contracts import CONTRACTS, Reading
from usergrowth_dagster.data.encodings import seems
from usergrowth_dagster.data.landing import find_files
from usergrowth_dagster.data.loader import PARSED, Counts, Loader
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError

DAY = date(2024, 1, 9)
POPULATION = "user_id,item_id,phone"
ITEM = "item_id,kvs_num,kvs_str"
SLOW = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Landed:
    """What a load made of some files: counts, notices, accepted rows, rejects."""

    def __init__(self, loader: Loader) -> None:
        self.counts: Counts = loader.finish()[DAY]
        self.notices = loader.notices[DAY]
        names = ", ".join(loader.contract.names)
        extra = ", variables" if loader.contract.table == "population" else ""
        run = loader.connection.execute
        self.rows = run(
            f"select {names}{extra} from {PARSED} where reject = 0 order by file, line"
        ).fetchall()
        self.rejects = run(
            f"select line, rule, broken, raw_row from ({loader.rejects_sql('t')}) order by file, line"
        ).fetchall()


def load(
    root: Path, table: str, files: dict[str, bytes | str], reading: Reading | None = None
) -> Landed:
    """Write files of a day and load them."""
    import shutil

    folder = root / table
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    connection = duckdb.connect(config={"threads": 1, "preserve_insertion_order": False})
    try:
        storage = Storage(str(root))
        loader = Loader(connection, storage, CONTRACTS[table], None, reading)
        loader.load(DAY, find_files(storage, table, CONTRACTS[table], reading).files)
        return Landed(loader)
    finally:
        connection.close()


def zstd(content: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd").compress(content, asbytes=True)
    return packed


TAILS = [
    ",,\r\n,,\r\n   \r\n", "\r\n\r\n", "\x1a", "\r\n\x1a\r\n", " , ,\t\r\n", "2 rows exported\r\n",
    "(2 rows)\r\n", "2 rows in set\r\n", "2 rows selected.\r\n", "Total: 2\r\n", "Total rows: 2\r\n", "2 records",
    "共 2 行\r\n", "总计：2\r\n", "导出 2 条记录\r\n", "-----\r\n(2 rows)\r\n\r\n", "# 2 rows\r\n\x1a",
]  # fmt: skip


@pytest.mark.parametrize("tail", TAILS)
def test_what_ends_an_export_is_no_row_and_is_counted(tmp_path: Path, tail: str) -> None:
    """What Excel and database clients leave below the rows failed the whole upload."""
    body = "e1,none,+447700900161\r\ne2,none,+447700900162\r\n"
    got = load(tmp_path, "population", {"a.csv": f"{POPULATION}\r\n{body}{tail}"})
    assert [row[0] for row in got.rows] == ["e1", "e2"] and got.rejects == []
    lines = tail.split("\r\n")
    expected = len(lines) - (lines[-1] == "")
    assert got.counts == Counts(2, 2, 0, 0, expected)
    assert any("no rows" in notice for notice in got.notices)


NO_FOOTERS = [
    "e3",
    "e3,none",
    "13855550100",
    "+447700900163",
    "see sheet 2",
    "e3 rows,x",
    "row",
    "2",
]


@pytest.mark.parametrize("line", NO_FOOTERS)
def test_a_last_line_that_was_cut_short_is_a_reject(tmp_path: Path, line: str) -> None:
    """A truncated person must not pass as a footer: the file is not whole."""
    got = load(tmp_path, "population", {"a.csv": f"{POPULATION}\ne1,none,\n{line}"})
    assert (got.counts.accepted, got.counts.quarantined, got.counts.no_rows) == (1, 1, 0)
    middle = load(tmp_path, "population", {"a.csv": f"{POPULATION}\n2 rows exported\ne1,none,\n"})
    assert [reject[1] for reject in middle.rejects] == ["field_count"]


@SLOW
@given(
    st.lists(
        st.sampled_from([
            "u1,i1,+447700900161", "u2,i2,", "\\N,i1,x", "u3", ",,", "", " ", "\x1a", "2 rows exported", '"u4', "u5,i5,nan", "-----", "u6,i6,a,b",
        ]),
        max_size=30,
    ),
    st.lists(st.integers(0, 29), max_size=3),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.sampled_from(["a.csv", "a.csv.gz", "a.csv.zst"]),
)  # fmt: skip
def test_every_line_is_a_row_a_reject_or_counted_as_none(
    tmp_path: Path, lines: list[str], cuts: list[int], end: str, last_end: bool, name: str
) -> None:
    """A line that is in none of the three is a person who vanished without a word."""
    parts, start = [], 0
    for cut in [*sorted(cuts), len(lines)]:
        parts.append(lines[start:cut])
        start = max(start, min(cut, len(lines)))
    files: dict[str, bytes | str] = {}
    for place, part in enumerate(parts):
        text = end.join([POPULATION, *part]) + (end if last_end else "")
        pack = {"gz": gzip.compress, "zst": zstd}.get(name.rsplit(".", 1)[1], bytes)
        files[f"{place}{name}"] = pack(text.encode())
    got = load(tmp_path, "population", files)
    physical = sum(len(part) - (not last_end and bool(part) and part[-1] == "") for part in parts)
    assert got.counts.rows_in + got.counts.no_rows == physical
    assert got.counts.accepted == len(got.rows) and got.counts.quarantined == len(got.rejects)
    assert bool(got.counts.no_rows) == any("no rows" in notice for notice in got.notices)


def test_columns_are_found_by_name_in_any_order(tmp_path: Path) -> None:
    """A spreadsheet with its columns in another order was refused, and read by place it would mix
    up phone and user; a column of its own is noticed, not an error."""
    got = load(tmp_path, "item", {
        "a.csv": "kvs_str,note,item_id,kvs_num\ncity:x,hello,i1,n:1\n,,\\N,n:x\n", "b.csv": f"{ITEM},\ni2,\\N,\\N,\n",
    })  # fmt: skip
    assert got.rows == [("i1", "n:1", "city:x"), ("i2", None, None)]
    assert got.rejects == [
        (3, "not_null", "item_id: not_null; kvs_num: kvs_number 'n:x'", r",,\N,n:x")
    ]
    assert got.notices[:2] == [
        "item/a.csv: columns that are not read: 'note'",
        "item/b.csv: columns that are not read: ''",
    ]
    got = load(
        tmp_path, "population", {"a.csv": "name,phone,user_id,item_id\nLi,+447700900161,u1,i1\n"}
    )
    assert got.rows == [("u1", "i1", "+447700900161", {"name": "Li"})] and got.notices == []


def test_a_reject_names_every_rule_with_the_value_seen(tmp_path: Path) -> None:
    """A row mended rule by rule comes back once for each; a phone number must not be repeated."""
    head = ",".join(CONTRACTS["user"].names)
    body = 'u1,F,200,2017-01-01,x,a:x a:y,b\nu2,1,3,20170101,x,,\nu2,1,3,20170101,"a,b",,\nu3,1\n'
    got = load(tmp_path, "user", {"a.csv": f"{head}\n{body}"})
    assert [(rule, broken) for _, rule, broken, _ in got.rejects] == [
        ("bigint", "gender: bigint 'F'; age: age '200'; reg_time: yyyymmdd '2017-01-01'; "
         "kvs_num: kvs_number 'a:x a:y'; kvs_num: kvs_key 'a:x a:y'; kvs_str: kvs 'b'"),
        ("duplicate", "user_id: duplicate 'u2'"),
        ("field_count", "field_count: 2 values for 7 columns"),
    ]  # fmt: skip
    assert got.rejects[1][3] == r'u2,1,3,20170101,"a,b",\N,\N'
    people = load(tmp_path, "population", {"a.csv": f"{POPULATION}\n\\N,,+447700900161\n"})
    assert people.rejects[0][2:] == ("user_id: not_null; item_id: empty ''", r"\N,,+************")


def test_words_for_no_value_are_counted_by_column(tmp_path: Path) -> None:
    """``Dear nan`` was texted: what a program writes for no value is noticed with its number."""
    words = ["nan", "None", "NULL", "undefined", "#N/A", " null "]
    body = "".join(f"u{n},i,,{word}\n" for n, word in enumerate(words))
    got = load(tmp_path, "population", {"a.csv": f"{POPULATION},name\n{body}None,i,,Nan\n"})
    assert len(got.rows) == 7
    assert got.notices == [
        r"population: column name says #N/A, NULL, None, nan, null, … 6 times; no value is written \N",
        r"population: column user_id says None 1 times; no value is written \N",
    ]
    lax = load(tmp_path, "population", {"a.csv": f"{POPULATION},name\n{body}"}, Reading(missing=()))
    assert lax.notices == []


def test_the_same_file_twice_is_taken_once(tmp_path: Path) -> None:
    """A file that was copied under another name doubled a day's events in silence."""
    head = ",".join(CONTRACTS["behavior"].names)
    body = "".join(f"u{n},buy,\\N,\\N,\\N\n" for n in range(50))
    plain = f"{head}\n{body}"
    got = load(tmp_path, "behavior", {
        "a.csv": plain, "b.csv": plain.replace("\n", "\r\n"), "c.csv.gz": gzip.compress(plain.encode()),
        "d.csv": plain.replace("u49", "u50"), "e.csv": head, "f.csv": f"{head}\n",
    })  # fmt: skip
    assert (got.counts.accepted, got.counts.no_rows) == (100, 100)
    assert [n for n in got.notices if "same content" in n] == [
        "behavior/b.csv: has the same content as behavior/a.csv, so its 50 rows are taken once; remove one of the two",
        "behavior/c.csv.gz: has the same content as behavior/a.csv, so its 50 rows are taken once; remove one of the two",
    ]  # fmt: skip
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(
        pa.table({"item_id": ["i"], "kvs_num": pa.nulls(1), "kvs_str": pa.nulls(1)}), sink
    )
    got = load(tmp_path, "item", {"a.parquet": sink.getvalue(), "b.parquet": sink.getvalue()})
    assert (got.counts.accepted, got.counts.no_rows, got.rejects) == (1, 1, [])


ENCODED = [
    ("gbk", "i1,,城市:上海"),
    ("gb18030", "商品一,,名:好"),
    ("latin-1", "café,,ville:Orléans"),
    ("utf-16", "商品,,k:v"),
]


@pytest.mark.parametrize(("encoding", "line"), ENCODED)
def test_other_encodings_are_named_and_read_by_setting(
    tmp_path: Path, encoding: str, line: str
) -> None:
    """A file saved by Excel in China is GBK: the error must say so, and the setting must read it."""
    content = f"{ITEM}\n{line}\ni2,,\n".encode(encoding)
    name = {"gb18030": "gbk"}.get(encoding, encoding)
    if encoding == "utf-16":
        with pytest.raises(UserError, match='set encoding = "utf-16"'):
            load(tmp_path, "item", {"a.csv": content})
    else:
        got = load(tmp_path, "item", {"a.csv": content})
        assert [reject[1] for reject in got.rejects] == ["bad_utf8"]
        assert any(f'set encoding = "{name}"' in notice for notice in got.notices)
    got = load(tmp_path, "item", {"a.csv": content}, Reading(encoding))
    assert [row[0] for row in got.rows] == [line.split(",", maxsplit=1)[0], "i2"]
    broken = f"{ITEM}\ni1,,\n".encode(encoding) + b"\xff\xff,,\ni2,,\n"
    if encoding in ("gbk", "gb18030"):
        got = load(tmp_path, "item", {"a.csv": broken}, Reading(encoding))
        assert ([row[0] for row in got.rows], got.rejects[0][1]) == (["i1", "i2"], "bad_utf8")
    marked = "\ufeff" + f"{ITEM}\n商品,,\n"
    assert load(tmp_path, "item", {"a.csv": marked}, Reading(encoding)).rows[0][0] == "商品"


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        ("张三", "gbk", "gbk"), ("u1,none,+447700900161,李雷", "gbk", "gbk"), ("退订回T，谢谢！", "gbk", "gbk"), ("Müller", "latin-1", "latin-1"), ("José, Zoë", "latin-1", "latin-1"), ("Ærøskøbing", "latin-1", "latin-1"), ("plain", "ascii", None),
    ],
)  # fmt: skip
def test_an_encoding_is_recognized_in_few_bytes(
    text: str, encoding: str, expected: str | None
) -> None:
    """A wrong name sends a person to a setting that turns the file into other characters."""
    assert seems(text.encode(encoding)) == expected


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.zst", "A.CSV.GZ"])
def test_compressed_files_are_read_and_damaged_ones_are_a_sentence(
    tmp_path: Path, name: str
) -> None:
    """A day that ends where its archive was cut would look like a quiet day."""
    body = "".join(f"item{n * 7919 % 100_003},n:{n},\\N\n" for n in range(30_000))
    content = f"{ITEM}\n{body}".encode()
    packed = gzip.compress(content) if name.lower().endswith("gz") else zstd(content)
    assert load(tmp_path, "item", {name: packed}).counts.accepted == 30_000
    for damaged in (
        packed[: len(packed) // 2],
        packed[:-2],
        b"not packed at all, whatever it says",
    ):
        with pytest.raises(UserError, match="the compressed file is cut short or damaged"):
            load(tmp_path, "item", {name: damaged})
