"""Replies and what they do to the suppression list, on SQLite and PostgreSQL."""

import itertools
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from support.ledger_rows import NOW, SIGNATURE, VAULT, messages, occurrence, open_store, rows
from support.phones import phone
from support.sending import crowd, outbox, plan, ready

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
from usergrowth_dagster.messaging.gateways.file import FileGateway
from usergrowth_dagster.messaging.gateways.protocol import OutBatch, Reply, Result
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.policy.suppression import FORGOTTEN, is_suppressed, lift, suppress
from usergrowth_dagster.messaging.receiving.replies import Answered, take_replies
from usergrowth_dagster.settings import Settings, load_settings

LATER = [NOW + timedelta(minutes=n) for n in range(10)]


def settings_of(tmp_path: Path, **values: object) -> Settings:
    return load_settings(tmp_path / "home", **values)


def held_back(store: ControlStore, signature: str = SIGNATURE) -> set[str]:
    """Users whose messages are suppressed for a signature."""
    with store.read() as connection:
        query = select(schema.message.c.user_id).where(is_suppressed("sms", signature))
        return set(connection.scalars(query))


def test_refusal_everywhere(database_url: str, settings: Settings) -> None:
    """Guards against a refusal that holds late, for one spelling only, or twice; or shows."""
    store = open_store(database_url)
    messages(store, occurrence(store), [MessageState.PLANNED] * 3)
    stop = Reply(phone(1), "td", SIGNATURE, "s1", LATER[0])
    unknown = Reply("9990000000077", "T", None, "s2", LATER[0])  # nobody's number so far
    talk = Reply(phone(2), "谢谢 +9990000000002", None, "s3", LATER[0])
    done = take_replies(store, VAULT, settings, "aliyun", [stop, unknown, talk, stop], NOW)
    assert done == Answered(received=4, new=3, opt_outs=2)
    assert take_replies(store, VAULT, settings, "aliyun", [stop], NOW) == Answered(1)
    assert held_back(store) == held_back(store, "another") == {"u1"}
    messages(store, occurrence(store, name="b"), [MessageState.PLANNED] * 78)
    assert held_back(store) == {"u1", "u77"}
    stored = rows(store, schema.reply)
    assert [VAULT.open(row["content"]) for row in stored if row["action"] == "none"] == [
        talk.content
    ]
    assert "9990000000" not in repr(stored) + repr(rows(store, schema.suppression))
    again = Reply("00" + phone(1)[1:], "START!", SIGNATURE, "s4", LATER[1])
    assert take_replies(store, VAULT, settings, "aliyun", [again], NOW).opt_ins == 1
    assert held_back(store) == {"u77"}


def test_one_signature(database_url: str, tmp_path: Path) -> None:
    """Guards against a refusal of one signature that silences or lifts another."""
    store = open_store(database_url)
    settings = settings_of(tmp_path, opt_out_scope="signature")
    messages(store, occurrence(store), [MessageState.ACCEPTED] * 3, sent_time=NOW)

    def reply(n: int, content: str, signature: str | None, minute: int) -> None:
        one = Reply(phone(n), content, signature, f"{n}{content}{signature}{minute}", LATER[minute])
        take_replies(store, VAULT, settings, "aliyun", [one], NOW)

    reply(0, "TD", "【别的店】", 0)
    assert (held_back(store), held_back(store, "别的店")) == (set(), {"u0"})
    reply(0, "START", SIGNATURE, 1)
    assert held_back(store, "别的店") == {"u0"}
    reply(0, "START", "别的店", 2)
    assert held_back(store, "别的店") == set()
    # the provider does not say which: that of the last message
    reply(1, "TD", None, 0)
    assert (held_back(store), held_back(store, "别的店")) == ({"u1"}, set())
    # never texted: everywhere
    reply(50, "TD", None, 0)
    messages(store, occurrence(store, name="b"), [MessageState.PLANNED] * 51)
    assert held_back(store, "别的店") == {"u50"}


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_out_of_order(
    sqlite_store: ControlStore, settings: Settings, order: tuple[int, ...]
) -> None:
    """Guards against a late START that undoes a later STOP: the last one sent holds."""
    store = sqlite_store
    messages(store, occurrence(store), [MessageState.PLANNED])
    words = ["TD", "START", "R", "hello"]
    sent = [Reply(phone(0), word, None, word, LATER[n]) for n, word in enumerate(words)]
    for place in order:
        take_replies(store, VAULT, settings, "aliyun", [sent[place]], NOW + timedelta(hours=1))
    assert held_back(store) == {"u0"}
    last = Reply(phone(0), "START", None, "x", LATER[9])
    take_replies(store, VAULT, settings, "aliyun", [last, *sent], NOW + timedelta(hours=1))
    assert held_back(store) == set()


def test_what_a_reply_cannot_do(database_url: str, settings: Settings) -> None:
    """Guards against START that brings a forgotten person back, and senders that are no numbers."""
    store = open_store(database_url)
    messages(store, occurrence(store), [MessageState.PLANNED] * 2)
    suppress(store, VAULT, phone=phone(0), reason=FORGOTTEN, source="s", now=NOW)
    suppress(store, VAULT, user_id="u1", reason="by_hand", source="s", now=NOW)
    sent = [Reply(phone(n), "START", None, f"{n}") for n in range(2)]
    bad = [Reply(text, "TD", None, "1") for text in ("", "INFO", "+", "1" * 40, "\0")]
    done = take_replies(store, VAULT, settings, "aliyun", sent + bad, NOW)
    assert (done.unusable, done.opt_ins, done.opt_outs) == (5, 2, 0)
    assert held_back(store) == {"u0", "u1"}
    # refusing anew, a forgotten person's number is still not kept
    take_replies(store, VAULT, settings, "a", [Reply(phone(0), "TD \ud800\0", None, "9")], NOW)
    take_replies(store, VAULT, settings, "a", [Reply(phone(0), "TD", None, "8")], NOW)
    assert [row["phone_number"] for row in rows(store, schema.suppression)] == [None, None]
    assert lift(store, VAULT, phone=phone(0), now=NOW) == 0
    assert lift(store, VAULT, phone=phone(0), forgotten=True, now=NOW) == 1
    assert held_back(store) == {"u1"}


