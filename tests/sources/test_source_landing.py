"""Files of different shapes become landing files, day by day, and keep up with their files."""

import gzip
import json
import os
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import Settings, load_settings
from usergrowth_dagster.sources import land as land_module
from usergrowth_dagster.sources.definition import Source, read_sources
from usergrowth_dagster.sources.land import SourceLanding, land_source
from usergrowth_dagster.warehouse.landing import land_days
from usergrowth_dagster.warehouse.tables import Warehouse

DAY = date(2024, 3, 1)
TODAY = date(2024, 3, 20)
Rows = list[dict[str, Any]]


class Desk:
    """A home whose business clock stands on a day, and a folder of files."""

    def __init__(self, folder: Path, zone: str = "UTC") -> None:
        self.folder = folder
        self.settings: Settings = load_settings(
            folder / "home", today=TODAY, timezone=zone, memory_limit="1GB"
        )
        self.landing = Storage(self.settings.landing_root)
        self.state = Storage(self.settings.storage_root)

    def write(self, name: str, content: str | bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)

    def source(self, text: str) -> Source:
        self.write("sources.yml", text)
        (source,) = read_sources(self.folder / "sources.yml")
        return source

    def land(self, source: Source) -> SourceLanding:
        return land_source(self.settings, self.landing, self.state, source, self.folder)

    def rows(self, source: Source, day: date) -> Rows:
        path = Path(self.settings.landing_root) / source.fills / f"ds={day:%Y%m%d}"
        table = pq.read_table(path / f"source-{source.name}.parquet", partitioning=None)
        return sorted(table.to_pylist(), key=str)

    def land_raw(self, source: Source, days: list[date]) -> tuple[int, int]:
        """Land the raw table; rows accepted and quarantined."""
        done = land_days(*(self.settings, self.landing, Warehouse(self.state), source.fills, days))
        return sum(one.accepted for one in done), sum(one.quarantined for one in done)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


CLICKS = """
sources:
  - name: clicks
    fills: behavior
    from: logs/*.csv
    day: {time: at}
    columns: {user_id: who, behavior: what, item_id: item}
    num: {amount: price * qty}
"""
HEADER = "who,what,item,at,price,qty\n"


def click(
    who: str, day: date, rest: str = "buy,i1", time: str = "08:30:00", end: str = "2,3"
) -> str:
    return f"{who},{rest},{day}T{time},{end}\n"


def test_invoices_in_latin_1(desk: Desk) -> None:
    """Guards against names that become other letters, and codes that lose their zeros."""
    desk.write(
        "shop/invoices.csv",
        "Nr;Kunde;Artikel;Bezeichnung;Menge;Preis;Datum;Land\r\n"
        '1;007;00012;"Käse; jung";2;1.5;01.03.2024 23:30;Österreich\r\n'
        "1;007;00012;Käse;2;1.5;01.03.2024 23:30;Österreich\r\n"
        "2;;00013;Brot;1;2;02.03.2024 08:00;New Zealand\r\n"
        "3;1E5;00013;Brot;-1;2;02.03.2024 08:00;New Zealand\r\n".encode("latin-1"),
    )
    source = desk.source(
        """
sources:
  - name: invoices
    fills: behavior
    from: shop/invoices.csv
    read: {delimiter: ";", encoding: latin-1}
    day: {time: "strptime(Datum, '%d.%m.%Y %H:%M')", zone: Europe/Vienna}
    columns: {user_id: Kunde, behavior: "case when Menge > 0 then 'buy' else 'return' end",
              item_id: Artikel}
    num: {amount: Menge * Preis}
    str: {country: Land}
    where: Kunde is not null
    unique: [Nr, Artikel]
"""
    )
    landing = desk.land(source)
    assert landing.landed == (DAY, DAY + timedelta(days=1))
    assert (landing.rows, landing.duplicates, landing.without_day) == (2, 1, 0)
    assert desk.rows(source, DAY) == [
        {
            "user_id": "007",
            "behavior": "buy",
            "item_id": "00012",
            "kvs_num": "hh22:1 amount:3.0",  # 23:30 in Vienna
            "kvs_str": "country:Österreich",
        }
    ]
    (back,) = desk.rows(source, DAY + timedelta(days=1))
    assert (back["user_id"], back["behavior"]) == ("1E5", "return")
    assert back["kvs_str"] == "country:New_Zealand"
    assert desk.land_raw(source, list(landing.landed)) == (2, 0)


