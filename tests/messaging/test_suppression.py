"""The suppression list and its files, on SQLite and PostgreSQL."""

import stat
import threading
import time
import tracemalloc
from pathlib import Path

import pytest
from sqlalchemy import select, update
from support.ledger_rows import NOW, SIGNATURE, VAULT, messages, occurrence, open_store, rows
from support.patience import no_hang
from support.phones import phone

from usergrowth_dagster.control import audit, schema
from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.people.phones import PhoneVault
from usergrowth_dagster.messaging.policy import suppression as sup
from usergrowth_dagster.messaging.policy.suppression_files import export_csv, import_csv


def held_back(store: ControlStore, channel: str = "sms", signature: str = SIGNATURE) -> set[str]:
    with store.read() as connection:
        query = select(schema.message.c.user_id).where(sup.is_suppressed(channel, signature))
        return set(connection.scalars(query))


def test_who_is_held_back(database_url: str) -> None:
    """Guards against a suppression that reaches too few messages, or too many."""
    store = open_store(database_url)
    messages(store, occurrence(store), [MessageState.PLANNED] * 6)

    def put(**values: object) -> bool:
        given = {"reason": "by_hand", "source": "test", "now": NOW, **values}
        return sup.suppress(store, VAULT, **given)  # type: ignore[arg-type]

    assert put(phone=phone(0)) and put(user_id="u1") and put(phone=phone(2), scope="别的店")
    assert put(phone=phone(3), channel="email") and put(user_id="u4", channel="*", scope=SIGNATURE)
    assert held_back(store) == {"u0", "u1", "u4"}
    assert held_back(store, signature="别的店") == {"u0", "u1", "u2"}
    assert held_back(store, channel="email") == {"u3", "u4"}
    assert not put(phone="00999-0000 000000") and put(phone=phone(0), user_id="u0")
    with store.write() as connection:  # the condition also holds in an update
        message = schema.message
        skip = update(message).where(sup.is_suppressed("sms", SIGNATURE))
        assert connection.execute(skip.values(reason="suppressed")).rowcount == 3
    assert sup.lift(store, VAULT, phone=phone(0), scope="x", now=NOW) == 0
    assert sup.lift(store, VAULT, phone=phone(0), now=NOW) == 1
    assert held_back(store) == {"u0", "u1", "u4"}  # by the user still
    assert sup.lift(store, VAULT, phone=phone(0), user_id="u0", now=NOW, actor="ann") == 1
    assert held_back(store) == {"u1", "u4"}
    assert put(phone=phone(0)) and held_back(store) == {"u0", "u1", "u4"}
    assert sum(n for *_, n in sup.counts(store)) == 5
    assert len([r for r in rows(store, schema.suppression) if r["lifted_time"]]) == 2
    for bad in ({}, {"phone": "12"}, {"phone": "a@"}, {"phone": phone(1), "channel": "fax"}):
        with pytest.raises(UserError) as caught:
            put(**bad)
        assert "999" not in str(caught.value)
    assert audit.entries(store)[0].subject == "user u0, address +999********00"


def test_a_refusal_holds_for_one_number_in_every_spelling(database_url: str) -> None:
    """Guards against a refusal that misses a number for its spelling, and against one that holds
    for the number of another country with the same digits."""
    store = open_store(database_url)
    place = occurrence(store)
    vault = PhoneVault.from_secret(b"0123456789abcdef", "CN")
    spellings = ("+8613855550111", "8613855550111", "138 5555 0111", "0086 138-5555-0111")
    for n, text in enumerate((*spellings, "+13855550111")):
        digest = {"user_id": f"m{n}", "phone_hash": vault.digest(text)}
        messages(store, place, [MessageState.PLANNED], **digest)
    sup.suppress(store, vault, phone="+1 385 555 0111", reason="reply", source="s", now=NOW)
    assert held_back(store) == {"m4"}
    sup.suppress(store, vault, phone="13855550111", reason="reply", source="s", now=NOW)
    assert held_back(store) == {"m0", "m1", "m2", "m3", "m4"}


def test_one_row_in_force_however_many_at_once(database_url: str) -> None:
    """Guards against a lift that leaves a second copy in force."""
    store = open_store(database_url)
    new = []

    def put() -> None:
        for _ in range(20):
            new.append(
                sup.suppress(store, VAULT, phone=phone(1), reason="reply", source="s", now=NOW)
            )

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(new) == 1 and len(new) == 80
    assert sup.lift(store, VAULT, phone=phone(1), now=NOW) == 1


def test_forgotten_people(database_url: str, tmp_path: Path) -> None:
    """Guards against a forgotten person's number or id that stays, or comes back by a file."""
    store = open_store(database_url)
    messages(store, occurrence(store), [MessageState.PLANNED])
    both = {"phone": phone(0), "user_id": "u0", "source": "s", "now": NOW}
    sup.suppress(store, VAULT, reason="reply", **both)
    sup.suppress(store, VAULT, reason="import", scope="x", **both)
    sup.lift(store, VAULT, phone=phone(0), scope="x", now=NOW)
    sup.suppress(store, VAULT, reason=sup.FORGOTTEN, **both)
    path = tmp_path / "in.csv"
    path.write_text(f"phone,user_id,channel\n{phone(0)},u0,email\n{phone(5)},,\n")
    assert import_csv(store, VAULT, path, now=NOW).added == 3
    kept = [r for r in rows(store, schema.suppression) if r["phone_number"] or r["user_id"]]
    assert len(kept) == 1 and VAULT.open(kept[0]["phone_number"]) == phone(5)
    assert held_back(store) == held_back(store, "email") == {"u0"}
    done = export_csv(store, VAULT, tmp_path / "out.csv")
    assert (done.rows, done.withheld) == (1, 5)


