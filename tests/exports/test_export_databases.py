"""Exports to a table: the old rows or the new ones, each once, by key; PostgreSQL and MariaDB."""

import signal
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.export_desk import DAY, HOSTILE, ExportDesk, Person, phone
from support.processes import exit_code
from support.source_databases import PASSWORD, Proxy, Server, with_password

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.exports.runs import errors_of, runs_of


def keys(
    server: Server, *, url: str = "", columns: str = "[user_id, score, item_id]", **more: str
) -> str:
    given = {"key": "user_id", "table": "audience", **more}
    inner = ", ".join(f"{name}: {value}" for name, value in given.items())
    return (
        f"audience: all\ncolumns: {columns}\nto:\n  database: {{url: '{url or server.url()}', "
        f"password_env: SHOP_PASSWORD, {inner}}}"
    )


def quoted(server: Server, name: str) -> str:
    mark = '"' if server.kind == "postgresql" else "`"
    return mark + name.replace(mark, mark * 2) + mark


def text_type(server: Server) -> str:
    return "text" if server.kind == "postgresql" else "varchar(255) collate utf8mb4_nopad_bin"


def users(server: Server) -> list[str]:
    return sorted(name for (name,) in server.rows("select user_id from audience"))


def test_rows_are_inserted_then_updated(desk: ExportDesk, target: Server) -> None:
    """Guards against a second row of a person, a score that loses digits, and rows sent twice."""
    export = desk.export(keys(target))
    desk.decide([Person("u1", score=0.1 + 0.2), Person("u2", score=None, item_id="i")])
    done = desk.run(export)
    assert (done.state, done.rows, done.sent, done.failed, done.place) == ("sent", 2, 2, 0, "")
    assert "test" not in done.destination and PASSWORD not in done.sentence
    rows = target.rows("select user_id, score, item_id from audience order by user_id")
    assert rows == [("u1", 0.1 + 0.2, ""), ("u2", None, "i")]
    assert desk.run(export).state == "unchanged"
    desk.decide([Person("u1", score=1e-20), Person("u3")])
    assert desk.run(export).state == "sent"
    assert users(target) == ["u1", "u2", "u3"]  # an upsert deletes nobody
    assert target.rows("select score from audience where user_id = 'u1'") == [(1e-20,)]
    target.run("delete from audience")
    assert desk.run(export).state == "sent" and users(target) == ["u1", "u3"]
    target.run("drop table audience")
    assert desk.run(export).state == "sent" and users(target) == ["u1", "u3"]


def test_replace_deletes_who_has_left(desk: ExportDesk, target: Server) -> None:
    """Guards against people who stay in another tool for ever, and rows of others deleted."""
    export = desk.export(keys(target, mode="replace"))
    desk.decide(["u1", "u2"])
    desk.run(export)
    target.run("insert into audience (user_id, score) values ('of somebody else', 1)")
    desk.decide(["u2", "u3"])
    desk.run(export)
    assert users(target) == ["of somebody else", "u2", "u3"]
    marks = target.rows("select usergrowth_export, count(*) from audience group by 1 order by 2")
    assert marks == [(None, 1), ("people", 2)]
    desk.decide([])
    assert desk.run(export).rows == 0 and users(target) == ["of somebody else"]
    assert desk.run(export).state == "unchanged"
    target.run("insert into audience (user_id, usergrowth_export) values ('stray', 'people')")
    assert desk.run(export).state == "sent" and users(target) == ["of somebody else"]