def test_messages_as_text_without_a_header(desk: Desk) -> None:
    """Guards against a first line that is taken for names, and seconds taken for something else."""
    desk.write("messages.txt.gz", "1 2 1709251200\n10 2 1709254800\n1 3 1709337600\n")
    source = desk.source(
        """
sources:
  - name: messages
    fills: behavior
    from: messages.txt.gz
    read: {delimiter: " ", names: [sender, receiver, moment]}
    day: {time: to_timestamp(moment::bigint)}
    columns: {user_id: sender, behavior: "'message'", item_id: receiver}
"""
    )
    assert desk.land(source).landed == (DAY, DAY + timedelta(days=1))
    assert [row["user_id"] for row in desk.rows(source, DAY)] == ["1", "10"]
    assert desk.rows(source, DAY)[0]["kvs_num"] == "hh00:1"


def test_ratings_as_tsv_in_gbk(desk: Desk) -> None:
    """Guards against encodings that the engine does not know."""
    desk.write("ratings.tsv", "用户\t电影\t分\t时间\n张三\t英雄\t5\t2024-03-01\n".encode("gbk"))
    source = desk.source(
        """
sources:
  - name: ratings
    fills: behavior
    from: ratings.tsv
    read: {encoding: gbk, delimiter: "\\t"}
    day: {time: 时间}
    columns: {user_id: 用户, behavior: "'rate'", item_id: 电影}
    num: {stars: 分}
"""
    )
    desk.land(source)
    assert desk.rows(source, DAY) == [
        {
            "user_id": "张三",
            "behavior": "rate",
            "item_id": "英雄",
            "kvs_num": "stars:5.0",
            "kvs_str": None,
        }
    ]


def test_sessions_as_json_lines(desk: Desk) -> None:
    """Guards against nested values, ids that are numbers, and times with a zone of their own."""
    sessions = [
        {"player": 90071992547409931, "type": "play", "ts": "2024-03-01T23:30:00-05:00",
         "data": {"level": "a b", "seconds": 12.5}},
        {"player": 7, "type": "play", "ts": None, "data": {"level": None, "seconds": None}},
    ]  # fmt: skip
    desk.write("s/1.jsonl", "\n".join(json.dumps(one) for one in sessions))
    source = desk.source(
        """
sources:
  - name: sessions
    fills: behavior
    from: [s/*.jsonl]
    day: {time: ts}
    columns: {user_id: player, behavior: type}
    num: {seconds: data.seconds}
    str: {level: data.level}
"""
    )
    landing = desk.land(source)
    assert (landing.rows, landing.without_day) == (1, 1)
    (row,) = desk.rows(source, DAY + timedelta(days=1))
    assert row["user_id"] == "90071992547409931"
    assert (row["kvs_num"], row["kvs_str"]) == ("hh04:1 seconds:12.5", "level:a_b")


def test_ids_that_lose_digits_are_refused(desk: Desk) -> None:
    """Guards against an id of a float column, written as 1.38e+10."""
    desk.write("s.json", '{"id": 13800000000.5, "at": "2024-03-01"}\n')
    source = desk.source(
        """
sources:
  - name: s
    fills: behavior
    from: s.json
    day: {time: at}
    columns: {user_id: id, behavior: "'x'"}
"""
    )
    with pytest.raises(UserError, match=r"source s: columns.user_id: 'id' is a DOUBLE.*1\.38e\+10"):
        desk.land(source)


def test_a_table_of_today_is_one_day(desk: Desk) -> None:
    """Guards against users that need a day of their own, and dates of registration as times."""
    desk.write("users.csv", "id,sex,born,since\n1,2,30,2023-01-05\n2,,,\n")
    source = desk.source(
        """
sources:
  - name: people
    fills: user
    from: users.csv
    day: {snapshot: 2024-03-01}
    columns: {user_id: id, gender: sex, age: born, reg_time: cast(since as date)}
"""
    )
    desk.land(source)
    assert desk.rows(source, DAY)[0]["reg_time"] == "20230105"
    assert desk.land_raw(source, [DAY]) == (2, 0)


