"""The Twilio gateway: its real SDK against a local endpoint of Twilio's wire format."""

import base64
import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from conformance import TIMEOUT, Conformance, Mood, answers, inquiries, make_batch
from http_provider import ServedCase, closed_port, serving, with_credentials
from twilio_server import ACCOUNT, FROM, TOKEN, Twilio

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
from usergrowth_dagster.messaging.gateways.twilio import TwilioGateway, sort_refusal
from usergrowth_dagster.messaging.gateways.wire import LookUpError
from usergrowth_dagster.settings import Settings

DLR = "https://ug.example/twilio/dlr"


def signed(form: Mapping[str, str], url: str, token: str = TOKEN) -> Callback:
    """A form post with X-Twilio-Signature, by Twilio's published rule."""
    whole = url + "".join(key + form[key] for key in sorted(form))
    mac = hmac.new(token.encode(), whole.encode(), hashlib.sha1).digest()
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "x-twilio-signature": base64.b64encode(mac).decode(),
    }
    return Callback(urlencode(form).encode(), headers, url)


class TwilioCase(ServedCase[Twilio]):
    def __init__(self, provider: Twilio, settings: Settings) -> None:
        self.provider = provider
        self.settings = settings.model_copy(
            update={
                "gateway": "twilio",
                "twilio_endpoint": provider.url,
                "twilio_from": FROM,
                "gateway_timeout": TIMEOUT,
                "callback_url": "https://ug.example/",
            }
        )
        gateway = make_gateway(self.settings)
        assert isinstance(gateway, TwilioGateway)
        self.gateway: TwilioGateway = gateway

    def set_mood(self, mood: Mood, address: str | None = None) -> None:
        self.provider.mood, self.provider.bad = mood, address or ""
        if mood is Mood.DEFER:
            self.provider.refusal = (429, 20429)
        elif mood is Mood.STOP:
            self.provider.refusal = (401, 20003)

    def unreachable(self) -> TwilioGateway:
        url = f"http://127.0.0.1:{closed_port()}"
        return TwilioGateway(self.settings.model_copy(update={"twilio_endpoint": url}))

    def report(
        self, batch: OutBatch, results: Sequence[Result], delivered: Mapping[str, bool]
    ) -> Sequence[Callback]:
        sids = {r.out_id: r.request_id or "" for r in results}
        return [
            signed(
                {
                    "MessageSid": sids[m.out_id],
                    "MessageStatus": "delivered" if delivered[m.out_id] else "undelivered",
                    **({} if delivered[m.out_id] else {"ErrorCode": "30003"}),
                    "To": m.phone,
                    "From": FROM,
                    "AccountSid": ACCOUNT,
                    "ApiVersion": "2010-04-01",
                },
                f"{DLR}?out_id={m.out_id}",
            )
            for m in batch.messages
        ]

    def garbage(self) -> Sequence[Callback]:
        good = {"MessageSid": "SM1", "MessageStatus": "sent", "To": "+99912345678"}
        return [
            signed({**good, "MessageStatus": "eaten"}, DLR),
            signed({"MessageStatus": "sent"}, DLR),
            signed({}, DLR),
            signed(good, DLR, "another token"),
            replace(signed(good, f"{DLR}?out_id=1"), url=f"{DLR}?out_id=2"),
            replace(
                signed(good, DLR), body=urlencode({**good, "MessageStatus": "failed"}).encode()
            ),
            replace(signed(good, DLR), headers={}),
        ]


@pytest.fixture
def account(settings: Settings) -> Settings:
    return with_credentials(settings, twilio_account_sid=ACCOUNT, twilio_auth_token=TOKEN)


@pytest.fixture
def case(account: Settings) -> Iterator[TwilioCase]:
    provider = Twilio()
    with serving(provider):
        yield TwilioCase(provider, account)


class TestTwilio(Conformance):
    """The suite of all gateways; the fixture ``case`` is this module's."""


@pytest.mark.parametrize(
    ("status", "code", "answer", "wait"),
    [
        (400, 21610, Answer.REJECTED, None),
        (400, 21211, Answer.REJECTED, None),
        (400, 30610, Answer.DEFERRED, 3600),
        (429, 20429, Answer.DEFERRED, 10),
        (429, 14107, Answer.DEFERRED, 10),
        (429, 0, Answer.DEFERRED, 10),
        (400, 21611, Answer.DEFERRED, 60),
        (401, 20003, Answer.STOP, None),
        (403, 20005, Answer.STOP, None),
        (400, 30002, Answer.STOP, None),
        (400, 21606, Answer.STOP, None),
        (404, 20404, Answer.STOP, None),
        (500, 20500, Answer.IN_DOUBT, None),
        (503, 0, Answer.IN_DOUBT, None),
        (302, 0, Answer.IN_DOUBT, None),
    ],
)
def test_codes_are_sorted(status: int, code: int, answer: Answer, wait: float | None) -> None:
    """Guards against texting whom Twilio says has opted out, and giving up what only must wait."""
    result = sort_refusal("1", status, code)
    assert (result.answer, result.retry_after) == (answer, wait)
    assert result.code == str(code or status)
    assert result.opted_out is (code == 21610)


