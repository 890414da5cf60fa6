"""Tables of a running PostgreSQL and MariaDB are read: what is new, changed, late or deleted."""

import json

import pytest
from support.database_desk import DAY, DatabaseDesk, make_orders, order

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.sources.databases import mysql, postgres
from usergrowth_dagster.sources.databases import parts as parts_module

BY_ID = """
table: orders
cursor: id
"""
BY_CHANGE = """
table: orders
cursor: changed
key: id
"""


def test_only_new_rows_are_read(desk: DatabaseDesk) -> None:
    """Guards against a pull that reads the whole table each time, and days landed for nothing."""
    make_orders(desk.server)
    for number in range(1, 6):
        order(desk.server, number, f"u{number}", f"2024-03-0{number} 08:00:00")
    source = desk.write(BY_ID)
    first = desk.land(source)
    assert first.pull is not None
    assert (first.pull.rows_read, first.pull.rows_new, first.pull.cursor) == (5, 5, "5")
    assert len(first.landed) == 5 and first.rows == 5
    order(desk.server, 6, "u6", "2024-03-02 09:00:00")
    second = desk.land(source)
    assert second.pull is not None
    assert (second.pull.rows_read, second.pull.rows_new, second.pull.cursor) == (2, 1, "6")
    assert [day.isoformat() for day in second.landed] == ["2024-03-02"]
    third = desk.land(source)
    assert third.pull is not None
    assert (third.pull.rows_read, third.pull.rows_new, third.landed) == (1, 0, ())
    assert desk.users() == ["u1", "u2", "u3", "u4", "u5", "u6"]
    assert desk.landed()["20240302"][0] == ("u2", "i1", "hh08:1 amount:2.5")


