"""A server that is gone, drops a connection or refuses: one sentence, and nothing lost or doubled."""

import json
import threading
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from support.database_desk import ORDERS, DatabaseDesk, make_orders, order
from support.patience import PATIENCE
from support.processes import started
from support.source_databases import PASSWORD, Proxy, free_port, with_password

from usergrowth_dagster.errors import SetUpError, UserError
from usergrowth_dagster.sources.databases import mysql, postgres
from usergrowth_dagster.sources.databases import parts as parts_module
from usergrowth_dagster.sources.databases import pull as pull_module
from usergrowth_dagster.sources.databases.connect import without_password

BY_ID = "table: orders\ncursor: id"
MANY = 60_000


def fill(desk: DatabaseDesk, rows: int = MANY) -> list[str]:
    """Orders of many users on three days, and the users."""
    make_orders(desk.server)
    if desk.server.kind == "postgresql":
        numbers = f"generate_series(1, {rows}) as n"
        at = "timestamp '2024-03-01 08:00:00' + (n % 3) * interval '1 day'"
        user = "'u' || n"
    else:
        numbers, user = f"(select seq as n from seq_1_to_{rows}) as numbers", "concat('u', n)"
        at = "timestamp '2024-03-01 08:00:00' + interval (n % 3) day"
    desk.server.run(
        f"insert into orders select n, {user}, repeat('i', 20), 1.5, {at}, {at} from {numbers}"
    )
    return sorted(f"u{number}" for number in range(1, rows + 1))