def test_only_days_that_changed_are_written(desk: Desk) -> None:
    """Guards against a whole log that is read and written for every new file."""
    desk.write("logs/1.csv", HEADER + click("u1", DAY))
    source = desk.source(CLICKS)
    assert desk.land(source).landed == (DAY,)
    second = desk.land(source)
    assert (second.landed, second.unchanged, second.rows) == ((), 1, 0)
    desk.write("logs/2.csv", HEADER + click("u2", DAY + timedelta(days=1)))
    assert desk.land(source).landed == (DAY + timedelta(days=1),)
    # late rows of a day that has landed
    desk.write("logs/3.csv", HEADER + click("u3", DAY))
    third = desk.land(source)
    assert (third.landed, third.rows) == ((DAY,), 2)
    # a file that is written again without one of its rows
    desk.write("logs/1.csv", HEADER + click("u9", DAY))
    assert desk.land(source).landed == (DAY,)
    assert [row["user_id"] for row in desk.rows(source, DAY)] == ["u3", "u9"]
    # a log that grows: the days before are left alone
    grown = HEADER + click("u9", DAY) + click("u9", DAY + timedelta(days=5))
    desk.write("logs/1.csv", grown)
    assert desk.land(source).landed == (DAY + timedelta(days=5),)
    # a log that is called otherwise from now on
    (desk.folder / "logs/1.csv").rename(desk.folder / "logs/1.old.csv")
    renamed = desk.land(source)
    assert (renamed.landed, renamed.gone) == ((), ())
    # another definition
    changed = desk.source(CLICKS.replace("price * qty", "price"))
    assert len(desk.land(changed).landed) == 3
    assert desk.rows(changed, DAY)[0]["kvs_num"] == "hh08:1 amount:2.0"
    # a landing file that somebody deleted
    file = Path(desk.settings.landing_root) / f"behavior/ds={DAY:%Y%m%d}/source-clicks.parquet"
    file.unlink()
    assert desk.land(changed).landed == (DAY,)


def test_rows_of_a_file_that_is_gone_stay(desk: Desk) -> None:
    """Guards against rotated logs whose days vanish, at once or with the next late row."""
    desk.write("logs/1.csv", HEADER + click("u1", DAY) + click("u1", DAY + timedelta(days=1)))
    desk.write("logs/2.csv", HEADER + click("u2", DAY))
    source = desk.source(CLICKS)
    desk.land(source)
    (desk.folder / "logs/1.csv").unlink()
    landing = desk.land(source)
    assert [Path(uri).name for uri in landing.gone] == ["1.csv"] and landing.landed == ()
    desk.write("logs/3.csv", HEADER + click("u3", DAY) + click("u3", DAY + timedelta(days=2)))
    for definition in (source, desk.source(CLICKS.replace("price * qty", "qty"))):
        late = desk.land(definition)
        assert "1.csv, which is gone" in late.waiting[DAY]
        assert [row["user_id"] for row in desk.rows(source, DAY)] == ["u1", "u2"]
    assert late.landed == (DAY + timedelta(days=2),)
    desk.write("logs/1.csv", HEADER + click("u1", DAY))
    assert DAY in desk.land(definition).landed
    assert [row["user_id"] for row in desk.rows(source, DAY)] == ["u1", "u2", "u3"]
    assert desk.land(definition).kept == (DAY + timedelta(days=1),)


def test_a_file_with_the_rows_of_another_is_not_its_new_name(desk: Desk) -> None:
    """Guards against rows that are lost when one of two equal files goes and the other is touched."""
    for name in "123":
        desk.write(f"logs/{name}.csv", HEADER + click("u1", DAY))
    source = desk.source(CLICKS)
    assert desk.land(source).rows == 3
    (desk.folder / "logs/1.csv").unlink()
    os.utime(desk.folder / "logs/2.csv", (1, 1))
    landing = desk.land(source)
    assert (landing.landed, len(landing.gone)) == ((), 1)
    (desk.folder / "logs/2.csv").unlink()
    desk.write("logs/4.csv", HEADER + click("u1", DAY))  # the new name of one of the two
    landing = desk.land(source)
    assert (landing.landed, len(landing.gone)) == ((), 1)
    assert len(desk.rows(source, DAY)) == 3


