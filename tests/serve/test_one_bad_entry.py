"""One entry of a post that cannot be read: the others are stored, and it is kept for a person."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlencode, urlsplit

import pytest
from app_desk import ROOT, client, home, store
from fastapi.testclient import TestClient
from support.ledger_rows import messages, occurrence, rows, states
from support.phones import phone

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState as S
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.messaging.gateways.aliyun import signed_out_id
from usergrowth_dagster.messaging.gateways.signature_tokens import SignatureTokens
from usergrowth_dagster.messaging.gateways.webhook import SIGNATURE, TIMESTAMP, sign
from usergrowth_dagster.messaging.people.phones import PhoneVault
from usergrowth_dagster.serve.listening import addresses
from usergrowth_dagster.settings import Settings

__all__ = ["client", "home", "store"]
VAULT = PhoneVault.from_secret(b"0123456789abcdef")
Post = Callable[[str, list[dict[str, object]]], tuple[int, str]]

UP = {"send_time": "2026-11-28 10:00:00"}
ONE_BAD = [
    {"phone_number": "13855550151", "content": "TD", "sequence_id": "1", **UP},
    {"phone_number": "13855550152", "content": None, "sequence_id": "2", **UP},
    {"phone_number": "13855550153", "content": "退订", "sequence_id": "3", **UP},
]
BAD_ENTRIES: list[object] = [
    {"phone_number": "13855550152", "content": None},
    {"phone_number": None, "content": "TD"},
    {"phone_number": 13855550152, "content": "TD"},
    {"phone_number": "\ud800\0", "content": "TD"},
    {"phone_number": "INFO", "content": "TD"},
    {"phone_number": "13855550152", "content": ["TD"]},
    {"content": "TD"},
    {},
    None,
    "TD",
    7,
    [[[]]],
]


def aliyun_up(home: Settings) -> str:
    up = urlsplit(dict(addresses(home, 1))["Aliyun SmsUp"])
    return f"{up.path}?{up.query}"


def test_one_null_content(client: TestClient, store: ControlStore, home: Settings) -> None:
    """Guards against two refusals that are lost since a third reply has no content."""
    for _ in range(2):
        answer = client.post(aliyun_up(home), json=ONE_BAD)
        assert answer.status_code == 200 and answer.json()["code"] == 0
        assert answer.json()["msg"] == "2 replies taken, 1 could not be read and are kept"
    assert [row["action"] for row in rows(store, schema.reply)] == ["opt_out"] * 2
    assert len(rows(store, schema.suppression)) == 2
    (kept,) = rows(store, schema.unread)
    assert json.loads(VAULT.open(kept["content"])) == ONE_BAD[1]
    assert VAULT.open(kept["phone_number"]) == "+8613855550152"
    assert (kept["gateway"], kept["kind"], kept["action"]) == ("aliyun", "reply", "none")
    assert "13855550152" not in repr(kept) and "content" in kept["why"]


@pytest.mark.parametrize("moment", ["20261128100000", "yesterday", "", None, 7, [], "9" * 5000])
def test_unreadable_time_means_now(
    client: TestClient, store: ControlStore, home: Settings, moment: object
) -> None:
    """Guards against a refusal that is turned away for the form of its time."""
    reply = {"phone_number": "13855550154", "content": "TD", "sequence_id": "5"}
    began = datetime.now(UTC)
    answer = client.post(aliyun_up(home), json=[{**reply, "send_time": moment}])
    assert answer.json()["code"] == 0
    (kept,) = rows(store, schema.reply)
    assert (kept["action"], kept["send_time"]) == ("opt_out", None)
    assert began <= kept["received_time"] <= datetime.now(UTC)
    assert len(rows(store, schema.suppression)) == 1 and rows(store, schema.unread) == []


@pytest.fixture(params=["aliyun", "file", "webhook"])
def post(
    request: pytest.FixtureRequest, client: TestClient, home: Settings
) -> tuple[str, Callable[[list[object]], int]]:
    """A gateway that posts several replies at once, in SmsUp's form."""

    def send(entries: list[object]) -> int:
        if request.param != "webhook":
            path = aliyun_up(home) if request.param == "aliyun" else "/file/unguessable/up"
            return client.post(path, content=json.dumps(entries)).status_code
        names = {"phone_number": "from", "sequence_id": "id"}
        renamed = [
            {names.get(key, key): value for key, value in one.items()}
            if isinstance(one, dict)
            else one
            for one in entries
        ]
        body, now = json.dumps({"replies": renamed}).encode(), str(int(time.time()))
        headers = {TIMESTAMP: now, SIGNATURE: sign("0123456789abcdef", now, body)}
        return client.post("/webhook/mo", content=body, headers=headers).status_code

    return request.param, send


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_bad_reply_among_good_ones(
    post: tuple[str, Callable[[list[object]], int]], store: ControlStore, place: int
) -> None:
    """Guards against refusals that are lost beside any entry that cannot be read."""
    good: list[object] = [
        {"phone_number": f"1385555016{n}", "content": "TD", "sequence_id": f"{n}"} for n in range(2)
    ]
    gateway, send = post
    for bad in BAD_ENTRIES:
        assert send([*good[:place], bad, *good[place:]]) == 200, bad
    named = [row for row in rows(store, schema.suppression) if row["phone_number"]]
    assert len(named) == 2  # the others may be the numbers' namesakes in other countries
    assert [row["action"] for row in rows(store, schema.reply)] == ["opt_out"] * 2
    kept = rows(store, schema.unread)
    assert len(kept) == len(BAD_ENTRIES)
    assert {(row["gateway"], row["kind"]) for row in kept} == {(gateway, "reply")}
    assert "1385555" not in repr(kept)


