"""Replies that a person reads and marks, and what becomes of them when a person is forgotten."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from support.ledger_rows import NOW, SIGNATURE, VAULT, messages, occurrence, open_store, rows
from support.phones import phone
from typer.testing import CliRunner

from usergrowth_dagster.cli import app
from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.gateways.protocol import Reply, Unread
from usergrowth_dagster.messaging.operations.replies import (
    mark_refusal,
    read_replies,
    reread_replies,
    reveal,
)
from usergrowth_dagster.messaging.people.forget import Person, bury, erase_in_store
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.policy.suppression import is_suppressed, lift, suppress
from usergrowth_dagster.messaging.receiving.replies import take_replies
from usergrowth_dagster.messaging.receiving.unread import RECEIPT, REPLY, keep_unread
from usergrowth_dagster.settings import Settings

TALK = f"你好 call me at {phone(7)} or li@shop.example, [red]not 12345"


@pytest.fixture
def store(database_url: str, settings: Settings) -> ControlStore:
    """Three people who were texted, and what came back."""
    opened = open_store(database_url)
    messages(opened, occurrence(opened), [MessageState.PLANNED] * 3)
    sent = [
        Reply(phone(0), "TD", None, "a", NOW),
        Reply(phone(1), TALK, SIGNATURE, "b", NOW),
        Reply("INFO", "TD", None, "c", NOW),
    ]
    take_replies(opened, VAULT, settings, "aliyun", sent, NOW)
    bad = [
        Unread("entry 2: 'content' must be a text", f'{{"from": "{phone(2)}"}}', phone(2)),
        Unread("entry 3: of another system", None),
    ]
    for _ in range(2):
        keep_unread(opened, VAULT, "aliyun", REPLY, bad, NOW + timedelta(seconds=1))
    report = [Unread("entry 1: 'success'", f'{{"phone": "{phone(1)}"}}')]
    keep_unread(opened, VAULT, "aliyun", RECEIPT, report, NOW + timedelta(seconds=2))
    return opened


def held_back(store: ControlStore) -> set[str]:
    with store.read() as connection:
        query = select(schema.message.c.user_id).where(is_suppressed("sms", SIGNATURE))
        return set(connection.scalars(query))


def test_a_person_reads_and_marks(store: ControlStore, settings: Settings) -> None:
    """Guards against a refusal in words of its own that nobody can see, and numbers on a screen."""
    shown = read_replies(store, VAULT)
    assert [one.gateway for one in shown] == ["aliyun"] * 3
    bad, *others = shown
    talk, nameless = sorted(others, key=lambda one: one.id)
    assert "'content'" in bad.note and bad.sender.startswith("+999*")
    assert talk.text.startswith("你好 call me at +999") and "[red]not 12345" in talk.text
    assert nameless.sender == "unknown" and "TD" in nameless.text
    assert "000000" not in repr(shown) and "li@shop" not in repr(shown)
    assert len(read_replies(store, VAULT, everything=True)) == 5
    assert len(read_replies(store, VAULT, limit=1)) == 1
    for one in (bad, talk):
        assert "suppressed" in mark_refusal(store, VAULT, settings, one.id, "ann@host")
        with pytest.raises(UserError, match="refuses already"):
            mark_refusal(store, VAULT, settings, one.id, "ann@host")
    assert held_back(store) == {"u0", "u1", "u2"}
    with pytest.raises(UserError, match=f"who sent {nameless.id}.*--reveal"):
        mark_refusal(store, VAULT, settings, nameless.id, "ann@host")
    for wrong in ("99", "u99", "x", "", "u", "٣", "1" * 30):
        with pytest.raises(UserError, match=r"no reply|no id"):
            mark_refusal(store, VAULT, settings, wrong, "ann@host")
    assert reveal(store, VAULT, talk.id, "ann@host") == f"{phone(1)}: {TALK}"
    audited = [(row["actor"], row["action"], row["subject"]) for row in rows(store, schema.audit)]
    assert audited == [
        ("ann@host", "mark-refusal", f"reply {bad.id}"),
        ("ann@host", "mark-refusal", f"reply {talk.id}"),
        ("ann@host", "reveal", f"reply {talk.id}"),
    ]
    assert "999000" not in repr(rows(store, schema.audit) + rows(store, schema.suppression))


def test_mark_outlasts_an_earlier_start(store: ControlStore, settings: Settings) -> None:
    """Guards against a START, sent before the marked reply, that comes late and undoes the mark."""
    (talk,) = [row for row in rows(store, schema.reply) if row["action"] == "none"]
    mark_refusal(store, VAULT, settings, str(talk["id"]), "ann@host")
    early = Reply(phone(1), "START", SIGNATURE, "d", NOW - timedelta(minutes=1))
    take_replies(store, VAULT, settings, "aliyun", [early], NOW + timedelta(minutes=1))
    assert "u1" in held_back(store)
    take_replies(
        store, VAULT, settings, "aliyun", [Reply(phone(1), TALK, SIGNATURE, "b", NOW)], NOW
    )
    later = Reply(phone(1), "START", SIGNATURE, "e", NOW + timedelta(minutes=1))
    take_replies(store, VAULT, settings, "aliyun", [later], NOW + timedelta(minutes=2))
    assert "u1" not in held_back(store)


def test_replies_kept_before_have_no_number(store: ControlStore, settings: Settings) -> None:
    """Guards against replies of an older version, which know their sender by a hash alone."""
    with store.write() as connection:
        connection.execute(schema.reply.update().values(phone_number=None))
    sent = [Reply(phone(77), "别烦我", None, "x", NOW)]
    take_replies(store, VAULT, settings, "aliyun", sent, NOW + timedelta(seconds=9))
    with store.write() as connection:
        connection.execute(schema.reply.update().values(phone_number=None))
    stranger, *_ = read_replies(store, VAULT)
    assert stranger.sender == "unknown"
    mark_refusal(store, VAULT, settings, stranger.id, "ann@host")
    talk = next(one for one in read_replies(store, VAULT) if "call me" in one.text)
    assert talk.sender.startswith("+999*")
    assert VAULT.digest(phone(77)) in [r["phone_hash"] for r in rows(store, schema.suppression)]


def test_forgotten_people_leave_no_reply(store: ControlStore) -> None:
    """Guards against the number of a forgotten person in an entry that nobody could read."""
    for user, number in (("u1", 1), ("u2", 2)):
        person = Person(user, found=(phone(number),))
        bury(store, VAULT, person, "ann@host")
        assert erase_in_store(store, VAULT, person, dry_run=True)["unread"] == 1
        assert erase_in_store(store, VAULT, person)["unread"] == 1
        assert erase_in_store(store, VAULT, person)["unread"] == 0
    texts = [
        VAULT.open(value)
        for table in (schema.reply, schema.unread)
        for row in rows(store, table)
        for value in (row["content"], row["phone_number"])
        if value
    ]
    assert phone(0) in texts and not any(phone(n) in text for n in (1, 2) for text in texts)
    assert [one.text for one in read_replies(store, VAULT) if one.text == "(erased)"]


def test_reports_that_could_not_be_read_are_dropped_in_time(store: ControlStore) -> None:
    """Guards against a table that grows for ever with a status that nobody knows."""
    later = NOW + timedelta(days=31)
    keep_unread(store, VAULT, "aliyun", REPLY, [Unread("why", "{}")], later)
    assert [row["kind"] for row in rows(store, schema.unread)] == ["reply"] * 3


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """Guards against a number in a terminal, markup in a reply, and a mark without its record."""
    home = tmp_path / "home"
    monkeypatch.setenv("USERGROWTH_SECRET_KEY", "0123456789abcdef")

    def run(*words: str) -> str:
        done = CliRunner().invoke(app, [*words, "--home", str(home)])
        assert done.exit_code == 0, done.output
        return done.output

    run("init")
    assert "no replies" in run("replies")
    opened = open_store(f"sqlite:///{home / 'control.db'}")
    sent = [Reply(phone(1), "[/red] 别烦我 " + phone(1), None, "a")]
    take_replies(opened, VAULT, settings, "aliyun", sent, NOW)
    said = run("replies")
    assert "[/red] 别烦我" in said and "000001" not in said and "+08:00" in said
    assert '"action": "none"' in run("replies", "--json")
    assert "suppressed" in run("replies", "--mark", "1")
    assert "no replies that" in run("replies") and "opt out" in run("replies", "--all")
    assert phone(1) in run("replies", "--reveal", "1")
    assert "mark-refusal" in run("audit")
    assert "Unreadable" not in run("delivery")
    vault = open_vault(home)
    keep_unread(opened, vault, "twilio", REPLY, [Unread("why", "{}"), Unread("why", "[]")], NOW)
    assert "Unreadable" in (said := run("delivery")) and "twilio" in said


def test_earlier_replies_are_read_by_the_words_of_now(
    store: ControlStore, settings: Settings
) -> None:
    """Guards against a refusal that came before its word was known, and is never looked at again."""
    place = occurrence(store, name="b")
    messages(store, place, [MessageState.PLANNED] * 14)
    early = NOW - timedelta(days=1)
    sent = [
        Reply(phone(10), "BAJA", None, "10", early),
        Reply(phone(11), "BAJA", None, "11", early),
        Reply(phone(12), "BAJA", None, "12", early),
        Reply(phone(13), "hola", None, "13", early),
        Reply(phone(11), "START", None, "11s", NOW),
    ]
    take_replies(store, VAULT, settings, "aliyun", sent, NOW)
    suppress(store, VAULT, phone=phone(12), reason="by_hand", source="s", now=NOW)
    lift(store, VAULT, phone=phone(12), now=NOW + timedelta(minutes=1))
    assert reread_replies(store, VAULT, settings) == 0
    knows = settings.model_copy(update={"opt_out_words": ["BAJA"]})
    assert reread_replies(store, VAULT, knows) == 1
    assert reread_replies(store, VAULT, knows) == 0
    assert held_back(store) == {"u0", "u10"}
    take_replies(store, VAULT, knows, "aliyun", [Reply(phone(10), "START", None, "x", NOW)], NOW)
    assert reread_replies(store, VAULT, settings) == 0
    assert held_back(store) == {"u0"}


@pytest.mark.parametrize(
    ("after", "suppressed"), [(0.0, True), (0.8, True), (0.9, False), (1.0, False)]
)
def test_a_start_of_the_same_second_lifts_no_refusal_that_is_read_late(
    store: ControlStore, settings: Settings, after: float, suppressed: bool
) -> None:
    """A refusal and a START of one second, of which the START wins once words have changed."""
    sent = NOW + timedelta(seconds=0.1)
    later = sent + timedelta(seconds=after)
    both = [
        Reply(phone(1), "BAJA", None, "s", sent),
        Reply(phone(1), "START", None, "t", later),
    ]
    take_replies(store, VAULT, settings, "aliyun", both, NOW + timedelta(minutes=1))
    knows = settings.model_copy(update={"opt_out_words": ["BAJA"]})
    assert reread_replies(store, VAULT, knows) == suppressed
    assert ("u1" in held_back(store)) == suppressed
