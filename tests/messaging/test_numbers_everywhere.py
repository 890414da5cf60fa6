"""Numbers on their way: planned, sent by each gateway, refused by a reply, imported."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from support.ledger_rows import NOW, SIGNATURE, messages, occurrence, open_store, rows

from usergrowth_dagster.addresses.numbers import readings
from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.gateways.protocol import Reply
from usergrowth_dagster.messaging.people.phones import PhoneVault
from usergrowth_dagster.messaging.policy import suppression as sup
from usergrowth_dagster.messaging.policy.suppression_files import import_csv
from usergrowth_dagster.messaging.receiving.replies import take_replies
from usergrowth_dagster.settings import Settings, load_settings

SECRET = b"0123456789abcdef"
NOWHERE = PhoneVault.from_secret(SECRET)
PLANNED = MessageState.PLANNED
DO_NOT_CALL = "phone\n2125550131\n(212) 555-0132\n07700 900133\n"


def put(store: ControlStore, vault: PhoneVault, *numbers: str, **more: Any) -> None:
    place = occurrence(store, name=numbers[0])
    for number in numbers:
        values: dict[str, Any] = {"phone_number": vault.seal(number), "user_id": number}
        messages(store, place, [PLANNED], **values, **more, phone_hash=vault.digest(number))


def held_back(store: ControlStore) -> set[str]:
    query = select(schema.message.c.user_id).where(sup.is_suppressed("sms", SIGNATURE))
    with store.read() as connection:
        return set(connection.scalars(query))


def reply(store: ControlStore, settings: Settings, phone: str, text: str = "STOP") -> Any:
    vault = PhoneVault.from_secret(SECRET, settings.default_country)
    sent = NOW + timedelta(minutes=1) if text == "START" else NOW
    return take_replies(store, vault, settings, "kannel", [Reply(phone, text)], sent)


def test_a_stop_is_of_one_country(database_url: str, settings: Settings) -> None:
    """Guards against a STOP from Utah that suppresses a mobile number in China."""
    store = open_store(database_url)
    put(store, NOWHERE, "+13855550111", "+8613855550111", "+13855550112", "+8613855550112")
    reply(store, settings, "+13855550111")
    assert held_back(store) == {"+13855550111"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("+525555550121", "+52 1 55 5555 0121"),
        ("+5491155550121", "541155550121"),
        ("+5511985550121", "551185550121"),
        ("+447700900108", "44 (0)7700 900108"),
    ],
)
def test_a_stop_holds_in_every_spelling(
    database_url: str, settings: Settings, one: str, other: str
) -> None:
    """Guards against a person who refuses in the spelling of their provider, and is texted in the
    spelling of the upload."""
    store = open_store(database_url)
    put(store, NOWHERE, one)
    assert reply(store, settings, other).opt_outs == 1
    assert held_back(store) == {one}
    put(store, NOWHERE, other if other.startswith("+") else f"+{other}")
    assert len(held_back(store)) == 2


def test_a_reply_without_a_country_refuses_for_all_whom_it_may_be_from(
    database_url: str, settings: Settings
) -> None:
    """Guards against a refusal that is lost since a provider leaves the country out, and against a
    START that lifts somebody else's."""
    store = open_store(database_url)
    put(store, NOWHERE, "+8613855550111", "+447700900108", "+12125550106")
    reply(store, settings, "13855550111")
    reply(store, settings, "07700 900108")
    assert held_back(store) == {"+8613855550111", "+447700900108"}
    put(store, NOWHERE, "+13855550111")
    reply(store, settings, "13855550111")
    assert held_back(store) == {"+8613855550111", "+447700900108", "+13855550111"}
    assert reply(store, settings, "13855550111", "START").unusable == 1
    assert reply(store, settings, "447700900108", "START").opt_ins == 1
    assert held_back(store) == {"+8613855550111", "+13855550111"}


