"""Homes of earlier versions, whose hashes were made of the digits as uploaded."""

import hmac
import os
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from support.ledger_rows import NOW, SIGNATURE, VAULT, messages, occurrence, open_store, rows

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.messaging.gateways.protocol import Found, Receipt, Reply
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.operations.replies import mark_refusal, reread_replies
from usergrowth_dagster.messaging.people import old_hashes
from usergrowth_dagster.messaging.people.phones import E164, PhoneVault
from usergrowth_dagster.messaging.people.rotation import hold_key
from usergrowth_dagster.messaging.policy import suppression as sup
from usergrowth_dagster.messaging.policy.suppression import suppress_refused
from usergrowth_dagster.messaging.receiving.receipts import take_receipts
from usergrowth_dagster.messaging.receiving.replies import take_replies
from usergrowth_dagster.settings import Settings, load_settings

SECRET = b"0123456789abcdef"
CHINA = PhoneVault.from_secret(SECRET, "CN")
PLANNED = MessageState.PLANNED
_M, _S = schema.message, schema.suppression


def old_digest(text: str) -> bytes:
    """The hash that versions before E.164 gave a number, written anew for this test."""
    digits = re.sub(r"[\s-]", "", text).removeprefix("+").removeprefix("00")
    if len(digits) == 13 and digits.startswith("861"):
        digits = digits[2:]
    return hmac.digest(VAULT._hash_key, digits.encode(), "sha256")[:16]


def old_message(
    store: ControlStore,
    place: tuple[int, int],
    text: str,
    state: MessageState = PLANNED,
    **values: Any,
) -> int:
    """A row that an earlier version planned."""
    clean = re.sub(r"[\s-]", "", text)
    columns = {
        "phone_number": VAULT.seal(clean),
        "phone_hash": old_digest(text),
        "user_id": text,
        "user_hash": VAULT.user_digest(text),
    }
    return messages(store, place, [state], **columns | values)[0]


def old_refusal(store: ControlStore, text: str, **values: Any) -> None:
    """A refusal that an earlier version recorded; a forgotten person's has no number."""
    kept = values.get("reason") != sup.FORGOTTEN
    row = {
        "channel": "sms",
        "scope": sup.ALL,
        "phone_hash": old_digest(text),
        "phone_number": VAULT.seal(re.sub(r"[\s-]", "", text)) if kept else None,
        "reason": sup.REPLY,
        "source": "reply by aliyun",
        "created_time": NOW - timedelta(days=30),
    }
    with store.write() as connection:
        connection.execute(_S.insert().values(row | values))


def old_reply(store: ControlStore, text: str, content: str, **values: Any) -> int:
    """A reply that an earlier version stored, of an hour ago; it kept no number."""
    row = {
        "digest": os.urandom(16),
        "gateway": "twilio",
        "phone_hash": old_digest(text),
        "content": VAULT.seal(content),
        "action": "none",
        "received_time": NOW - timedelta(hours=1),
    }
    with store.write() as connection:
        made = connection.scalar(
            schema.reply.insert().values(row | values).returning(schema.reply.c.id)
        )
        return int(made or 0)


def held_back(store: ControlStore) -> set[str]:
    """Users whom the contact policy suppresses."""
    query = select(_M.c.user_id).where(sup.is_suppressed("sms", SIGNATURE))
    with store.read() as connection:
        return set(connection.scalars(query))


def plan(store: ControlStore, vault: PhoneVault, *numbers: str) -> None:
    """Plan people as a plan of today does, in an occurrence of their own."""
    place = occurrence(store, name=f"plan of {numbers[0]}")
    with store.write() as connection:
        connection.execute(schema.occurrence.update().values(state="planning"))
    people = [
        {"user_id": f"new {n}", "item_id": "i", "phone": n, "zone": None, "not_before": None}
        | {"template_params": "{}", "segments": 1, "state": PLANNED, "reason": None}
        | {"variant": None}
        for n in numbers
    ]
    assert Ledger(store, vault).insert(place[0], people)


PAIRS = [  # as uploaded before, as uploaded now, the default country
    ("+8613855550111", "+8613855550111", None),
    ("13855550111", "+8613855550111", "CN"),
    ("138 5555-0111", "+8613855550111", "CN"),
    ("+5215555550121", "+525555550121", None),
    ("5215555550121", "+525555550121", "MX"),
    ("+551185550121", "+5511985550121", None),
    ("+541155550121", "+5491155550121", None),
    ("+390612345614", "+390612345614", None),
    ("07700900108", "+447700900108", "GB"),
    ("2125550104", "+12125550104", "US"),
    ("0014155550104", "+14155550104", None),
]


