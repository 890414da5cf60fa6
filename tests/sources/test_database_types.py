"""Values of a database arrive as they are, whatever their type is."""

from collections.abc import Sequence
from typing import Any

import pytest
from support.database_desk import DatabaseDesk

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.sources.land import open_source

SOURCE = """
sources:
  - name: orders
    fills: behavior
    database:
      url: {url}
      password_env: SHOP_PASSWORD
{keys}
    day: {{snapshot: 2024-03-01}}
    columns: {{user_id: "'u'", behavior: "'b'"}}
"""


def values(
    desk: DatabaseDesk, keys: str = "table: things"
) -> dict[str, list[tuple[str, str | None]]]:
    """By column, its DuckDB type and each value as text, read by a whole pull."""
    source = desk.write(keys, text=SOURCE)
    pull = desk.land(source).pull
    with open_source(desk.settings, source, desk.home, pull) as opened:
        names = list(opened.columns)
        listed = ", ".join(f"cast({_quoted(name)} as varchar)" for name in names)
        opened.engine.run("set timezone = 'UTC'")
        rows = opened.engine.rows(f"select {listed} from {opened.relation()} order by 1 nulls last")
    return {
        name: [(opened.columns[name], row[place]) for row in rows]
        for place, name in enumerate(names)
    }


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def check(read: dict[str, list[tuple[str, Any]]], expected: dict[str, Sequence[Any]]) -> None:
    assert {name: (rows[0][0], *(value for _, value in rows)) for name, rows in read.items()} == {
        name: tuple(values) for name, values in expected.items()
    }