@pytest.mark.parametrize(
    ("text", "country", "number", "known"),
    [
        ("13855550111", "CN", "+8613855550111", None),
        ("13855550111", "CN", "+8613855550111", "+13855550111"),
        ("07700 900108", "GB", "+447700900108", None),
        ("(212) 555-0105", "US", "+12125550105", None),
    ],
)
@pytest.mark.parametrize("planned", ["before", "after"])
def test_a_refusal_waits_for_the_default_country(
    database_url: str,
    settings: Settings,
    text: str,
    country: str,
    number: str,
    known: str | None,
    planned: str,
) -> None:
    """Guards against a STOP that comes before default_country is set, and goes to the number of
    another country or to none, so that its sender is texted as soon as the setting is there."""
    store = open_store(database_url)
    if known:
        put(store, NOWHERE, known)  # texted before
    if planned == "before":
        put(store, NOWHERE, number, attempts=0)
    reply(store, settings, text)
    vault = PhoneVault.from_secret(SECRET, country)
    if planned == "after":
        put(store, vault, number, attempts=0)
    assert number in held_back(store)
    kept = {
        row["phone_number"] and vault.open(row["phone_number"])
        for row in rows(store, schema.suppression)
    }
    assert kept <= {None, *readings(text)}
    later = NOW + timedelta(minutes=2)
    take_replies(store, vault, settings, "kannel", [Reply(number, "START")], later)
    assert number not in held_back(store)


def test_a_repeat_suppresses_nobody_again(database_url: str, settings: Settings) -> None:
    """Guards against a provider's repeat of a STOP of no country that undoes a later START."""
    store = open_store(database_url)
    put(store, NOWHERE, "+8613855550111", "+447700900108", attempts=0)
    stops = [Reply("13855550111", "STOP", None, "1"), Reply("07700900108", "STOP", None, "2", NOW)]
    take_replies(store, NOWHERE, settings, "kannel", stops, NOW)
    assert held_back(store) == {"+8613855550111", "+447700900108"}
    later = NOW + timedelta(minutes=1)
    starts = [Reply(number, "START") for number in ("+8613855550111", "+447700900108")]
    take_replies(store, NOWHERE, settings, "kannel", starts, later)
    take_replies(store, NOWHERE, settings, "kannel", stops, later + timedelta(minutes=1))
    assert held_back(store) == set()


def test_a_refusal_holds_for_the_default_country_too(database_url: str, settings: Settings) -> None:
    """Guards against a STOP that counts only for a namesake abroad who was texted, though the
    default country says whose it is."""
    store = open_store(database_url)
    put(store, NOWHERE, "+13855550111")
    put(store, NOWHERE, "+8613855550111", attempts=0)
    china = PhoneVault.from_secret(SECRET, "CN")
    done = take_replies(store, china, settings, "kannel", [Reply("13855550111", "STOP")], NOW)
    assert (done.new, done.opt_outs) == (1, 1)
    assert held_back(store) == {"+13855550111", "+8613855550111"}
    assert len(rows(store, schema.suppression)) == 2


def test_a_do_not_call_list_by_the_default_country(database_url: str, tmp_path: Path) -> None:
    """Guards against national numbers that suppress nobody, and lines that are left out unseen."""
    store = open_store(database_url)
    path = tmp_path / "do-not-call.csv"
    path.write_text(DO_NOT_CALL, "utf-8")
    america = PhoneVault.from_secret(SECRET, "US")
    with pytest.raises(UserError, match=r"line 4, column phone: not a phone number .* one of US"):
        import_csv(store, america, path, now=NOW)
    assert rows(store, schema.suppression) == []
    done = import_csv(store, america, path, skip_bad=True, now=NOW)
    assert (done.added, done.skipped, done.unread) == (2, 1, 1)
    assert "line 4, column phone" in done.problems[0] and "+44" in done.problems[0]
    numbers = {america.open(row["phone_number"]) for row in rows(store, schema.suppression)}
    assert numbers == {"+12125550131", "+12125550132"}


def test_every_line_without_a_country_is_named(database_url: str, tmp_path: Path) -> None:
    """Guards against a list of which only the first bad line is known, and a number in an error."""
    path = tmp_path / "do-not-call.csv"
    path.write_text(DO_NOT_CALL, "utf-8")
    with pytest.raises(UserError, match="set default_country") as caught:
        import_csv(open_store(database_url), NOWHERE, path, now=NOW)
    for line in (2, 3, 4):
        assert f"line {line}, column phone: the number does not say its country" in str(
            caught.value
        )
    assert "555" not in str(caught.value) and "Nothing was imported" in str(caught.value)


def test_no_country_is_no_code_of_one(tmp_path: Path) -> None:
    """Guards against a default country that is none, such as 86 or China."""
    for value in ("86", "China", "cn", "UK"):
        with pytest.raises(UserError, match="ISO code of a country, in capitals"):
            load_settings(tmp_path, default_country=value)
    assert load_settings(tmp_path, default_country="GB").default_country == "GB"