@pytest.mark.parametrize(("before", "now", "country"), PAIRS, ids=range(len(PAIRS)))
@pytest.mark.parametrize("reason", [sup.REPLY, sup.FORGOTTEN])
@pytest.mark.parametrize("country_known", [True, False])
def test_an_old_refusal_holds_for_every_spelling(
    database_url: str,
    before: str,
    now: str,
    country: str | None,
    reason: str,
    country_known: bool,
) -> None:
    """Guards against texting somebody after an upgrade who refused before it, whether the number
    of the refusal is kept, was erased, or cannot be read for want of a country."""
    store = open_store(database_url)
    old_refusal(store, before, reason=reason)
    vault = PhoneVault.from_secret(SECRET, country if country_known else None)
    plan(store, vault, now)
    assert held_back(store) == {f"new {now}"}
    assert not any(row["phone_number"] for row in rows(store, _S) if row["reason"] == sup.FORGOTTEN)


def test_a_refusal_after_the_upgrade_stops_what_was_planned_before(
    database_url: str, settings: Settings
) -> None:
    """Guards against a STOP that misses a text that an earlier version has planned, and against
    one that still stops the number of another country with the same digits."""
    store = open_store(database_url)
    place = occurrence(store)
    for text in ("+13855550111", "+8613855550111", "13855550112", "+13855550113"):
        old_message(store, place, text)
    Ledger(store, CHINA)
    take_replies(store, CHINA, settings, "twilio", [Reply("+13855550111", "STOP")], NOW)
    assert held_back(store) == {"+13855550111"}
    take_replies(store, CHINA, settings, "aliyun", [Reply("+8613855550112", "TD")], NOW)
    assert held_back(store) == {"+13855550111", "13855550112"}