def test_there_and_back(database_url: str, tmp_path: Path) -> None:
    """Guards against an export that others can read, overwrites, or does not import as it was."""
    store = open_store(database_url)
    source = tmp_path / "in.csv"
    source.write_bytes(
        "\ufeffuser_id,phone,scope,reason\r\n"
        f'u1,,\\N,complaint\r\n,{phone(2)},示例商店,\r\n"a,""b",{phone(3)},*,\r\n'
        f"\r\n,Ann@Example.com,,\r\n,{phone(2)},示例商店,\r\n".encode()
    )
    done = import_csv(store, VAULT, source, now=NOW, actor="ann")
    assert (done.lines, done.added, done.known) == (5, 5, 1)
    target = tmp_path / "out.csv"
    assert export_csv(store, VAULT, target, actor="ann").rows == 5
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    first = target.read_bytes()
    with pytest.raises(UserError, match="is there already"):
        export_csv(store, VAULT, target)
    assert export_csv(store, VAULT, target, force=True).rows == 5
    assert sorted(p.name for p in tmp_path.glob("*.csv*")) == ["in.csv", "out.csv"]
    other = open_store(f"sqlite:///{tmp_path / 'other.db'}")
    assert import_csv(other, VAULT, target, now=NOW).added == 5
    export_csv(other, VAULT, target, force=True)
    assert target.read_bytes() == first
    assert [e.action for e in audit.entries(store)] == [
        "import suppressions",
        "export suppressions",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "neither phone nor user_id"),
        (b"+9990000000001\n", "there is no column '+*************'"),
        (b"phone,age\n", "no column 'age'"),
        (b"phone,phone\n", "named twice"),
        (b"reason\n", "neither phone nor user_id"),
        (b"phone\n\xff\n", "line 2: the line is not UTF-8"),
        (b"phone\n+9990000000001\n12345x\n", "line 3, column phone: not a phone number"),
        (b"phone,user_id\n,\n", "line 2: neither a phone nor a user_id"),
        (b"phone\n+9990000000001,x\n", "line 2: 2 values under 1 columns"),
        (b'phone\n"+9990000000001\n', "line 2: a double quote"),
        (b"phone\n+999\x000000001\n", "line 2: the line holds a NUL"),
        (b"phone,channel\n+9990000000001,fax\n", "line 2, column channel: sms"),
        (b"phone,reason\n+9990000000001,forgotten\n", "line 2, column reason: at most 32"),
        (b"phone,scope\n+9990000000001," + b"x" * 65, "line 2, column scope: a signature"),
        (b"phone,created_time\n+9990000000001,soon\n", "line 2, column created_time: a time"),
        (b"phone\n" + b"9" * (1 << 21) + b"\n", "line 2: a line has at most"),
    ],
    ids=range(16),
)
def test_bad_files(tmp_path: Path, text: bytes, sentence: str) -> None:
    """Guards against a file that is half imported, a vague complaint, or one that shows a number."""
    store = open_store(f"sqlite:///{tmp_path / 'c.db'}")
    path = tmp_path / "in.csv"
    path.write_bytes(text)
    with pytest.raises(UserError) as caught:
        import_csv(store, VAULT, path, now=NOW)
    assert sentence in str(caught.value) and str(path) in str(caught.value)
    said = str(caught.value).removeprefix(str(path))
    assert "999000" not in said and "12345" not in said
    assert rows(store, schema.suppression) == []
    if b"\n" in text and "column '" not in sentence and "line 1" not in str(caught.value):
        good = b"+9990000000009" + b"," * text.split(b"\n")[0].count(b",")
        path.write_bytes(text.rstrip(b"\n") + b"\n" + good + b"\n")
        done = import_csv(store, VAULT, path, skip_bad=True, now=NOW)
        assert (done.skipped, done.added) == (1, done.lines - 1)
        assert sentence in done.problems[0]


def test_a_long_list(database_url: str, tmp_path: Path) -> None:
    """Guards against memory that grows with the file, and writers shut out while it is read."""
    store = open_store(database_url)
    size = 30_000
    path = tmp_path / "in.csv"
    with path.open("w") as file:
        file.write("phone\n")
        file.writelines(f"{phone(n)}\n" for n in range(size))
    written, stop = 0, threading.Event()

    def write() -> None:
        nonlocal written
        while not stop.is_set():
            sup.suppress(store, VAULT, user_id="u", reason="reply", source="s", now=NOW)
            written += 1
            time.sleep(0.01)

    other = threading.Thread(target=write)
    other.start()
    tracemalloc.start()
    try:
        assert import_csv(store, VAULT, path, now=NOW).added == size
        peak = tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()
        stop.set()
        other.join()
    assert export_csv(store, VAULT, tmp_path / "out.csv").rows == size + 1
    assert peak < 60 and written >= 20
    # a few look-ups a row, however long the list is
    messages(store, occurrence(store), [MessageState.PLANNED] * 5_000)
    with no_hang():
        assert len(held_back(store)) == 5_000