def test_older_rows_do_not_take_the_place_of_newer(desk: ExportDesk, target: Server) -> None:
    """Guards against a backfill that puts the audience of last week into another tool."""
    desk.decide(["u1"], "care-old", DAY - timedelta(days=1))
    desk.decide(["u2"], "care-new")
    export = desk.export(keys(target, mode="replace"))
    desk.run(export)
    with pytest.raises(
        UserError, match=f"has the rows of {DAY}, and those of 2024-03-03 would"
    ) as refused:
        desk.run(export, DAY - timedelta(days=1))
    assert refused.value.code == "export.refused" and users(target) == ["u2"]
    assert desk.run(export, DAY - timedelta(days=1), again=True).sent == 1
    assert users(target) == ["u1"]
    target.run("drop table audience")
    both = desk.export(keys(target, columns="[user_id, ds]", key="[user_id, ds]"))
    desk.run(both)
    assert desk.run(both, DAY - timedelta(days=1)).sent == 1 and users(target) == ["u1", "u2"]


def test_ids_survive_byte_for_byte(desk: ExportDesk, target: Server) -> None:
    """Guards against ids that a collation, a driver or a statement makes one or another."""
    names = [name for name in HOSTILE if len(name) <= 255]
    names += ["a", "A", "a ", "ä", "ß", "ss", "é", "x" * 255]
    desk.decide([Person(name, item_id=name) for name in names])
    assert desk.run(desk.export(keys(target))).failed == 0
    assert users(target) == sorted(names)
    assert target.rows("select count(*) from audience where user_id = item_id") == [(len(names),)]


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    ids=st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=9),
        max_size=15,
        unique=True,
    )
)  # fmt: skip
def test_rows_out_are_rows_of_the_query(desk: ExportDesk, target: Server, ids: list[str]) -> None:
    """Guards against a row that is lost, doubled or changed on its way into a table."""
    desk.decide(ids)
    done = desk.run(desk.export(keys(target, mode="replace")), again=True)
    assert users(target) == sorted(ids) and done.sent == len(ids)


def test_a_hostile_column_name_is_only_a_name(desk: ExportDesk, target: Server) -> None:
    """Guards against SQL in the name of a column, of the table or of the key."""
    hostile = 'a"b`c; drop table audience; --%s'
    columns = "{'" + hostile + "': user_id, score: score}"
    desk.decide(["u1"])
    export = desk.export(keys(target, columns=columns, key="'" + hostile + "'", table="'t\"`x'"))
    assert desk.run(export).sent == 1
    desk.decide(["u1", "u2"])
    assert desk.run(export).sent == 2
    name, table = quoted(target, hostile), quoted(target, 't"`x')
    assert target.rows(f"select {name} from {table} order by 1") == [("u1",), ("u2",)]


def test_rows_that_do_not_fit_are_refused_one_by_one(desk: ExportDesk, target: Server) -> None:
    """Guards against one long id that keeps everybody back, or is cut without a word."""
    target.run(
        f"create table audience (user_id {text_type(target)} primary key, score double precision, "
        "item_id varchar(5))"
    )
    people = [
        Person("u1", item_id="12345"),
        Person("u2", item_id="123456"),
        Person("u3", item_id="🦊" * 5),
    ]
    if target.kind == "postgresql":
        people.append(Person("nul\0here"))
    desk.decide(people)
    export = desk.export(keys(target))
    done = desk.run(export)
    expected = 2 if target.kind == "postgresql" else 1
    assert (done.rows, done.sent, done.failed) == (len(people), len(people), expected)
    assert users(target) == ["u1", "u3"]
    (run,) = runs_of(desk.project.store)
    errors = errors_of(desk.project.store, run.id)
    assert (errors[0].row, errors[0].user_id, errors[0].task_id) == (2, "u2", "care")
    assert errors[0].reason == "item_id: longer than the 5 characters of the column"
    assert f"{expected} rows were refused (usergrowth exports errors people)" in done.sentence
    assert desk.run(export).state == "unchanged"


WRONG = [
    ("score int", "column 'score' is int(4|), which does not hold every double; make it double"),
    ("points double precision", "has no column 'score'; add "),
    ("score double precision, must int not null", "column 'must' needs a value, and the export has none"),
]  # fmt: skip