def test_files_of_a_store_are_read_where_they_are(desk: Desk) -> None:
    """Guards against paths that only a local disk has."""
    import fsspec

    store = fsspec.filesystem("memory")
    store.pipe_file("/logs/1.csv", (HEADER + click("u1", DAY)).encode())
    store.pipe_file("/logs/2.csv.gz", gzip.compress((HEADER + click("u2", DAY)).encode()))
    source = desk.source(CLICKS.replace("logs/*.csv", '"memory://logs/*.csv*"'))
    landing = desk.land(source)
    assert (landing.files, landing.rows) == (2, 2)
    store.pipe_file("/logs/1.csv", (HEADER + click("u3", DAY)).encode())
    desk.land(source)
    assert [row["user_id"] for row in desk.rows(source, DAY)] == ["u2", "u3"]
    store.rm("/logs", recursive=True)
    with pytest.raises(UserError, match="no file matches 'memory://logs"):
        desk.land(source)


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".csv.zst", ".jsonl.zst", ".parquet"])
def test_packed_files_are_read(desk: Desk, ending: str) -> None:
    """Guards against a way of packing that is promised and not read."""
    import pyarrow as pa

    path = desk.folder / f"logs/1{ending}"
    path.parent.mkdir()
    if ending == ".parquet":
        row = {"who": "u1", "what": "buy", "item": "i1", "at": f"{DAY}T08:30:00"}
        pq.write_table(pa.Table.from_pylist([{**row, "price": 2, "qty": 3}]), path)
    else:
        text = HEADER + click("u1", DAY)
        if ".jsonl" in ending:
            names, values = (line.split(",") for line in text.splitlines())
            text = json.dumps(dict(zip(names, values, strict=True)))
        kind = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix)
        with pa.output_stream(path, compression=kind) as stream:
            stream.write(text.encode())
    source = desk.source(CLICKS.replace("logs/*.csv", f"logs/*{ending}"))
    desk.land(source)
    (row,) = desk.rows(source, DAY)
    assert (row["user_id"], row["kvs_num"]) == ("u1", "hh08:1 amount:6.0")


def test_one_of_several_rows_with_a_key_is_kept(desk: Desk) -> None:
    """Guards against another row each time, so that a day is never up to date."""
    rows = [click("u1", DAY, end=f"{price},1") for price in range(9)]
    desk.write("logs/1.csv", HEADER + "".join(rows))
    source = desk.source(CLICKS + "    unique: [who]\n")
    assert (desk.land(source).duplicates, len(desk.rows(source, DAY))) == (8, 1)
    kept = desk.rows(source, DAY)
    desk.write("logs/1.csv", HEADER + "".join(reversed(rows)))
    desk.land(source)
    assert desk.rows(source, DAY) == kept


def test_an_old_day_is_left_as_it_is(desk: Desk) -> None:
    """Guards against a closed month that changes for one late row, and rows left out unseen."""
    days = [DAY + timedelta(days=number) for number in range(6)]
    desk.write("logs/1.csv", HEADER + "".join(click("u1", day) for day in days))
    source = desk.source(CLICKS + "    late_days: 3\n")
    assert desk.land(source).landed == tuple(days)  # a history lands as a whole
    late = "".join(click("u2", day) for day in (*days, date(2023, 12, 1), TODAY))
    desk.write("logs/2.csv", HEADER + late + click("u3", DAY))
    landing = desk.land(source)
    assert landing.landed == (date(2023, 12, 1), *days[2:])
    assert (landing.late, landing.unchanged) == ({days[0]: 2, days[1]: 1}, 0)
    assert (
        "2 days changed and stay as they landed, 3 late rows are left out: they are older than "
        "late_days" in landing.notes()
    )
    assert [row["user_id"] for row in desk.rows(source, DAY)] == ["u1"]
    again = desk.land(source)
    assert (again.landed, again.late) == ((), landing.late)
    (Path(desk.settings.landing_root) / f"behavior/ds={DAY:%Y%m%d}/source-clicks.parquet").unlink()
    assert desk.land(source).landed == (DAY,)  # nothing is there that could stay
    places = (desk.settings, desk.landing, desk.state, source, desk.folder)
    assert land_source(*places, reread=True).landed == (days[1],)
    assert [row["user_id"] for row in desk.rows(source, DAY)] == ["u1", "u2", "u3"]
    assert desk.land(source).late == {}
    # without the key nothing is written for its sake, and late rows land
    desk.write("logs/3.csv", HEADER + click("u4", DAY))
    assert desk.land(desk.source(CLICKS)).landed == (DAY,)