@pytest.mark.parametrize("words", [("TD", "START"), ("START", "TD")])
@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("together", [True, False])
def test_same_second(
    sqlite_store: ControlStore,
    settings: Settings,
    words: tuple[str, str],
    timed: bool,
    together: bool,
) -> None:
    """Guards against a START that wins over a STOP of the same second, in whatever order."""
    messages(sqlite_store, occurrence(sqlite_store), [MessageState.PLANNED])
    moments = [NOW.replace(microsecond=part) for part in (100_000, 900_000)]
    sent = [
        Reply(phone(0), word, None, word, moment if timed else None)
        for word, moment in zip(words, moments, strict=True)
    ]
    for call in [sent] if together else [[one] for one in sent]:
        take_replies(sqlite_store, VAULT, settings, "a", call, moments[1])
    assert held_back(sqlite_store) == {"u0"}
    later = Reply(phone(0), "START", None, "x", None)
    take_replies(sqlite_store, VAULT, settings, "a", [later], NOW + timedelta(seconds=2))
    assert held_back(sqlite_store) == set()


def test_time_ahead_means_now(sqlite_store: ControlStore, settings: Settings) -> None:
    """Guards against a START with a wrong time ahead that undoes every later refusal."""
    messages(sqlite_store, occurrence(sqlite_store), [MessageState.PLANNED])
    ahead = Reply(phone(0), "START", None, None, NOW + timedelta(days=300))
    for _ in range(2):
        take_replies(sqlite_store, VAULT, settings, "a", [ahead], NOW)
    (kept,) = rows(sqlite_store, schema.reply)
    assert kept["send_time"] is None
    stop = Reply(phone(0), "TD", None, "s", NOW + timedelta(minutes=1))
    take_replies(sqlite_store, VAULT, settings, "a", [stop], NOW + timedelta(minutes=1))
    take_replies(sqlite_store, VAULT, settings, "a", [ahead], NOW + timedelta(minutes=2))
    assert held_back(sqlite_store) == {"u0"}


def test_word_that_a_text_promised(database_url: str, settings: Settings) -> None:
    """Guards against a refusal by the very word that the text named, which no setting knows."""
    store = open_store(database_url)
    place = occurrence(store)
    messages(store, place, [MessageState.ACCEPTED] * 3)
    variants = {"b": {"content": "退订请回复9", "template_code": "x", "subject": None}}
    with store.write() as connection:
        connection.execute(
            schema.occurrence.update().values(content="回7退订；回START恢复", variants=variants)
        )
        second = schema.message.c.user_id == "u1"
        connection.execute(schema.message.update().where(second).values(variant="b"))
    sent = [Reply(phone(n), word, None, f"{n}{word}") for n, word in enumerate(("７！", "7", "9"))]
    sent += [Reply(phone(50), "7", None, "x"), Reply(phone(2), "START", None, "y")]
    done = take_replies(store, VAULT, settings, "aliyun", sent, NOW)
    assert (done.opt_outs, done.opt_ins) == (1, 1)
    assert held_back(store) == {"u0"}
    take_replies(store, VAULT, settings, "aliyun", [Reply(phone(1), "9", None, "z")], NOW)
    assert held_back(store) == {"u0", "u1"}


def test_without_id_and_time(database_url: str, settings: Settings) -> None:
    """Guards against a second refusal taken for a repeat of the first, after a START between."""
    store = open_store(database_url)
    messages(store, occurrence(store), [MessageState.PLANNED])
    for word in ("TD", "START", "TD"):
        take_replies(store, VAULT, settings, "kannel", [Reply(phone(0), word)], NOW)
    assert held_back(store) == {"u0"}


@pytest.fixture
def sqlite_store(tmp_path: Path) -> ControlStore:
    """An empty store."""
    return open_store(f"sqlite:///{tmp_path / 'c.db'}")


class Talkative(FileGateway):
    """A dry run in which one person refuses as soon as the first batch is out."""

    max_batch = 5

    def __init__(self, home: Path, refuse: Callable[[], None]) -> None:
        super().__init__(home)
        self.refuse = refuse

    def submit(self, batch: OutBatch) -> Sequence[Result]:
        done = super().submit(batch)
        self.refuse()
        return done


def test_refusal_in_the_middle_of_a_campaign(database_url: str, tmp_path: Path) -> None:
    """Guards against a text to somebody who refused while the campaign was going out."""
    store, settings = ready(tmp_path / "home", database_url)
    plan(store, settings, crowd(20))
    vault = open_vault(settings.home)

    def refuse() -> None:  # one whose text is out, and one whose is not
        for n in (0, 12):
            reply = Reply(phone(n), "TD", "示例商店", f"{n}")
            take_replies(store, vault, settings, "file", [reply], utc_now())

    dispatch(store, settings, Talkative(settings.home, refuse))
    got = {str(line["user_id"]) for line in outbox(settings)}
    assert got == {f"u{n}" for n in range(20)} - {"u12"}
    skipped = [r for r in rows(store, schema.message) if r["state"] is MessageState.SKIPPED]
    assert [(r["user_id"], r["reason"]) for r in skipped] == [("u12", "suppressed")]