@pytest.mark.parametrize("how", ["terminated", "closed"])
def test_a_dropped_connection_goes_on_where_it_was(
    desk: DatabaseDesk, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Guards against half a part that counts, rows lost behind it, and a landing of half a table.

    Either the server ends the session while the first part is on its way, or the network does.
    """
    users = fill(desk)
    monkeypatch.setattr(parts_module, "PART_ROWS", 5_000)
    monkeypatch.setattr(mysql, "BATCH_ROWS", 2_000)
    monkeypatch.setattr(postgres, "BATCH_BYTES", 200_000)
    proxy = None
    if how == "closed":
        proxy = Proxy(desk.server.port, after=1_500_000)
        source = desk.write(BY_ID, url=desk.server.url(port=proxy.port))
    else:
        source = desk.write(BY_ID)
        end_within_the_pull(monkeypatch, desk)
    with pytest.raises(UserError) as dropped:
        desk.land(source)
    assert dropped.value.code == "source.dropped"
    sentence = str(dropped.value)
    assert sentence.startswith("sources.yml: source orders: database: the connection to ")
    assert "\n" not in sentence and PASSWORD not in sentence
    assert desk.landed() == {}
    if proxy is not None:
        assert 0 < held(desk) < MANY  # some parts stand
        proxy.after = 1 << 40
    monkeypatch.undo()
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    landing = desk.land(source)
    assert landing.pull is not None and landing.pull.rows_held == MANY
    assert landing.pull.rows_read < MANY or proxy is None
    assert desk.users() == users


def end_within_the_pull(monkeypatch: pytest.MonkeyPatch, desk: DatabaseDesk) -> None:
    """End the reader's session when its first batch has come."""
    write = pull_module._write
    ended: list[int] = []

    def write_and_end(file: Path, schema: Any, batches: Any) -> int:
        def one_then_end() -> Any:
            for batch in batches:
                if not ended:
                    ended.append(desk.server.end_readers())
                    assert ended == [1]
                yield batch

        return write(file, schema, one_then_end())

    monkeypatch.setattr(pull_module, "_write", write_and_end)
    # What the network holds is still read, so there is more than it can hold.
    desk.server.run("alter table orders add wide text", "update orders set wide = repeat('x', 999)")


def held(desk: DatabaseDesk) -> int:
    listed = json.loads((desk.parts / parts_module.LIST).read_text())
    return sum(part["rows"] for part in listed["parts"])


CHILD = """
import sys
from pathlib import Path
from usergrowth_dagster.sources.databases import parts
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.sources.definition import read_sources
from usergrowth_dagster.sources.land import land_source
parts.PART_ROWS = 5_000
home = Path(sys.argv[1])
settings = load_settings(home, today="2024-03-20", timezone="UTC", memory_limit="1GB")
(source,) = read_sources(home / "sources.yml")
landing, state = Storage(settings.landing_root), Storage(settings.storage_root)
land_source(settings, landing, state, source, home)
"""


def child(desk: DatabaseDesk) -> ForkServerProcess:
    return started(CHILD, str(desk.home))


@pytest.mark.parametrize("cursor", ["cursor: id", "cursor: changed\nkey: id", ""])
def test_a_killed_pull_loses_nothing_and_doubles_nothing(desk: DatabaseDesk, cursor: str) -> None:
    """Guards against a list of parts that a kill leaves torn, and parts that count twice."""
    users = fill(desk)
    source = desk.write(f"table: orders\n{cursor}")
    for parts in (1, 3, 7):
        process = child(desk)
        deadline = time.monotonic() + PATIENCE
        while len(list(desk.parts.glob("*.parquet"))) < parts and time.monotonic() < deadline:
            if process.exitcode is not None:
                break
            time.sleep(0.002)
        process.kill()
        process.join()
    landing = desk.land(source)
    assert landing.pull is not None and landing.pull.rows_held == MANY
    assert desk.users() == users
    listed = {file.uri for file in landing.pull.files} | {str(desk.parts / parts_module.LIST)}
    assert set(map(str, desk.parts.iterdir())) == listed  # what the killed ones left is gone


def test_two_at_once_wait_for_each_other(desk: DatabaseDesk) -> None:
    """Guards against two pulls that each take the same rows, or remove each other's parts."""
    users = fill(desk)
    source = desk.write(BY_ID)
    processes = [child(desk) for _ in range(3)]
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    landing = desk.land(source)
    assert landing.pull is not None
    assert (landing.pull.rows_held, landing.pull.rows_new) == (MANY, 0)
    assert desk.users() == users


def test_rows_committed_meanwhile_wait_for_the_next_pull(
    desk: DatabaseDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a pull that sees a change in one part and not in another."""
    fill(desk, 30_000)
    monkeypatch.setattr(parts_module, "PART_ROWS", 5_000)
    replace = parts_module.Parts.replace
    done = threading.Event()

    def replace_and_change(self: Any, parts: Any) -> None:
        replace(self, parts)
        if not done.is_set():
            done.set()
            desk.server.run(
                "update orders set who = 'changed', changed = null where id > 20000",
                "insert into orders (id, who, at) values (30001, 'new', '2024-03-01')",
            )

    monkeypatch.setattr(parts_module.Parts, "replace", replace_and_change)
    landing = desk.land(desk.write("table: orders\ncursor: changed"))
    assert landing.pull is not None and landing.pull.rows_read == 30_000
    assert landing.pull.rows_without_cursor == 0
    assert "changed" not in desk.users() and "new" not in desk.users()


def refusal(desk: DatabaseDesk, keys: str, **more: str) -> UserError:
    with pytest.raises(UserError) as refused:
        desk.land(desk.write(keys, **more))
    sentence = str(refused.value)
    assert sentence.startswith(
        ("sources.yml: source orders: database", "sources.yml: source orders: ")
    )
    assert "\n" not in sentence and PASSWORD not in sentence and not sentence.endswith(":")
    return refused.value


def test_what_is_missing_is_named(desk: DatabaseDesk) -> None:
    """Guards against a driver's own words, and a sentence that does not say which key to correct."""
    make_orders(desk.server)
    gone = refusal(desk, "table: ordrs")
    assert gone.code == "source.gone" and "database.table: " in str(gone)
    assert "did you mean 'orders'?" in str(gone)
    cursor = refusal(desk, "table: orders\ncursor: change")
    assert "database.cursor: there is no column 'change'; did you mean 'changed'?" in str(cursor)
    key = refusal(desk, "table: orders\ncursor: id\nkey: [who, nr]")
    assert "database.key: there is no column 'nr'; it has id, who," in str(key)
    kind = refusal(desk, "table: orders\ncursor: who")
    assert "database.cursor: who is a string; a cursor is a whole number" in str(kind)
    late = refusal(desk, "table: orders\ncursor: changed\nlate: 10")
    assert "database.late: changed is a time; write a duration" in str(late)
    late = refusal(desk, "table: orders\ncursor: id\nlate: 10 minutes")
    assert "database.late: id is a number; write how far" in str(late)
    desk.server.run("alter table orders drop column item")
    with pytest.raises(UserError, match=r"source orders: columns\.item_id: .* no column 'item'"):
        desk.land(desk.write(BY_ID))


def test_a_column_that_goes_or_comes(desk: DatabaseDesk) -> None:
    """Guards against NULLs for a column that the table has lost, and a new one that is not seen."""
    make_orders(desk.server)
    order(desk.server, 1, "a")
    source = desk.write(BY_ID)
    desk.land(source)
    desk.server.run("alter table orders add shop varchar(9)")
    text = (desk.home / "sources.yml").read_text().replace("{", "{{").replace("}", "}}")
    with_shop = desk.write(BY_ID, text=text.replace("item_id: item", "item_id: shop"))
    desk.land(with_shop)  # no row is new, and yet the column is there
    assert desk.landed() == {"20240301": [("a", None, "hh08:1 amount:2.5")]}
    desk.server.run("insert into orders values (2, 'b', 'i', 1, '2024-03-01', '2024-03-01', 's')")
    desk.land(with_shop)
    assert sorted(item or "" for _, item, _ in desk.landed()["20240301"]) == ["", "s"]
    desk.server.run("alter table orders drop column item")
    with pytest.raises(UserError, match=r"columns\.item_id: 'item': .* no column 'item'"):
        desk.land(source)


def test_who_is_not_let_in(desk: DatabaseDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a password in a message, and an answer that does not say what is wrong."""
    make_orders(desk.server)
    nobody = refusal(desk, BY_ID, url=desk.server.url(port=free_port()))
    assert nobody.code == "source.unreachable" and "database.url: " in str(nobody)
    assert "refused" in str(nobody)
    monkeypatch.setenv("SHOP_PASSWORD", "wrong")
    wrong = refusal(desk, BY_ID)
    assert (
        wrong.code == "source.unreachable" and "reader" in str(wrong) and "wrong" not in str(wrong)
    )
    monkeypatch.delenv("SHOP_PASSWORD")
    missing = refusal(desk, BY_ID)
    assert isinstance(missing, SetUpError) and missing.code == "credential.missing"
    assert "database.password_env: the environment variable SHOP_PASSWORD is not set" in str(
        missing
    )
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    database = refusal(desk, BY_ID, url=desk.server.url().replace("shop_", "no_"))
    assert database.code == "source.unreachable"


def test_a_password_comes_from_a_file(desk: DatabaseDesk) -> None:
    """Guards against a file that others read, and a line end that becomes part of the password."""
    make_orders(desk.server)
    order(desk.server, 1, "a")
    file = desk.home / "secret"
    file.write_text(PASSWORD + "\n")
    file.chmod(0o644)
    text = ORDERS.replace("password_env: SHOP_PASSWORD", "password_file: secret")
    with pytest.raises(UserError, match=r"database\.password_file: others may read .*chmod 600"):
        desk.land(desk.write(BY_ID, text=text))
    file.chmod(0o600)
    desk.land(desk.write(BY_ID, text=text))
    assert desk.users() == ["a"]
    file.unlink()
    with pytest.raises(UserError, match=r"database\.password_file: .*secret cannot be read"):
        desk.land(desk.write(BY_ID, text=text))


def test_a_driver_that_repeats_the_password() -> None:
    """Guards against a message of a driver that repeats what it was given, as a URL or as it is."""
    words = f"bad URL //reader:{quote(PASSWORD, safe='')}@db, bad password {PASSWORD}"
    assert without_password(words, PASSWORD) == "bad URL //reader:…@db, bad password …"
    assert without_password("words", None) == "words"


def test_a_password_never_stands_in_the_file(desk: DatabaseDesk) -> None:
    """Guards against a password that is accepted where it can be read, or is shown when refused."""
    for url in (
        with_password(desk.server.url()),
        f"{desk.server.url()}?password=geheim",
        "[postgresql://a:geheim@b/c]",
        "postgresql://a:ge@heim@b/c",
    ):
        with pytest.raises(UserError) as refused:
            desk.write(BY_ID, url=url)
        assert "database.url: " in str(refused.value)
        assert "heim" not in str(refused.value)
    with pytest.raises(UserError, match="did you mean 'password_") as refused:
        desk.write(f"{BY_ID}\npassword: geheim")
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("delete from orders", "must be one SELECT, and begins with 'delete'"),
        ("select 1 as id; delete from orders", "must be one SELECT, and is 2 statements"),
        ("select * from orders for update", "only reads, and holds LOCK"),
        ("select * into copy from orders", "only reads, and holds INTO"),
        ("with x as (delete from orders returning *) select * from x", "and holds DELETE"),
        ("select from where", "must be one SELECT: "),
        (";", "must be one SELECT"),
    ],
)
def test_a_query_is_one_select(desk: DatabaseDesk, query: str, reason: str) -> None:
    """Guards against a statement that writes, locks or runs beside the one that is read."""
    make_orders(desk.server)
    order(desk.server, 1, "a")
    refused = refusal(desk, f'query: "{query}"')
    assert refused.code == "source.invalid" and "database.query: " in str(refused)
    assert reason in str(refused)
    assert desk.server.rows("select count(*) from orders") == [(1,)]


def test_a_query_is_read_like_a_table(desk: DatabaseDesk) -> None:
    """Guards against a comment, a semicolon or an order of the query that breaks what is around it."""
    make_orders(desk.server)
    for number in (1, 2, 3):
        order(desk.server, number, f"u{number}")
    query = "select id, who, item, price, at from orders where who <> 'u2' order by 1 desc; -- ours"
    source = desk.write(f'query: "{query}"\ncursor: id')
    desk.land(source)
    order(desk.server, 4, "u4")
    assert desk.land(source).pull.rows_read == 2  # type: ignore[union-attr]
    assert desk.users() == ["u1", "u3", "u4"]
    bad = refusal(desk, 'query: "select nothing from orders"')
    assert "database.query: " in str(bad) and "nothing" in str(bad)