def test_old_rows_are_renewed_once(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against rows of another form after the upgrade, and against doing it at each start."""
    monkeypatch.setattr(old_hashes, "_CHUNK", 2)
    store = open_store(database_url)
    place = occurrence(store)
    texts = [
        "+8613855550111",
        "0044 7700 900108",
        "+5215555550121",
        "+9990000000001",
        "+390612345614",
    ]
    for text in texts:
        old_message(store, place, text, MessageState.ACCEPTED)
    for text in (*texts, "+525555550121"):  # of which Mexico's two are one
        old_refusal(store, text)
    Ledger(store, VAULT)
    numbers = {VAULT.open(row["phone_number"]) for row in rows(store, _M)}
    assert numbers == {
        *("+8613855550111", "+447700900108", "+525555550121", "+9990000000001", "+390612345614")
    }
    for row in rows(store, _M) + rows(store, _S):
        assert row["phone_hash"] == VAULT.digest(VAULT.open(row["phone_number"]))
        assert row["phone_hash"][:1] == E164 and len(row["phone_hash"]) == 17
    in_force = [row for row in rows(store, _S) if row["lifted_time"] is None]
    assert len(in_force) == 5 and len(rows(store, _S)) == 6
    before = rows(store, _M)
    assert old_hashes.renew(store, VAULT) == 0
    assert rows(store, _M) == before


def test_national_numbers_wait_for_their_country(database_url: str) -> None:
    """Guards against a national number that is read by a guess, or never read any more."""
    store = open_store(database_url)
    message = old_message(store, occurrence(store), "13855550111")
    Ledger(store, VAULT)
    assert rows(store, _M)[0]["phone_hash"] == old_digest("13855550111")
    Ledger(store, CHINA)
    assert rows(store, _M)[0]["phone_hash"] == CHINA.digest("+8613855550111")
    assert rows(store, _M)[0]["id"] == message


def test_a_lift_after_the_upgrade_holds_and_lifts_nobody_else(
    database_url: str, settings: Settings
) -> None:
    """Guards against a START that the old refusal undoes at the next plan, and against one that
    ends the refusal of another country's number with the same digits."""
    store = open_store(database_url)
    old_refusal(store, "13855550111")  # nobody knows of which country
    plan(store, VAULT, "+13855550111", "+8613855550111")
    assert held_back(store) == {"new +13855550111", "new +8613855550111"}
    take_replies(
        store,
        VAULT,
        settings,
        "twilio",
        [Reply("+13855550111", "START")],
        NOW + timedelta(minutes=1),
    )
    assert held_back(store) == {"new +8613855550111"}
    plan(store, VAULT, "+1 385 555 0111", "+86 138 5555 0111")
    assert held_back(store) == {"new +8613855550111", "new +86 138 5555 0111"}
    assert sup.lift(store, VAULT, phone="+8613855550111", now=NOW) == 1
    assert held_back(store) == set()


def test_a_report_finds_a_message_of_before(database_url: str) -> None:
    """Guards against a report that is lost for an upgrade between it and its message."""
    store = open_store(database_url)
    place = occurrence(store)
    first = old_message(store, place, "+8613855550111", MessageState.ACCEPTED)
    second = old_message(store, place, "+8613855550112", MessageState.SUBMITTING, user_id="b")
    Ledger(store, CHINA)
    reports = [
        Receipt(Found.DELIVERED, phone="13855550111", out_id=str(first)),
        Receipt(Found.DELIVERED, phone="+8613855550112", out_id=str(second)),
    ]
    take_receipts(store, CHINA, "aliyun", reports, NOW)
    matched = {row["message_id"] for row in rows(store, schema.receipt)}
    assert matched == {first, second}


def test_a_new_home_never_asks_for_old_hashes(database_url: str) -> None:
    """Guards against homes without a past that pay for one."""
    store = open_store(database_url)
    Ledger(store, VAULT)
    plan(store, VAULT, "+8613855550111")
    with store.read() as connection:
        assert not old_hashes.has_old_refusals(connection)
        form = connection.scalar(
            select(schema.meta.c.value).where(schema.meta.c.name == "number_form")
        )
    assert form == "E.164"


@pytest.mark.parametrize("how", ["reply", "hand", "provider", "earlier"])
def test_a_forgotten_person_stays_refused_after_stop_and_start(
    database_url: str, settings: Settings, how: str
) -> None:
    """Guards against a later refusal that hides the one of a forgotten person, so that START,
    which lifts the later one, ends both."""
    store, number = open_store(database_url), "+447700900108"
    old_refusal(store, number, reason=sup.FORGOTTEN)
    Ledger(store, VAULT)
    if how == "reply":
        take_replies(store, VAULT, settings, "twilio", [Reply(number, "STOP")], NOW)
    elif how == "hand":
        sup.suppress(store, VAULT, phone=number, reason=sup.BY_HAND, source="", now=NOW)
    elif how == "provider":
        with store.write() as connection:
            suppress_refused(connection, VAULT, "twilio", [number], NOW)
    else:  # recorded without a look at the old hash
        rest = {"user_id": None, "channel": "sms", "scope": sup.ALL, "source": "", "now": NOW}
        with store.write() as connection:
            sup.add(connection, sup.entries(VAULT, phone=number, reason=sup.REPLY, **rest))  # type: ignore[arg-type]
    assert how == "earlier" or not any(row["phone_number"] for row in rows(store, _S))
    later = NOW + timedelta(minutes=1)
    take_replies(store, VAULT, settings, "twilio", [Reply(number, "START")], later)
    plan(store, VAULT, number)
    assert held_back(store) == {f"new {number}"}
    assert sup.lift(store, VAULT, phone=number, forgotten=True, now=later) == 1
    plan(store, VAULT, f"{number[:3]} {number[3:]}")
    assert held_back(store) == set()


@pytest.mark.parametrize("how", ["words", "mark"])
@pytest.mark.parametrize("kept", [None, "13855550111", "+8613855550111"])
def test_a_reply_of_before_stops_what_is_planned(
    database_url: str, settings: Settings, how: str, kept: str | None
) -> None:
    """Guards against a reply of an earlier version that is understood as a refusal after the
    upgrade, and stops no message that is planned already."""
    store = open_store(database_url)
    old_message(store, occurrence(store), "13855550111")
    number = VAULT.seal(kept) if kept else None
    reply = old_reply(store, "13855550111", "取消订阅", phone_number=number)
    Ledger(store, CHINA)
    plan(store, CHINA, "+86 138 5555 0111", "+447700900108")
    assert held_back(store) == set()
    if how == "mark":
        mark_refusal(store, CHINA, settings, str(reply), "ann@host")
    else:
        assert reread_replies(store, CHINA, settings) == 1
    assert held_back(store) == {"13855550111", "new +86 138 5555 0111"}
    plan(store, CHINA, "+86-13855550111")
    assert "new +86-13855550111" in held_back(store)


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_plan_beside_a_late_refusal_is_waited_for(database_url: str, settings: Settings) -> None:
    """Guards against a plan in the very moment in which an old reply turns out to refuse: neither
    would see the other."""
    store = open_store(database_url)
    reply = old_reply(store, "13855550111", "bitte nicht mehr")
    Ledger(store, CHINA)
    place = occurrence(store)
    sealed, digest = CHINA.seal("+8613855550111"), CHINA.digest("+8613855550111")
    planned = {"phone_number": sealed, "phone_hash": digest, "user_id": "late"}
    with ThreadPoolExecutor(1) as pool:
        with store.write() as connection:
            hold_key(connection, CHINA)
            old_hashes.carry_over(connection, CHINA, ["+8613855550111"])
            marking = pool.submit(mark_refusal, store, CHINA, settings, str(reply), "ann@host")
            with pytest.raises(TimeoutError):
                marking.result(1)
            made = {"occurrence_id": place[0], "channel": "sms", "template_params": "{}"}
            made |= {"segments": 1, "state": PLANNED, "attempts": 0, "updated_time": NOW}
            connection.execute(_M.insert().values(made | planned))
        marking.result(30)
    assert held_back(store) == {"late"}


START_ID: dict[str, Any] = {"sequence_id": "7", "send_time": NOW - timedelta(days=3)}


@pytest.mark.parametrize("stop", ["+8613855550111", "13855550111"])
@pytest.mark.parametrize("scope", ["everywhere", "signature"])
def test_a_late_start_undoes_no_stop_of_before(
    database_url: str, tmp_path: Path, stop: str, scope: str
) -> None:
    """Guards against a START that comes late or again after the upgrade, and undoes a STOP that
    was sent after it and came before the upgrade."""
    settings = load_settings(tmp_path, opt_out_scope=scope)
    store = open_store(database_url)
    sent = NOW - timedelta(days=2)
    old_message(store, occurrence(store), "13855550111")
    old_reply(store, stop, "STOP", action="opt_out", send_time=sent, signature=SIGNATURE)
    old_refusal(store, stop, scope="*" if scope == "everywhere" else SIGNATURE, created_time=sent)
    Ledger(store, CHINA)
    late = Reply("+8613855550111", "START", SIGNATURE, **START_ID)
    take_replies(store, CHINA, settings, "twilio", [late], NOW)
    assert held_back(store) == {"13855550111"}
    new = Reply("+8613855550111", "START", SIGNATURE, "8", NOW)
    assert take_replies(store, CHINA, settings, "twilio", [new], NOW).opt_ins == 1
    assert held_back(store) == set()


@pytest.mark.parametrize("gave", ["sequence_id", "send_time"])
def test_a_reply_of_before_is_known_again(database_url: str, settings: Settings, gave: str) -> None:
    """Guards against a provider's repeat, after the upgrade, of a START that was obeyed before it:
    it would end a refusal that somebody recorded by hand since."""
    store = open_store(database_url)
    again = Reply("+8613855550111", "START", **{gave: START_ID[gave]})
    mark = again.sequence_id or (START_ID["send_time"].isoformat(), "START")
    identity = repr(("twilio", old_digest("13855550111"), "opt_in", mark))
    old_reply(store, "13855550111", "START", action="opt_in", digest=VAULT.user_digest(identity))
    Ledger(store, CHINA)
    sup.suppress(store, CHINA, phone="+8613855550111", reason=sup.BY_HAND, source="", now=NOW)
    plan(store, CHINA, "+8613855550111")
    done = take_replies(store, CHINA, settings, "twilio", [again, again], NOW)
    assert (done.received, done.new) == (2, 0)
    assert held_back(store) == {"new +8613855550111"}


def test_a_start_of_before_outdates_no_stop(database_url: str, settings: Settings) -> None:
    """Guards against a STOP that is lost for the later START of another country's number that had
    the same hash in an earlier version."""
    store = open_store(database_url)
    old_reply(store, "13855550111", "START", action="opt_in", send_time=NOW)
    Ledger(store, VAULT)
    plan(store, VAULT, "+13855550111")
    stop = Reply("+13855550111", "STOP", None, "9", NOW - timedelta(minutes=9))
    assert take_replies(store, VAULT, settings, "twilio", [stop], NOW).opt_outs == 1
    assert held_back(store) == {"new +13855550111"}