def test_a_bad_report_among_good_ones(
    client: TestClient, store: ControlStore, home: Settings
) -> None:
    """Guards against reports that are lost beside one that cannot be read, or another system's."""
    place = occurrence(store, "aliyun")
    messages(store, place, [S.ACCEPTED] * 2, request_id=None)
    ours = {
        "out_id": signed_out_id(SignatureTokens(home.home, "aliyun"), str(place[1])),
        "success": True,
        "report_time": "20260301180005",
    }
    bad: list[object] = [
        {**ours, "phone_number": phone(0)[1:], "success": "yes"},
        {**ours, "phone_number": None},
    ]
    foreign: list[object] = [None, 7, {}, {**ours, "out_id": 5}, {**ours, "out_id": None}, [ours]]
    good = [{**ours, "phone_number": phone(n)[1:]} for n in range(2)]
    answer = client.post("/aliyun/report", json=[*bad, good[0], *foreign, good[1]])
    assert answer.json() == {
        "code": 0,
        "msg": "2 receipts taken, 2 could not be read and are kept, 6 of other systems passed over",
    }
    assert states(store) == [S.DELIVERED] * 2
    kept = rows(store, schema.unread)
    assert [(row["gateway"], row["kind"]) for row in kept] == [("aliyun", "receipt")] * 2


def test_single_entries(client: TestClient, store: ControlStore, home: Settings) -> None:
    """Guards against a provider of single entries that sends a bad one for ever, or loses it."""
    validator = pytest.importorskip("twilio.request_validator").RequestValidator("twilio-secret")
    tokens = SignatureTokens(home.home, "kannel")
    for path, form in (
        ("/twilio/mo", {"Body": "STOP", "MessageSid": "SM1"}),
        ("/twilio/mo", {"From": "INFO", "Body": "STOP", "MessageSid": "SM2"}),
        ("/twilio/dlr?out_id=1", {"MessageSid": "SM1", "MessageStatus": "eaten"}),
        ("/twilio/dlr?out_id=1", {"MessageStatus": "sent"}),
    ):
        signed = {"X-Twilio-Signature": validator.compute_signature(ROOT + path, form)}
        assert client.post(path, data=form, headers=signed).status_code == 200
    for kind, query in (
        ("mo", {"mark": tokens.sign("replies"), "from": "", "hex": "5444"}),
        ("mo", {"mark": tokens.sign("replies"), "from": phone(0), "hex": "xyz", "time": "x"}),
        ("dlr", {"mark": tokens.sign("1"), "out_id": "1", "status": "64"}),
    ):
        assert client.get(f"/kannel/{kind}?{urlencode(query)}").status_code == 200
    mail = b"Subject: unsubscribe\r\n\r\nx"
    assert client.post("/smtp/unguessable/mo", content=mail).status_code == 200
    kept = [(row["gateway"], row["kind"]) for row in rows(store, schema.unread)]
    assert kept == [
        *[("twilio", "reply")] * 2,
        *[("twilio", "receipt")] * 2,
        *[("kannel", "reply")] * 2,
        ("kannel", "receipt"),
        ("smtp", "reply"),
    ]
    assert tokens.sign("replies") not in repr(
        [VAULT.open(row["content"]) for row in rows(store, schema.unread)]
    )


def test_a_mail_with_a_large_attachment(client: TestClient, store: ControlStore) -> None:
    """Guards against a refusal by e-mail that is turned away for the picture below it."""
    picture = b"--b\r\nContent-Type: image/png\r\n\r\n" + b"QUFB\r\n" * 1_000_000
    mail = (
        b'From: li@shop.example\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'
        b"--b\r\n\r\nunsubscribe\r\n" + picture
    )
    assert client.post("/smtp/unguessable/mo", content=mail).status_code == 200
    assert [row["action"] for row in rows(store, schema.reply)] == ["opt_out"]
    endless = (b"x" * 65_536 for _ in range(600))
    assert client.post("/smtp/unguessable/mo", content=endless).status_code == 413