def test_a_state_of_before_counts_late_rows(desk: Desk) -> None:
    """Guards against a home of the version before that cannot be read."""
    days = [DAY + timedelta(days=number) for number in range(3)]
    desk.write("logs/1.csv", HEADER + "".join(click("u1", day) for day in days))
    source = desk.source(CLICKS + "    late_days: 1\n")
    desk.land(source)
    state = json.loads(desk.state.read_bytes("_sources/clicks.json"))
    state["landed"] = {day: entry[:2] for day, entry in state["landed"].items()}
    desk.state.write_bytes("_sources/clicks.json", json.dumps(state).encode())
    assert desk.land(source).unchanged == 3
    desk.write("logs/2.csv", HEADER + click("u2", DAY))
    assert desk.land(source).late == {DAY: 1}


def test_a_day_that_is_not_over_waits(desk: Desk) -> None:
    """Guards against half a day that is taken for a quiet one."""
    desk.write("logs/1.csv", HEADER + click("u1", TODAY) + click("u1", TODAY - timedelta(days=1)))
    landing = desk.land(desk.source(CLICKS))
    assert landing.landed == (TODAY - timedelta(days=1),)
    assert landing.waiting == {TODAY: "the day is not over"}


def test_days_before_the_home_wait(desk: Desk) -> None:
    """Guards against a clock of the year 1 that becomes a partition, and days nobody reads."""
    old = [date(1, 1, 1), date(2016, 12, 30), date(2016, 12, 31)]
    desk.write("logs/1.csv", HEADER + "".join(click("u1", day) for day in [*old, DAY]))
    landing = desk.land(desk.source(CLICKS))
    assert landing.landed == (DAY,) and list(landing.waiting) == old
    assert landing.notes() == [
        "3 days wait: the days of the home begin on 2017-01-01 (setting start_date)"
    ]


def test_a_day_with_far_fewer_rows_waits(desk: Desk) -> None:
    """Guards against an export that broke off, taken for a day on which people stayed away."""
    days = [DAY + timedelta(days=i) for i in range(5)]
    full = "".join(click(f"u{n}", day) for day in days[:4] for n in range(10))
    desk.write("logs/1.csv", HEADER + full + click("u1", days[4]))
    source = desk.source(CLICKS.replace("    day:", "    least_share: 0.5\n    day:"))
    landing = desk.land(source)
    assert landing.landed == tuple(days[:4])
    assert "it has 1 rows and a day usually has 10" in landing.waiting[days[4]]
    desk.write("logs/2.csv", HEADER + "".join(click(f"u{n}", days[4]) for n in range(4)))
    assert desk.land(source).landed == (days[4],)


def test_texts_that_are_no_numbers_are_counted(desk: Desk) -> None:
    """Guards against amounts that vanish without a word."""
    rows = click("u1", DAY, end="1 200,1") + click("u2", DAY, end="3,1")
    desk.write("logs/1.csv", HEADER + rows)
    computed = desk.source(CLICKS)
    assert desk.land(computed).not_numbers == {"amount": 1}
    source = desk.source(CLICKS.replace("price * qty", "price"))
    assert desk.land(source).not_numbers == {"amount": 1}
    assert [row["kvs_num"] for row in desk.rows(source, DAY)] == ["hh08:1", "hh08:1 amount:3.0"]