def test_unknown_refusals(case: TwilioCase) -> None:
    """Guards against a new code that throws rows away, or one row that stops the campaign."""
    batch = make_batch(case, 4)
    case.set_mood(Mood.REFUSE_ONE, batch.messages[0].phone)
    case.provider.refusal = (400, 21999)
    results = case.gateway.submit(batch)
    assert (results[0].answer, results[0].code) == (Answer.REJECTED, "21999")
    assert {r.answer for r in results[1:]} == {Answer.ACCEPTED}
    case.set_mood(Mood.STOP)
    case.provider.refusal = (400, 21999)
    results = case.gateway.submit(make_batch(case, 4, first=60))
    assert {(r.answer, r.code) for r in results} == {(Answer.STOP, "21999")}


def test_a_stop_ends_the_batch(case: TwilioCase) -> None:
    """Guards against knocking on, a message at a time, with an account that is suspended."""
    case.set_mood(Mood.STOP)
    batch = make_batch(case, 20)
    assert set(answers(batch, case.gateway.submit(batch)).values()) == {Answer.STOP}
    assert case.provider.requests <= 8


def test_messaging_service_as_the_sender(case: TwilioCase) -> None:
    """Guards against a service's id that is given as a number."""
    case.provider.sender = {"MessagingServiceSid": "MG" + "0" * 32}
    settings = case.settings.model_copy(update={"twilio_from": "MG" + "0" * 32})
    gateway = TwilioGateway(settings)
    batch = make_batch(case, 2)
    assert {r.answer for r in gateway.submit(batch)} == {Answer.ACCEPTED}
    assert {f.found for f in gateway.look_up(inquiries(batch))} == {Found.ACCEPTED}


def test_look_up_takes_no_other_message(case: TwilioCase) -> None:
    """Guards against a doubt settled by an older message, a reply, or one of two that fit."""
    batch = make_batch(case, 1)
    to = batch.messages[0].phone
    provider = case.provider

    def fates() -> list[Found]:
        return [f.found for f in case.gateway.look_up(inquiries(batch))]

    provider.messages = [
        provider.make(to, "by another sender", **{"from": "+12125550199"}),
        provider.make(to, "a reply of theirs", direction="inbound"),
    ]
    provider.delay = timedelta(hours=3)
    provider.messages += [provider.make(to, "an older one") for _ in range(60)]
    assert fates() == [Found.NOT_FOUND]
    provider.delay = timedelta(0)
    provider.messages.insert(0, provider.make(to, "ours", status="failed", error_code=30006))
    (finding,) = case.gateway.look_up(inquiries(batch))
    assert (finding.found, finding.code) == (Found.UNDELIVERED, "30006")
    assert finding.request_id == provider.messages[0]["sid"]
    provider.messages.insert(0, provider.make(to, "perhaps ours"))
    assert fates() == [Found.NOT_FOUND]
    (by_id,) = case.gateway.look_up(
        [replace(inquiries(batch)[0], request_id=provider.messages[1]["sid"])]
    )
    assert by_id.found is Found.UNDELIVERED
    (unknown,) = case.gateway.look_up([replace(inquiries(batch)[0], request_id="SM0")])
    assert unknown.found is Found.NOT_FOUND


def test_look_up_that_fails_says_so(case: TwilioCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a provider that is down and is taken to say "not found"."""
    with pytest.raises(LookUpError, match="no_connection"):
        case.unreachable().look_up(inquiries(make_batch(case, 2)))
    monkeypatch.setenv("USERGROWTH_TWILIO_AUTH_TOKEN", "another")
    with pytest.raises(LookUpError, match="401"):
        case.gateway.look_up(inquiries(make_batch(case, 2)))


def test_replies(case: TwilioCase) -> None:
    """Guards against an opt-out word that only Twilio knew, and replies that anyone may post."""
    url = "https://ug.example/twilio/mo"
    form = {
        "From": "+12125550142",
        "To": FROM,
        "Body": "  退订 ",
        "MessageSid": "SM9",
        "MediaUrl": "",
    }
    (reply,) = case.gateway.parse_replies(signed(form, url))
    assert (reply.phone, reply.content, reply.sequence_id) == ("+12125550142", "  退订 ", "SM9")
    assert "5550142" not in repr(reply)
    (reply,) = case.gateway.parse_replies(signed({**form, "OptOutType": "STOP"}, url))
    assert reply.content == "STOP"
    (reply,) = case.gateway.parse_replies(signed({**form, "OptOutType": "HELP"}, url))
    assert reply.content == "  退订 "
    with pytest.raises(UnsignedError, match="X-Twilio-Signature"):
        case.gateway.parse_replies(signed(form, url, "another"))
    (bad,) = case.gateway.parse_replies(signed({"Body": "STOP"}, url))
    assert "'From'" in bad.why and bad.raw == '{"Body": "STOP"}'


def test_settings_that_are_missing(case: TwilioCase) -> None:
    """Guards against a traceback for a setting, and a token that travels in the clear."""
    batch = make_batch(case, 1)
    for update, sentence in (
        ({"twilio_from": None}, "twilio_from"),
        ({"twilio_endpoint": "http://api.example.com"}, "in the clear"),
        ({"twilio_endpoint": "api.example.com"}, "http"),
    ):
        with pytest.raises(UserError, match=sentence):
            TwilioGateway(case.settings.model_copy(update=update)).submit(batch)
    assert not case.provider.requests
