"""The Aliyun gateway: its real SDK against a local endpoint of Aliyun's wire format."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aliyun_server import KEY_ID, SECRET, ZONE, Aliyun
from conformance import TIMEOUT, Conformance, Mood, answers, inquiries, make_batch
from http_provider import ServedCase, closed_port, serving, with_credentials

from usergrowth_dagster.addresses.mainland import to_mainland
from usergrowth_dagster.messaging.gateways.aliyun import (
    OF_EVERYTHING,
    OF_ONE_ROW,
    AliyunGateway,
    reply_url,
    seconds_to_next,
)
from usergrowth_dagster.messaging.gateways.protocol import (
    Answer,
    Callback,
    Found,
    OutBatch,
    OutMessage,
    Result,
    Unread,
    UnsignedError,
)
from usergrowth_dagster.messaging.gateways.registry import make_gateway
from usergrowth_dagster.messaging.gateways.wire import LookUpError
from usergrowth_dagster.settings import Settings


class AliyunCase(ServedCase[Aliyun]):
    def __init__(self, provider: Aliyun, settings: Settings) -> None:
        self.provider = provider
        self.settings = settings.model_copy(
            update={
                "gateway": "aliyun",
                "aliyun_endpoint": provider.url,
                "gateway_timeout": TIMEOUT,
                "callback_url": "https://ug.example",
            }
        )
        gateway = make_gateway(self.settings)
        assert isinstance(gateway, AliyunGateway)
        self.gateway: AliyunGateway = gateway

    def set_mood(self, mood: Mood, address: str | None = None) -> None:
        self.provider.mood = mood
        self.provider.bads = {to_mainland(address)} if address else set()
        if mood is Mood.DEFER:
            self.provider.refusal = (400, "Throttling.User", "Request was denied")
        elif mood is Mood.STOP:
            self.provider.refusal = (200, "isv.AMOUNT_NOT_ENOUGH", "账户余额不足")

    def facts(self) -> Mapping[str, Mapping[str, Any]]:
        return {
            one["PhoneNum"]: {
                "template_code": one["TemplateCode"],
                "params": self.provider.values[one["PhoneNum"]],
            }
            for one in self.provider.details
        }

    def unreachable(self) -> AliyunGateway:
        url = f"http://127.0.0.1:{closed_port()}"
        return AliyunGateway(self.settings.model_copy(update={"aliyun_endpoint": url}))

    def report(
        self, batch: OutBatch, results: Sequence[Result], delivered: Mapping[str, bool]
    ) -> Sequence[Callback]:
        entries = [
            entry(
                to_mainland(m.phone),
                delivered[m.out_id],
                self.provider.details[0]["OutId"],
                results[0].request_id or "",
            )
            for m in batch.messages
        ]
        body = json.dumps(entries, ensure_ascii=False).encode()
        return [Callback(body, {}, "https://ug.example/aliyun/dlr")]

    def garbage(self) -> Sequence[Callback]:
        good = entry("13000000000", True, self.gateway.out_id("1"), "b")
        bad: list[dict[str, Any]] = [
            {**good, "success": "true"},
            {**good, "phone_number": 13000000000},
            {key: value for key, value in good.items() if key != "phone_number"},
        ]
        return [Callback(json.dumps([good, one]).encode()) for one in bad]


def entry(phone: str, success: bool, out_id: str, biz_id: str) -> dict[str, Any]:
    """One entry of an SmsReport."""
    return {
        "phone_number": phone,
        "send_time": "2017-01-01 00:00:00",
        "report_time": "2017-01-01 08:00:00",
        "success": success,
        "err_code": "DELIVERED" if success else "MK:0001",
        "err_msg": "用户接收成功",
        "sms_size": "1",
        "biz_id": biz_id,
        "out_id": out_id,
    }


@pytest.fixture
def account(settings: Settings) -> Settings:
    return with_credentials(settings, aliyun_access_key_id=KEY_ID, aliyun_access_key_secret=SECRET)


@pytest.fixture
def case(account: Settings) -> Iterator[AliyunCase]:
    provider = Aliyun()
    with serving(provider):
        yield AliyunCase(provider, account)


class TestAliyun(Conformance):
    """The suite of all gateways; the fixture ``case`` is this module's."""