def test_a_killed_run_goes_on_where_it_was(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a run of hours that starts over, and a day that is there by half."""
    days = [DAY + timedelta(days=i) for i in range(10)]
    desk.write("logs/1.csv", HEADER + "".join(click("u1", day) for day in days))
    source = desk.source(CLICKS)
    write, wanted = land_module._Landing._write_day, 4

    def killed(self: Any, day: date, batches: Any) -> int:
        if day == days[wanted]:
            raise KeyboardInterrupt
        return write(self, day, batches)

    monkeypatch.setattr(land_module._Landing, "_write_day", killed)
    with pytest.raises(KeyboardInterrupt):
        desk.land(source)
    monkeypatch.undo()
    assert desk.land(source).landed == tuple(days[wanted:])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("who,what,item,at,price,qty\nu1,buy,i1,2024-03-01T08:00:00,1,2,3,4\n", r"line 2:"),
        (b"\x50\x4b\x03\x04\0\0\0", "source clicks:"),
        ("", "source clicks:"),
        ("a,b\n1,2\n", "the source has no column 'at'"),
    ],
)
def test_a_file_of_another_shape_is_a_sentence(
    desk: Desk, content: str | bytes, reason: str
) -> None:
    """Guards against a traceback of the engine, and against days that such a file takes away."""
    desk.write("logs/1.csv", HEADER + click("u1", DAY))
    source = desk.source(CLICKS)
    desk.land(source)
    desk.write("logs/1.csv", content)
    with pytest.raises(UserError, match=reason) as refused:
        desk.land(source)
    assert "\n" not in str(refused.value)
    assert len(desk.rows(source, DAY)) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("fills: behavior", "fills: events"), "sources.0.fills: must be 'user'"),
        (
            ("fills: behavior", "fils: behavior"),
            "sources.0.fils: unknown key; did you mean 'fills'",
        ),
        (("user_id: who, ", ""), "behavior needs user_id"),
        (("item_id: item", "item: item"), "behavior has no column 'item'"),
        (("name: clicks", "name: My Clicks"), "sources.0.name"),
        (("{time: at}", "{}"), "give time or snapshot"),
        (
            ("    day:", "    read: {encoding: klingon}\n    day:"),
            "is not an encoding such as utf-8",
        ),
        (("{time: at}", "{time: at, zone: Mars}"), "not an IANA time zone"),
        (("amount: price", "'am ount': price"), "must have no space"),
        (("logs/*.csv", "logs/*.dat"), "no file matches 'logs/\\*.dat'"),
        (("{time: at}", "{time: cast(price as integer)}"), "is a INTEGER, not a time"),
        (("user_id: who", "user_id: whom"), "columns.user_id: 'whom': .* did you mean 'who'"),
        (("price * qty", "(select 1)"), "num.amount: .* may not hold a query"),
    ],
)
def test_a_wrong_file_is_one_sentence(desk: Desk, change: tuple[str, str], reason: str) -> None:
    """Guards against an error that does not name the key."""
    desk.write("logs/1.csv", HEADER + click("u1", DAY))
    with pytest.raises(UserError, match=reason) as refused:
        desk.land(desk.source(CLICKS.replace(*change)))
    assert "\n" not in str(refused.value)


ZONES = ["UTC", "Asia/Shanghai", "America/St_Johns", "Pacific/Kiritimati", "Europe/London"]


@hypothesis_settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    business=st.sampled_from(ZONES),
    own=st.sampled_from(ZONES),
    moments=st.lists(
        st.tuples(
            st.datetimes(datetime(2023, 10, 1), datetime(2024, 3, 18)).filter(
                lambda moment: moment.microsecond % 1 == 0
            ),
            st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8),
            st.integers(1, 3),  # the file
        ),
        min_size=1,
        max_size=20,
    ),
)
def test_every_row_lands_on_its_day(
    tmp_path_factory: pytest.TempPathFactory,
    business: str,
    own: str,
    moments: list[tuple[datetime, str, int]],
) -> None:
    """Guards against rows that are lost, that come twice, or that land on another day."""
    import polars as pl

    desk = Desk(tmp_path_factory.mktemp("zones"), business)
    expected: dict[date, list[tuple[str, str]]] = {}
    for moment, user, _ in moments:
        local = moment.replace(tzinfo=ZoneInfo(own)).astimezone(ZoneInfo(business))
        expected.setdefault(local.date(), []).append((user, f"hh{local:%H}:1"))
    (desk.folder / "logs").mkdir()
    for number in {file for _, _, file in moments}:
        rows = [(at, user) for at, user, file in moments if file == number]
        frame = pl.DataFrame(rows, schema={"at": pl.Datetime("us"), "who": pl.String}, orient="row")
        frame.write_parquet(desk.folder / f"logs/{number}.parquet")
    source = desk.source(
        f"""
sources:
  - name: moments
    fills: behavior
    from: logs/*.parquet
    day: {{time: at, zone: {own}}}
    columns: {{user_id: who, behavior: "'x'"}}
"""
    )
    landing = desk.land(source)
    assert landing.landed == tuple(sorted(expected)) and landing.rows == len(moments)
    for day, rows in expected.items():
        landed = [(row["user_id"], row["kvs_num"]) for row in desk.rows(source, day)]
        assert sorted(landed) == sorted(rows)