@pytest.mark.postgres
@pytest.mark.parametrize("server", ["postgres"], indirect=True)
def test_types_of_postgresql(desk: DatabaseDesk) -> None:
    """Guards against lost zeros and digits, infinity as some date, and shifted times."""
    desk.server.run(
        "create type mood as enum ('gut', 'schlecht')",
        "create table things (id text, n numeric, d numeric(20, 2), ts timestamp, tz timestamptz, "
        "day date, flag boolean, j json, jb jsonb, u uuid, big bigint, f double precision, "
        'm mood, ip inet, t time, i interval, money money, tags text[], "Ünïcode ""x" text)',
        "insert into things values ('007', 123456789012345678901234567890.123456789, "
        "12345678901234567.80, '2024-03-01 01:02:03.123456', '2024-03-01 01:02:03.123456+02', "
        "'2024-02-29', true, '{\"a\": 1}', '{\"b\": \"ü\"}', "
        "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 9223372036854775807, 0.1, 'gut', '10.0.0.1', "
        "'01:02:03', '1 day', 12.5, '{a,NULL,\"b,c\"}', '😀 中')",
        "insert into things (id, n, d, ts, tz, day) values "
        "('1e5', 'NaN', 'NaN', 'infinity', '-infinity', 'infinity')",
        "insert into things (id) values (null)",
    )
    check(
        values(desk),
        {
            "id": ("VARCHAR", "007", "1e5", None),
            "n": ("VARCHAR", "123456789012345678901234567890.123456789", None, None),
            "d": ("DECIMAL(20,2)", "12345678901234567.80", None, None),
            "ts": ("TIMESTAMP", "2024-03-01 01:02:03.123456", None, None),
            "tz": ("TIMESTAMP WITH TIME ZONE", "2024-02-29 23:02:03.123456+00", None, None),
            "day": ("DATE", "2024-02-29", None, None),
            "flag": ("BOOLEAN", "true", None, None),
            "j": ("VARCHAR", '{"a": 1}', None, None),
            "jb": ("VARCHAR", '{"b": "ü"}', None, None),
            "u": ("VARCHAR", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", None, None),
            "big": ("BIGINT", "9223372036854775807", None, None),
            "f": ("DOUBLE", "0.1", None, None),
            "m": ("VARCHAR", "gut", None, None),
            "ip": ("VARCHAR", "10.0.0.1/32", None, None),
            "t": ("VARCHAR", "01:02:03", None, None),
            "i": ("VARCHAR", "1 day", None, None),
            "money": ("VARCHAR", "$12.50", None, None),
            "tags": ("VARCHAR[]", "[a, NULL, 'b,c']", None, None),
            'Ünïcode "x': ("VARCHAR", "😀 中", None, None),
        },
    )
    of_day = values(desk, "query: select cast(tz as date) as day from things where flag")
    assert of_day == {"day": [("DATE", "2024-02-29")]}  # in UTC, whatever the server's zone is


@pytest.mark.mariadb
@pytest.mark.parametrize("server", ["mariadb"], indirect=True)
def test_types_of_mariadb(desk: DatabaseDesk) -> None:
    """Guards against lost zeros and digits, zero dates as some date, and shifted times."""
    desk.server.run(
        "set sql_mode = ''",
        "create table things (id varchar(9), n decimal(50, 10), d decimal(20, 2), du decimal(5, 2) "
        "unsigned, ts datetime(6), tz timestamp(6) null, day date, flag boolean, j json, "
        "u bigint unsigned, big bigint, small tinyint unsigned, f double, f4 float, e enum('gut', "
        "'schlecht'), t time, y year, b bit(10), bin varbinary(4), z int(6) zerofill, "
        '`Ünïcode "``x` text)',
        "insert into things values ('007', 1234567890123456789012345678901234567890.123456789, "
        "123456789012345678.90, 999.99, '2024-03-01 01:02:03.123456', '2024-03-01 01:02:03.5', "
        "'2024-02-29', true, '{\"a\": \"ü\"}', 18446744073709551615, -9223372036854775808, 255, "
        "0.1, 1.5, 'gut', '-25:00:00', 2024, b'1000000001', x'00ff', 42, '😀 中')",
        "insert into things (id, ts, tz, day) values ('1e5', '0000-00-00', '0000-00-00', "
        "'2024-00-00')",
        "insert into things (id) values (null)",
    )
    check(
        values(desk),
        {
            "id": ("VARCHAR", "007", "1e5", None),
            "n": ("VARCHAR", "1234567890123456789012345678901234567890.1234567890", None, None),
            "d": ("DECIMAL(20,2)", "123456789012345678.90", None, None),
            "du": ("DECIMAL(5,2)", "999.99", None, None),
            "ts": ("TIMESTAMP", "2024-03-01 01:02:03.123456", None, None),
            "tz": ("TIMESTAMP WITH TIME ZONE", "2024-02-29 17:02:03.5+00", None, None),
            "day": ("DATE", "2024-02-29", None, None),
            "flag": ("TINYINT", "1", None, None),
            "j": ("VARCHAR", '{"a": "ü"}', None, None),
            "u": ("UBIGINT", "18446744073709551615", None, None),
            "big": ("BIGINT", "-9223372036854775808", None, None),
            "small": ("UTINYINT", "255", None, None),
            "f": ("DOUBLE", "0.1", None, None),
            "f4": ("FLOAT", "1.5", None, None),
            "e": ("VARCHAR", "gut", None, None),
            "t": ("VARCHAR", "-25:00:00", None, None),
            "y": ("SMALLINT", "2024", None, None),
            "b": ("UBIGINT", "513", None, None),
            "bin": ("BLOB", "\\x00\\xFF", None, None),
            "z": ("UINTEGER", "42", None, None),
            'Ünïcode "`x': ("VARCHAR", "😀 中", None, None),
        },
    )
    landing = desk.land(desk.write("table: things", text=SOURCE))
    assert landing.notes()[:3] == [
        "1 values of ts are no date (0000-00-00) and become NULL",
        "1 values of tz are no date (0000-00-00) and become NULL",
        "1 values of day are no date (0000-00-00) and become NULL",
    ]


def test_every_type_survives_a_second_pull(desk: DatabaseDesk) -> None:
    """Guards against a row that is equal and yet taken again, since its type came back otherwise."""
    if desk.server.kind == "postgresql":
        kinds = "tz timestamptz, d numeric(9,3), n numeric, f real, b bytea, tags int[], j jsonb"
        row = "'2024-03-01 01:02:03+02', 1.5, 'NaN', 0.1, '\\x00', '{1,2}', '{}'"
    else:
        kinds = "tz timestamp, d decimal(9,3), u bigint unsigned, f float, b blob, bi bit(3)"
        row = "'2024-03-01 01:02:03', 1.5, 18446744073709551615, 0.1, x'00', b'101'"
    desk.server.run(
        f"create table things (id int, {kinds})",
        f"insert into things values (1, {row})",
        f"insert into things values (2, {row})",
        f"insert into things values (2, {row})",
        "insert into things (id) values (2)",
    )
    for keys in ("cursor: id", "cursor: id\nkey: [id]", "cursor: tz\nkey: id\nlate: 1 day"):
        source = desk.write(f"table: things\n{keys}", text=SOURCE)
        first, second = desk.land(source).pull, desk.land(source).pull
        assert first is not None and second is not None
        assert first.rows_new >= 2 and second.rows_read >= 2
        assert (second.rows_new, second.rows_replaced, second.files) == (0, 0, first.files)


def test_a_large_cursor_is_exact(desk: DatabaseDesk) -> None:
    """Guards against a cursor that passes through a float, and skips rows of the last value."""
    first = 2**62 + 1
    desk.server.run("create table things (id bigint, who varchar(9))")
    desk.server.run(f"insert into things values ({first}, 'a'), ({first + 1}, 'b')")
    source = desk.write("table: things\ncursor: id", text=SOURCE)
    desk.land(source)
    desk.server.run(f"insert into things values ({first + 1}, 'c'), ({first + 2}, 'd')")
    pull = desk.land(source).pull
    assert pull is not None
    assert (pull.rows_read, pull.rows_new, pull.cursor) == (3, 2, str(first + 2))


@pytest.mark.parametrize("zoned", [False, True])
def test_a_time_as_a_cursor_has_its_microseconds(desk: DatabaseDesk, zoned: bool) -> None:
    """Guards against a cursor cut to seconds, or shifted by the time zone of a server."""
    kinds = {
        ("postgresql", False): "timestamp",
        ("postgresql", True): "timestamptz",
        ("mysql", False): "datetime(6)",
        ("mysql", True): "timestamp(6) null",
    }
    desk.server.run(
        f"create table things (at {kinds[desk.server.kind, zoned]}, who varchar(9))",
        "insert into things values ('2024-03-01 01:02:03.123456', 'a')",
        "insert into things values ('2024-03-01 01:02:03.123457', 'b')",
        "insert into things values (null, 'never')",
    )
    source = desk.write("table: things\ncursor: at", text=SOURCE)
    desk.land(source)
    desk.server.run("insert into things values ('2024-03-01 01:02:03.123458', 'c')")
    landing = desk.land(source)
    assert landing.pull is not None
    assert (landing.pull.rows_read, landing.pull.rows_new) == (2, 1)
    assert landing.notes() == ["1 rows have no value in the cursor and are not read"]


def test_a_changed_type_is_one_sentence_or_none(desk: DatabaseDesk) -> None:
    """Guards against a traceback of the engine when a column becomes another."""
    desk.server.run("create table things (id int, v int)", "insert into things values (1, 5)")
    source = desk.write("table: things\ncursor: id", text=SOURCE)
    desk.land(source)
    desk.server.run(
        "alter table things alter column v type text"
        if desk.server.kind == "postgresql"
        else "alter table things modify v text",
        "insert into things values (2, 'x')",
    )
    assert desk.land(source).pull.rows_new == 1  # type: ignore[union-attr]
    with open_source(desk.settings, source, desk.home, desk.land(source).pull) as opened:
        assert opened.engine.rows(f"select v from {opened.relation()} order by 1") == [
            ("5",),
            ("x",),
        ]
    desk.server.run(
        "alter table things alter column id type timestamp using timestamp '2024-01-01'"
        if desk.server.kind == "postgresql"
        else "alter table things drop column id, add column id datetime default '2024-01-01'"
    )
    with pytest.raises(UserError, match=r"source orders: database\.cursor: .*--reread"):
        desk.land(source)
    desk.land(source, reread=True)