@pytest.mark.parametrize(("columns", "sentence"), WRONG, ids=["type", "absent", "required"])
def test_a_table_that_does_not_fit_is_one_sentence(
    desk: ExportDesk, target: Server, columns: str, sentence: str
) -> None:
    """Guards against a table that is written in part, and an error of the driver."""
    target.run(
        f"create table audience (user_id {text_type(target)} primary key, item_id varchar(9), {columns})"
    )
    desk.decide(["u1"])
    with pytest.raises(UserError, match=sentence) as refused:
        desk.run(desk.export(keys(target)))
    assert refused.value.code == "export.refused" and "\n" not in str(refused.value)
    assert str(refused.value).startswith("export people: to.database.table: ")
    assert users(target) == [] and runs_of(desk.project.store) == []


def test_a_wrong_key_is_one_sentence(desk: ExportDesk, target: Server) -> None:
    """Guards against an update that hits somebody else, and two rows of which one wins."""
    people = [Person("u1", score=1.0), Person("u1", score=1.0), Person("u2", score=0.3)]
    desk.decide(people)
    with pytest.raises(
        UserError, match="user_id is shared by several rows, 2 of 3 in all"
    ) as refused:
        desk.run(desk.export(keys(target)))
    assert refused.value.code == "export.refused"
    desk.decide([Person("u1"), Person("u2", score=None)])
    with pytest.raises(UserError, match="1 of 2 rows have no score"):
        desk.run(desk.export(keys(target, key="score")))
    with pytest.raises(UserError, match=r"to\.database\.key: 'who' is none of the columns"):
        desk.export(keys(target, key="who"))
    target.run(
        f"create table audience (user_id {text_type(target)}, score double precision, item_id varchar(9))"
    )
    with pytest.raises(UserError, match="has no primary key or unique index of exactly user_id"):
        desk.run(desk.export(keys(target)))
    assert users(target) == []