def test_rows_of_one_value_are_neither_lost_nor_doubled(
    desk: DatabaseDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a cursor that skips its last value, and a boundary that is taken twice.

    Two rows are equal in every column; both count. Parts of two rows put a boundary within them.
    """
    monkeypatch.setattr(parts_module, "PART_ROWS", 2)
    monkeypatch.setattr(mysql, "BATCH_ROWS", 2)
    monkeypatch.setattr(postgres, "BATCH_BYTES", 1)
    make_orders(desk.server)
    desk.server.run(
        "alter table orders drop primary key"
        if desk.server.kind == "mysql"
        else "alter table orders drop constraint orders_pkey"
    )
    for number, who in ((1, "a"), (2, "b"), (2, "b"), (2, "c"), (2, "b")):
        order(desk.server, number, who)
    source = desk.write(BY_ID)
    desk.land(source)
    assert desk.users() == ["a", "b", "b", "b", "c"]
    order(desk.server, 2, "b")
    order(desk.server, 2, "d")
    order(desk.server, 3, "e")
    again = desk.land(source)
    assert again.pull is not None
    assert (again.pull.rows_read, again.pull.rows_new) == (7, 3)
    assert desk.users() == ["a", "b", "b", "b", "b", "c", "d", "e"]
    desk.land(source)
    assert desk.users() == ["a", "b", "b", "b", "b", "c", "d", "e"]


def test_a_changed_row_replaces_its_earlier_version(desk: DatabaseDesk) -> None:
    """Guards against a row that counts twice after a change, or stays on the day that it left."""
    make_orders(desk.server)
    for number in (1, 2, 3):
        order(desk.server, number, f"u{number}")
    source = desk.write(BY_CHANGE)
    desk.land(source)
    desk.server.run(
        "update orders set at = '2024-03-02 08:00:00', changed = '2024-03-05 01:00:00' where id = 2",
        "update orders set price = 9, changed = '2024-03-05 02:00:00' where id = 3",
    )
    changed = desk.land(source)
    assert changed.pull is not None
    assert (changed.pull.rows_new, changed.pull.rows_replaced, changed.pull.rows_held) == (2, 2, 3)
    assert desk.landed() == {
        "20240301": [("u1", "i1", "hh08:1 amount:2.5"), ("u3", "i1", "hh08:1 amount:9.0")],
        "20240302": [("u2", "i1", "hh08:1 amount:2.5")],
    }
    same = desk.land(source)
    assert same.pull is not None and (same.pull.rows_new, same.landed) == (0, ())


def test_a_day_that_lost_its_last_row_is_empty(desk: DatabaseDesk) -> None:
    """Guards against a row that counts on the day that it left, since no other row is left there."""
    make_orders(desk.server)
    order(desk.server, 1, "a")
    source = desk.write(BY_CHANGE)
    desk.land(source)
    desk.server.run(
        "update orders set at = '2024-03-02 08:00:00', changed = '2024-03-05' where id = 1"
    )
    moved = desk.land(source)
    assert len(moved.landed) == 2 and not moved.kept
    assert desk.landed() == {"20240301": [], "20240302": [("a", "i1", "hh08:1 amount:2.5")]}


def test_another_reading_leaves_days_that_the_table_forgot(desk: DatabaseDesk) -> None:
    """Guards against a corrected query that empties the history which the database cleaned up."""
    make_orders(desk.server)
    order(desk.server, 1, "a", "2024-03-01 08:00:00")
    order(desk.server, 2, "b", "2024-03-02 08:00:00")
    desk.land(desk.write(BY_ID))
    desk.server.run("delete from orders where id = 1")
    by_query = desk.write('query: "select * from orders"\ncursor: id')
    again = desk.land(by_query)
    assert [day.isoformat() for day in again.kept] == ["2024-03-01"]
    assert again.pull is not None and again.pull.rows_read == 1
    assert not desk.land(by_query).kept
    assert desk.users() == ["a", "b"]
    order(desk.server, 3, "c", "2024-03-02 08:00:00")
    desk.land(by_query)
    assert desk.users() == ["a", "b", "c"]
    desk.server.run("delete from orders")
    order(desk.server, 4, "d", "2024-03-03 08:00:00")
    reread = desk.land(by_query, reread=True)
    assert [day.isoformat() for day in reread.kept] == ["2024-03-02"]
    assert desk.users() == ["a", "b", "c", "d"]


def test_late_commits_are_seen_within_late(desk: DatabaseDesk) -> None:
    """Guards against rows of a transaction that commits behind the cursor, lost for ever."""
    make_orders(desk.server)
    open_transaction = desk.server.connect()
    open_transaction.autocommit(False) if desk.server.kind == "mysql" else setattr(
        open_transaction, "autocommit", False
    )
    open_transaction.cursor().execute(
        "insert into orders values (1, 'late', 'i1', 1, '2024-03-01 07:59:00', '2024-03-01 07:59:00')"
    )
    order(desk.server, 2, "early", "2024-03-01 08:00:00")
    strict = desk.write("table: orders\ncursor: changed\n")
    desk.land(strict)
    assert desk.users() == ["early"]
    open_transaction.commit()
    desk.land(strict)
    assert desk.users() == ["early"]  # as the documentation says
    overlapping = desk.write("table: orders\ncursor: changed\nlate: 5 minutes\n")
    desk.land(overlapping)
    assert desk.users() == ["early", "late"]
    desk.land(overlapping)
    assert desk.users() == ["early", "late"]
    by_number = desk.write("table: orders\ncursor: id\nlate: 10\n")
    assert desk.land(by_number).pull.rows_read == 2  # type: ignore[union-attr]
    order(desk.server, -3, "later", "2024-03-01 06:00:00")
    order(desk.server, -9, "too late", "2024-03-01 06:00:00")
    desk.land(by_number)
    assert desk.users() == ["early", "late", "later"]


def test_a_full_read_sees_what_is_gone(desk: DatabaseDesk) -> None:
    """Guards against deleted rows that stay, and against days written again for nothing."""
    make_orders(desk.server)
    for number in range(1, 7):
        order(desk.server, number, f"u{number}", f"2024-03-0{(number + 1) // 2} 08:00:00")
    source = desk.write("table: orders")
    assert len(desk.land(source).landed) == 3
    desk.server.run(
        "delete from orders where id in (1, 3, 4)", "update orders set price = 7 where id = 6"
    )
    again = desk.land(source)
    assert again.pull is not None and again.pull.rows_read == 3
    assert len(again.landed) == 3
    assert desk.landed() == {
        "20240301": [("u2", "i1", "hh08:1 amount:2.5")],
        "20240302": [],
        "20240303": [("u5", "i1", "hh08:1 amount:2.5"), ("u6", "i1", "hh08:1 amount:7.0")],
    }
    assert desk.land(source).landed == ()


def test_a_cursor_keeps_what_the_table_forgets(desk: DatabaseDesk) -> None:
    """Guards against history that goes when the database cleans up, even its last value."""
    make_orders(desk.server)
    order(desk.server, 1, "a")
    order(desk.server, 2, "b")
    source = desk.write(BY_ID)
    desk.land(source)
    desk.server.run("delete from orders")
    order(desk.server, 3, "c")
    desk.land(source)
    assert desk.users() == ["a", "b", "c"]
    desk.land(source, reread=True)
    assert desk.users() == ["c"]


def test_a_part_that_is_gone_is_read_again(desk: DatabaseDesk) -> None:
    """Guards against an error for ever, or rows lost, where somebody tidied the home."""
    make_orders(desk.server)
    order(desk.server, 1, "a")
    order(desk.server, 2, "b", "2024-03-02 08:00:00")
    source = desk.write(BY_ID)
    desk.land(source)
    (part,) = desk.parts.glob("*.parquet")
    part.unlink()
    again = desk.land(source)
    assert again.pull is not None and again.pull.rows_read == 2
    assert desk.users() == ["a", "b"] and not again.landed


def test_an_emptied_table_is_refused(desk: DatabaseDesk) -> None:
    """Guards against a table emptied by accident that empties every day."""
    make_orders(desk.server)
    order(desk.server, 1, "a")
    source = desk.write("table: orders")
    desk.land(source)
    desk.server.run("delete from orders")
    with pytest.raises(UserError, match="has no rows now and had 1") as refused:
        desk.land(source)
    assert refused.value.code == "source.emptied"
    assert desk.users() == ["a"]
    desk.land(source, reread=True)
    assert desk.landed() == {"20240301": []}


def test_parts_do_not_grow_with_the_pulls(desk: DatabaseDesk) -> None:
    """Guards against a file a pull, which a year of hourly pulls makes nine thousand."""
    make_orders(desk.server)
    source = desk.write(BY_ID)
    for number in range(1, 41):
        order(desk.server, number, f"u{number:02}")
        desk.land(source)
    files = list(desk.parts.glob("*.parquet"))
    assert len(files) < 2 * parts_module.TIER
    assert desk.users() == [f"u{number:02}" for number in range(1, 41)]
    state = json.loads((desk.home / "storage" / "_sources" / "orders.json").read_text())
    assert set(state["files"]) == set(map(str, files))
    assert desk.landed().keys() == {f"{DAY:%Y%m%d}"}


def test_hostile_names_are_names(desk: DatabaseDesk) -> None:
    """Guards against a table, cursor or key whose name ends its quotes, or is split at its dot."""
    quote = '"' if desk.server.kind == "postgresql" else "`"
    table = f"{quote}a.b; drop table {quote}{quote}x{quote}{quote} --'{quote}"
    number, row = f"{quote}Nr. {quote}{quote}1'{quote}", f"{quote}select *{quote}"
    desk.server.run(
        f"create table {table} ({number} int, {row} int, who varchar(9), item int, price int, "
        "at timestamp null)",
        f"insert into {table} values (1, 1, 'a', 1, 1, '2024-03-01 08:00:00')",
    )
    yaml_table, yaml_number = (text.replace("'", "''") for text in (table, number))
    cursor = yaml_number[1:-1].replace(quote * 2, quote)
    source = desk.write(f"table: '{yaml_table}'\ncursor: '{cursor}'\nkey: select *")
    desk.land(source)
    desk.server.run(
        f"insert into {table} values (2, 2, 'b', 1, 1, '2024-03-01 08:00:00')",
        f"update {table} set {number} = 3, who = 'c' where {row} = 1",
    )
    again = desk.land(source)
    assert again.pull is not None
    assert (again.pull.rows_read, again.pull.rows_replaced, again.pull.cursor) == (2, 1, "3")
    assert desk.users() == ["b", "c"]
