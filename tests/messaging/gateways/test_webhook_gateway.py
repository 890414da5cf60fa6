"""The signed webhook against a receiver made after its documentation."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from conformance import TIMEOUT, Conformance, Mood, make_batch
from http_provider import ServedCase, closed_port, serving, with_credentials
from webhook_server import SECRET, Receiver, headers

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.gateways.protocol import (
    Answer,
    Callback,
    Found,
    OutBatch,
    Result,
    UnsignedError,
)
from usergrowth_dagster.messaging.gateways.registry import make_gateway
from usergrowth_dagster.messaging.gateways.webhook import WebhookGateway
from usergrowth_dagster.settings import Settings

URL = "https://ug.example/webhook/dlr"


def signed_callback(content: Any, **signing: Any) -> Callback:
    body = json.dumps(content).encode()
    return Callback(body, headers(body, **signing), URL)


class WebhookCase(ServedCase[Receiver]):
    def __init__(self, provider: Receiver, settings: Settings, channel: str = "sms") -> None:
        self.provider, self.channel = provider, channel
        self.settings = settings.model_copy(
            update={
                "gateway": "webhook",
                "email_gateway": "webhook",
                "webhook_url": f"{provider.url}/hook?tenant=a",
                "gateway_timeout": TIMEOUT,
            }
        )
        gateway = make_gateway(self.settings, channel)
        assert isinstance(gateway, WebhookGateway)
        self.gateway: WebhookGateway = gateway

    def address(self, number: int) -> str:
        return f"李{number}@shop.example" if self.channel == "email" else super().address(number)

    def set_mood(self, mood: Mood, address: str | None = None) -> None:
        self.provider.mood, self.provider.bad = mood, address or ""
        self.provider.refusal = (429, {"Retry-After": "7"}) if mood is Mood.DEFER else (401, {})

    def facts(self) -> Mapping[str, Mapping[str, Any]]:
        return {
            row["to"]: {"params": row["params"], **self.provider.shared[batch_id]}
            for (batch_id, _), row in self.provider.rows.items()
        }

    def unreachable(self) -> WebhookGateway:
        url = f"http://127.0.0.1:{closed_port()}/hook"
        return WebhookGateway(self.settings.model_copy(update={"webhook_url": url}))

    def report(
        self, batch: OutBatch, results: Sequence[Result], delivered: Mapping[str, bool]
    ) -> Sequence[Callback]:
        entries = [
            {
                "out_id": m.out_id,
                "status": "delivered" if delivered[m.out_id] else "undelivered",
                "code": "" if delivered[m.out_id] else "absent",
                "time": "2026-01-01T02:00:05+00:00",
            }
            for m in batch.messages
        ]
        return [signed_callback({"receipts": entries})]

    def garbage(self) -> Sequence[Callback]:
        good = {"out_id": "1", "status": "delivered"}
        whole = {"receipts": [good]}
        return [
            *(
                signed_callback(content)
                for content in (None, [], {}, {"receipts": {}}, {"receipts": [1]})
            ),
            *(
                signed_callback({"receipts": [good, {**good, **wrong}]})
                for wrong in (
                    {"out_id": 1},
                    {"out_id": ""},
                    {"status": "eaten"},
                    {"status": None},
                    {"status": "not_found"},
                )
            ),
            signed_callback(whole, secret="another-secret-16"),
            signed_callback(whole, timestamp=int(time.time()) - 400),
            signed_callback(whole, timestamp=int(time.time()) + 400),
            Callback(signed_callback(whole).body + b" ", signed_callback(whole).headers, URL),
        ]


@pytest.fixture
def account(settings: Settings) -> Settings:
    return with_credentials(settings, webhook_secret=SECRET)


@pytest.fixture(params=["sms", "email"])
def case(account: Settings, request: pytest.FixtureRequest) -> Iterator[WebhookCase]:
    provider = Receiver()
    with serving(provider):
        yield WebhookCase(provider, account, request.param)


class TestWebhook(Conformance):
    """The suite of all gateways; the fixture ``case`` is this module's."""