def test_the_server_refuses_a_wrong_signature(
    case: AliyunCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a test server that lets everything pass, and against trying on in vain."""
    monkeypatch.setenv("USERGROWTH_ALIYUN_ACCESS_KEY_SECRET", "another")
    results = case.gateway.submit(make_batch(case, 3))
    assert {r.answer for r in results} == {Answer.STOP}
    assert len(case.provider.problems) == 1
    case.provider.problems.clear()


@pytest.mark.parametrize("code", sorted(OF_EVERYTHING))
def test_codes_that_stop(case: AliyunCase, code: str) -> None:
    """Guards against a hundred calls, or rows thrown away, when the account is at fault."""
    case.set_mood(Mood.STOP)
    case.provider.refusal = (200, code, "…")
    results = case.gateway.submit(make_batch(case, 5))
    assert {(r.answer, r.code) for r in results} == {(Answer.STOP, code)}
    assert case.provider.calls == [5]


@pytest.mark.parametrize("code", sorted(OF_ONE_ROW))
def test_codes_of_one_row(case: AliyunCase, code: str) -> None:
    """Guards against rejecting the rows that share a call with a bad one."""
    batch = make_batch(case, 5)
    case.set_mood(Mood.REFUSE_ONE, batch.messages[0].phone)
    case.provider.refusal = (200, code, "…")
    answered = answers(batch, case.gateway.submit(batch))
    assert list(answered.values()).count(Answer.ACCEPTED) == 4
    assert answered[batch.messages[0].out_id] is Answer.REJECTED
    assert len(case.provider.taken) == 4


@pytest.mark.parametrize(
    ("message", "wait"),
    [
        ("触发分钟级流控Permits:1", 60),
        ("触发小时级流控Permits:5", 3600),
        ("触发天级流控Permits:10", 21600),
        ("?", 3600),
    ],
)
def test_limit_of_a_number_waits_alone(case: AliyunCase, message: str, wait: float) -> None:
    """Guards against one throttled person who holds up, or rejects, everybody in the batch."""
    batch = make_batch(case, 100)
    case.provider.mood = Mood.REFUSE_ONE
    case.provider.bads = {to_mainland(batch.messages[n].phone) for n in (0, 41, 99)}
    case.provider.refusal = (200, "isv.BUSINESS_LIMIT_CONTROL", message)
    gateway = AliyunGateway(case.settings.model_copy(update={"gateway_timeout": 20.0}))
    results = gateway.submit(batch)
    late = [r for r in results if r.answer is Answer.DEFERRED]
    assert Counter(r.answer for r in results) == {Answer.ACCEPTED: 97, Answer.DEFERRED: 3}
    assert {r.retry_after for r in late} == {wait}
    assert max(Counter(case.provider.taken).values()) == 1
    assert len(case.provider.calls) < 45


def test_limits_of_the_account_end_with_the_day_and_month(case: AliyunCase) -> None:
    """Guards against knocking every minute until midnight, and at UTC's midnight instead."""
    now = datetime.now(UTC)
    for code, month in (("isv.DAY_LIMIT_CONTROL", False), ("isv.MONTH_LIMIT_CONTROL", True)):
        case.set_mood(Mood.DEFER)
        case.provider.refusal = (200, code, "…")
        results = case.gateway.submit(make_batch(case, 2))
        assert {r.answer for r in results} == {Answer.DEFERRED}
        assert results[0].retry_after == pytest.approx(seconds_to_next(now, month=month), abs=20)
    eve = datetime(2028, 2, 28, 15, 59, tzinfo=UTC)  # 23:59 in Shanghai, a leap year
    assert seconds_to_next(eve, month=False) == 60
    assert seconds_to_next(eve, month=True) == 60 + 86_400


def test_unknown_codes(case: AliyunCase) -> None:
    """Guards against a new code that throws rows away, or one row that stops the campaign."""
    batch = make_batch(case, 5)
    case.set_mood(Mood.REFUSE_ONE, batch.messages[2].phone)
    case.provider.refusal = (200, "isv.SOMETHING_NEW", "…")
    results = case.gateway.submit(batch)
    assert [r.answer for r in results].count(Answer.ACCEPTED) == 4
    (bad,) = (r for r in results if r.answer is not Answer.ACCEPTED)
    assert (bad.answer, bad.code) == (Answer.REJECTED, "isv.SOMETHING_NEW")
    case.set_mood(Mood.STOP)
    case.provider.refusal = (200, "isv.SOMETHING_NEW", "…")
    results = case.gateway.submit(make_batch(case, 2, first=60))
    assert {(r.answer, r.code) for r in results} == {(Answer.STOP, "isv.SOMETHING_NEW")}
    for status, code in ((200, "isp.SYSTEM_ERROR"), (503, "ServiceUnavailable"), (200, "")):
        case.provider.refusal = (status, code, "…")
        results = case.gateway.submit(make_batch(case, 2, first=70))
        assert {r.answer for r in results} == {Answer.IN_DOUBT}, code


def test_bisection_ends_with_the_time(case: AliyunCase) -> None:
    """Guards against a batch of bad rows that outlasts its lease, and rows lost at its end."""
    batch = make_batch(case, 100)
    case.provider.mood = Mood.REFUSE_ONE
    case.provider.bads = {to_mainland(m.phone) for m in batch.messages}
    gateway = AliyunGateway(case.settings.model_copy(update={"gateway_timeout": 0.2}))
    began = datetime.now(UTC)
    results = gateway.submit(batch)
    assert datetime.now(UTC) - began < timedelta(seconds=20)  # a busy machine takes some
    counts = Counter(r.answer for r in results)
    assert len(answers(batch, results)) == 100
    assert counts[Answer.DEFERRED] > 0
    assert set(counts) <= {Answer.DEFERRED, Answer.REJECTED, Answer.IN_DOUBT}
    assert not case.provider.taken


def test_look_up_reads_every_page_and_status(case: AliyunCase) -> None:
    """Guards against a message on a later page that is taken for one that was never sent."""
    batch = make_batch(case, 3)
    case.gateway.submit(batch)
    ours = list(case.provider.details)
    ours[0].update(SendStatus=3, ErrCode="DELIVERED")
    ours[1].update(SendStatus=2, ErrCode="MK:0001")
    others = [{**ours[0], "OutId": f"other-{n}"} for n in range(120)]
    case.provider.details = others + ours
    first, second, third = case.gateway.look_up(inquiries(batch))
    assert (first.found, first.code) == (Found.DELIVERED, "DELIVERED")
    assert (second.found, second.code) == (Found.UNDELIVERED, "MK:0001")
    assert third.found is Found.ACCEPTED
    assert case.provider.pages >= 5
    pages = case.provider.pages
    old = [
        type(i)(**{**vars(i), "submitted_time": datetime.now(UTC) - timedelta(days=31)})
        for i in inquiries(batch)
    ]
    assert {f.found for f in case.gateway.look_up(old)} == {Found.NOT_FOUND}
    assert case.provider.pages == pages


def test_look_up_around_midnight_reads_both_days(case: AliyunCase) -> None:
    """Guards against a message that stands under the day beside ours and is sent a second time."""
    batch = make_batch(case, 1)
    case.gateway.submit(batch)
    midnight = datetime.now(ZONE).replace(hour=0, minute=0, second=0, microsecond=0)
    for ours, theirs in [(-3, 3), (3, -3)]:
        taken = midnight + timedelta(minutes=theirs)
        case.provider.details[0]["SendDate"] = f"{taken:%Y-%m-%d %H:%M:%S}"
        asked = [
            type(i)(**{**vars(i), "submitted_time": midnight + timedelta(minutes=ours)})
            for i in inquiries(batch)
        ]
        assert [f.found for f in case.gateway.look_up(asked)] == [Found.ACCEPTED]


def test_look_up_that_fails_says_so(case: AliyunCase) -> None:
    """Guards against a provider that is down and is taken to say "not found"."""
    with pytest.raises(LookUpError, match="no_connection"):
        case.unreachable().look_up(inquiries(make_batch(case, 2)))


def test_numbers_are_written_as_the_provider_wants(case: AliyunCase) -> None:
    """Guards against a mainland number that is not found again in a look-up or report, and against
    a number of another country whose text a mainland number would get.

    The first begins with 100, which no mobile number of mainland China does.
    """
    phones = ["+8610000000001", "+447700900108", "+99912345678", "+13855550111"]
    batch = make_batch(case, 4)
    batch = OutBatch(
        **{
            **vars(batch),
            "messages": [
                OutMessage(str(n), f"u{n}", phone, "…", {"name": "客"})
                for n, phone in enumerate(phones)
            ],
        }
    )
    answers = {r.out_id: (r.answer, r.code) for r in case.gateway.submit(batch)}
    assert answers.pop("3") == (Answer.REJECTED, "number_outside_mainland")
    assert {answer for answer, _ in answers.values()} == {Answer.ACCEPTED}
    assert case.provider.taken == ["10000000001", "447700900108", "99912345678"]
    fates = {f.out_id: f.found for f in case.gateway.look_up(inquiries(batch))}
    assert fates == dict.fromkeys("012", Found.ACCEPTED) | {"3": Found.NOT_FOUND}


def test_reports_of_others_are_passed_over(case: AliyunCase) -> None:
    """Guards against another system's report on the same account that settles our row."""
    mine = case.gateway.out_id("71")
    forged = [f"71.{'0' * 32}", "71", "", "1001", mine.replace("71", "72", 1), "é.é"]
    body = json.dumps([entry("13000000000", True, out_id, "b") for out_id in [*forged, mine]])
    *others, receipt = case.gateway.parse_receipts(Callback(body.encode()))
    assert [(type(one), one.raw) for one in others] == [(Unread, None)] * len(forged)
    assert (receipt.batch_id, receipt.out_id, receipt.request_id) == ("71", None, "b")
    assert receipt.time == datetime(2017, 1, 1, tzinfo=UTC)


def test_replies_need_the_signature_token(case: AliyunCase) -> None:
    """Guards against a stranger who lifts a refusal, or opts people out."""
    reply = {
        "phone_number": "13000000000",
        "content": "td ",
        "sign_name": "示例商店",
        "dest_code": "1000",
        "send_time": "2017-01-01 08:00:00",
        "sequence_id": 1234567890,
    }
    body = json.dumps([reply, {**reply, "sequence_id": "x"}]).encode()
    url = reply_url(case.settings)
    one, two = case.gateway.parse_replies(Callback(body, {}, url))
    assert (one.phone, one.content, one.signature) == ("+8613000000000", "td ", "示例商店")
    assert (one.sequence_id, two.sequence_id) == ("1234567890", "x")
    assert one.send_time == datetime(2017, 1, 1, tzinfo=UTC)
    assert "13000000000" not in repr(one)
    for bad in (url[:-1], url.replace("mark", "m"), "https://ug.example/aliyun/mo"):
        with pytest.raises(UnsignedError, match="signature token"):
            case.gateway.parse_replies(Callback(body, {}, bad))