@pytest.mark.mariadb
def test_keys_that_a_collation_makes_one_are_refused(
    desk: ExportDesk, mariadb_source: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a table that ignores case and keeps one of two people."""
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    mariadb_source.new_database()
    mariadb_source.run(
        f"grant all on {mariadb_source.database}.* to reader@'127.0.0.1'",
        "create table audience (user_id varchar(99) collate utf8mb4_general_ci primary key, "
        "score double, item_id varchar(9))",
    )
    desk.decide(["Ann", "ann", "bob"])
    with pytest.raises(UserError, match="1 keys of several rows are one and the same to mysql://"):
        desk.run(desk.export(keys(mariadb_source)))
    assert users(mariadb_source) == []
    mariadb_source.run("create unique index other on audience (item_id)")
    desk.decide(["bob"])
    with pytest.raises(UserError, match="is unique by item_id too, so an update could hit"):
        desk.run(desk.export(keys(mariadb_source)))


def test_a_database_that_is_gone_is_one_sentence(
    desk: ExportDesk, target: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a password in an error, and a run that looks as if it were at work for ever."""
    desk.decide(["u1"])
    for url in (target.url(port=9), target.url(user="nobody")):
        with pytest.raises(UserError, match=r"^export people: to\.database\.url: ") as gone:
            desk.run(desk.export(keys(target, url=url)))
        assert gone.value.code == "export.unreachable"
        assert PASSWORD not in str(gone.value) and "\n" not in str(gone.value)
    with pytest.raises(UserError, match="a password never stands here") as refused:
        desk.export(keys(target, url=with_password(target.url())))
    assert PASSWORD not in str(refused.value)
    monkeypatch.delenv("SHOP_PASSWORD")
    with pytest.raises(UserError, match=r"to\.database\.password_env: .* SHOP_PASSWORD is not set"):
        desk.run(desk.export(keys(target)))


def test_no_number_is_in_the_sentence_of_a_database(desk: ExportDesk, target: Server) -> None:
    """Guards against a phone number that a database quotes."""
    target.run(
        f"create table audience (number {text_type(target)} primary key, user_id varchar(20), "
        "check (user_id <> 'u2'))"
    )
    desk.decide([Person("u1", phone=phone(1)), Person("u2", phone=phone(2))])
    export = desk.export(
        keys(
            target,
            columns="{number: phone, user_id: user_id}\ncontains_addresses: true",
            key="number",
        )
    )
    with pytest.raises(UserError, match="refuses the rows") as refused:
        desk.run(export)
    assert "9990000" not in str(refused.value)
    (run,) = runs_of(desk.project.store)
    assert run.state == "failed" and "9990000" not in run.error and users(target) == []


CHILD = """
import os, signal, sys
from datetime import date
from usergrowth_dagster.exports.destinations import mysql_writer, postgres_writer
from usergrowth_dagster.exports.run import exports_of, run_export
from usergrowth_dagster.project import Project
def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)
for kind in (mysql_writer.MySqlWriter, postgres_writer.PostgresWriter):
    setattr(kind, sys.argv[2], killed)
project = Project.open(sys.argv[1])
(export,) = exports_of(project)
run_export(project, export, date(2024, 3, 4), actor="child")
"""


@pytest.mark.parametrize("moment", ["upsert", "delete_others", "commit"])
def test_a_killed_export_changes_nothing(desk: ExportDesk, target: Server, moment: str) -> None:
    """Guards against a table that is half new, and people who are in it twice afterwards."""
    export = desk.export(keys(target, mode="replace"))
    desk.decide(["u1", "u2"])
    desk.run(export)
    desk.decide(["u2", "u3"])
    assert exit_code(CHILD, str(desk.home), moment) == -signal.SIGKILL
    assert users(target) == ["u1", "u2"]
    assert desk.run(export).state == "sent" and users(target) == ["u2", "u3"]
    assert [run.state for run in runs_of(desk.project.store)] == ["done", "failed", "done"]


def test_a_reader_sees_the_old_rows_or_the_new(desk: ExportDesk, target: Server) -> None:
    """Guards against a campaign in another tool that starts on half an audience."""
    export = desk.export(keys(target, mode="replace"))
    old, new = [f"a{n}" for n in range(3000)], [f"b{n}" for n in range(3000)]
    desk.decide(old)
    desk.run(export)
    seen: set[tuple[Any, ...]] = set()
    reader, stop = target.connect(), threading.Event()

    def read() -> None:
        while not stop.is_set():
            cursor = reader.cursor()
            cursor.execute("select count(*), min(user_id), max(user_id) from audience")
            seen.add(tuple(cursor.fetchone()))
            time.sleep(0.001)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        desk.decide(new)
        desk.run(export)
        time.sleep(0.05)
    finally:
        stop.set()
        thread.join()
        reader.close()
    assert seen == {(3000, "a0", "a999"), (3000, "b0", "b999")}


def test_a_connection_that_breaks_changes_nothing(desk: ExportDesk, target: Server) -> None:
    """Guards against a traceback, and a table that is half new, when the network fails."""
    desk.decide([f"u{n}" for n in range(10)])
    for after in (600, 1500, 3000):
        proxy = Proxy(target.port, after)
        try:
            desk.run(desk.export(keys(target, url=target.url(port=proxy.port))))
        except UserError as error:
            assert error.code in ("export.unreachable", "export.refused")
            assert "\n" not in str(error) and PASSWORD not in str(error)
            schema = "'public'" if target.kind == "postgresql" else "database()"
            made = target.rows(
                "select count(*) from information_schema.tables "
                f"where table_name = 'audience' and table_schema = {schema}"
            )
            assert made == [(0,)] or users(target) == []
            target.run("drop table if exists audience")
        finally:
            proxy.close()
    assert desk.run(desk.export(keys(target))).sent == 10 and len(users(target)) == 10
    assert desk.run(desk.export(keys(target)), DAY).state == "unchanged"