def test_results_that_are_missing_or_odd_are_in_doubt(case: WebhookCase) -> None:
    """Guards against a receiver's mistake that sends a text again, or ends the dispatcher."""
    odd: list[Any] = [
        {"out_id": "1001", "answer": "accepted", "code": 5, "request_id": "r" * 500},
        {"out_id": "1002", "answer": "deferred", "retry_after": "soon"},
        {"out_id": "1003", "answer": "deferred", "retry_after": 1e9},
        {"out_id": "1004", "answer": "eaten"},
        {"out_id": ["1005"], "answer": "accepted"},
        {"out_id": "1006", "answer": ["accepted"]},
        {"out_id": "9999", "answer": "accepted"},
        None,
    ]
    case.provider.override = {"results": odd}
    results = {r.out_id: r for r in case.gateway.submit(make_batch(case, 7))}
    assert results["1001"].answer is Answer.ACCEPTED
    assert (results["1001"].code, len(results["1001"].request_id or "")) == ("5", 128)
    assert results["1002"].retry_after == 30
    assert results["1003"].retry_after == 86_400
    assert {results[str(n)].answer for n in range(1004, 1008)} == {Answer.IN_DOUBT}
    assert "9999" not in results


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (302, Answer.STOP),
        (400, Answer.STOP),
        (404, Answer.STOP),
        (408, Answer.IN_DOUBT),
        (409, Answer.IN_DOUBT),
        (202, Answer.IN_DOUBT),
        (503, Answer.IN_DOUBT),
    ],
)
def test_statuses(case: WebhookCase, status: int, answer: Answer) -> None:
    """Guards against a status that is taken to prove what it does not, and redirects followed."""
    case.set_mood(Mood.STOP)
    case.provider.refusal = (status, {"Location": f"{case.provider.url}/elsewhere"})
    results = case.gateway.submit(make_batch(case, 2))
    assert {(r.answer, r.code) for r in results} == {(answer, str(status))}
    assert case.provider.requests == 1


def test_throttling_says_how_long(case: WebhookCase) -> None:
    """Guards against a receiver's Retry-After that is not kept to."""
    case.set_mood(Mood.DEFER)
    assert {r.retry_after for r in case.gateway.submit(make_batch(case, 2))} == {7.0}


def test_replies(case: WebhookCase) -> None:
    """Guards against replies misread, or taken from anybody."""
    one = {"from": "+9990000000001", "content": "STOP", "signature": "示例商店", "id": 9}
    whole = {
        "replies": [{**one, "time": "2026-01-01T10:00:00+08:00"}, {"from": "a@b", "content": ""}]
    }
    first, second = case.gateway.parse_replies(signed_callback(whole))
    assert (first.phone, first.content, first.signature) == ("+9990000000001", "STOP", "示例商店")
    assert first.sequence_id == "9"
    assert first.send_time == datetime(2026, 1, 1, 2, tzinfo=UTC)
    assert (second.phone, second.signature, second.send_time) == ("a@b", None, None)
    with pytest.raises(UnsignedError):
        case.gateway.parse_replies(signed_callback(whole, secret="another-secret-16"))
    good, bad = case.gateway.parse_replies(signed_callback({"replies": [one, {"content": "STOP"}]}))
    assert good.content == "STOP"
    assert "entry 2: 'from'" in bad.why and bad.raw == '{"content": "STOP"}'


def test_statuses_of_receipts(case: WebhookCase) -> None:
    """Guards against a state of a receipt that is lost."""
    entries = [{"out_id": str(n), "status": s} for n, s in enumerate(Found) if s != "not_found"]
    statuses = [
        r.status for r in case.gateway.parse_receipts(signed_callback({"receipts": entries}))
    ]
    assert statuses == [Found.ACCEPTED, Found.DELIVERED, Found.UNDELIVERED, Found.REJECTED]


def test_settings_that_are_missing(case: WebhookCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against numbers that travel in the clear, and a secret that can be guessed."""
    batch = make_batch(case, 1)
    for url, sentence in (
        (None, "webhook_url"),
        ("http://hook.example.com/x", "in the clear"),
        ("ftp://a", "https://"),
        ("http://[", "https://"),
    ):
        with pytest.raises(UserError, match=sentence):
            WebhookGateway(case.settings.model_copy(update={"webhook_url": url})).submit(batch)
    monkeypatch.setenv("USERGROWTH_WEBHOOK_SECRET", "short")
    with pytest.raises(UserError, match="too short") as caught:
        WebhookGateway(case.settings)
    assert "'short'" not in str(caught.value)
