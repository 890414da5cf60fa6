"""What every gateway must do: one suite, run against a provider of each kind.

To put a gateway under it, write a :class:`Case` for its provider and a test class of two lines::

    class TestMine(Conformance):
        @pytest.fixture
        def case(self, settings: Settings) -> Iterator[Case]:
            with my_provider() as provider:
                yield MyCase(provider, settings)

The provider is a program of its own or a thread of the test, but never a part of the gateway that
was replaced: what is tested is what goes over the wire. In every test, nothing that the process
logs or prints may hold a recipient's address.
"""

import contextlib
import logging
import resource
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pytest
from support.patience import no_hang
from support.phones import phone
from two_texts import VAULT, two_texts

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.dispatching.outgoing import (
    calls_of,
    made_batch,
    made_messages,
)
from usergrowth_dagster.messaging.gateways.protocol import (
    Answer,
    Callback,
    Found,
    Gateway,
    Inquiry,
    OutBatch,
    OutMessage,
    Receipt,
    Result,
    Unread,
)
from usergrowth_dagster.messaging.gateways.wire import LookUpError
from usergrowth_dagster.settings import Settings

TIMEOUT = 0.8
"""Seconds to give the gateway as ``gateway_timeout``."""
TEXT = "【示例商店】亲爱的{name}，新年好 🎁 “€5” & <b>+%~\n拒收请回复R"


class Mood(StrEnum):
    """What a provider does with submissions."""

    TAKE = "take"
    REFUSE_ONE = "refuse_one"  # refuses a named recipient, takes the others
    DEFER = "defer"  # takes nothing for the moment
    STOP = "stop"  # takes nothing: account, credentials
    TAKE_AND_HANG = "take_and_hang"  # takes all and never answers
    TAKE_AND_RESET = "take_and_reset"  # takes all and cuts the connection in mid-answer
    RESET = "reset"  # cuts the connection, having taken nothing
    ERROR = "error"  # HTTP 500 or the like, having taken nothing
    NONSENSE = "nonsense"  # takes all, and answers with what nobody understands
    FLOOD = "flood"  # takes all, and answers with a body that has no end
    FLOOD_HEAD = "flood_head"  # takes all, and answers with a head that has no end
    DRIP = "drip"  # takes all, and answers byte by byte
    DRIP_HEAD = "drip_head"  # the same from the first byte of the head on
    PACKED = "packed"  # takes all, and answers with a few bytes that become many
    AWAY = "away"  # takes all, and names another address to submit to


HOSTILE = (Mood.FLOOD, Mood.FLOOD_HEAD, Mood.DRIP, Mood.DRIP_HEAD, Mood.PACKED)
"""Moods of a peer from which a gateway must get away in time, with everything in doubt."""


class Case(ABC):
    """A gateway and its provider.

    Attributes:
        gateway: made with ``gateway_timeout`` = :data:`TIMEOUT`, in which it need not manage all
            of a large batch on a slow machine (see :meth:`patient`).
        settings: that it was made with.
        lacks: moods that such a provider cannot have, with the reason.
        looks_up: whether the provider can be asked about messages.
        channel: of the messages.
        knows_untaken: whether a lost connection shows which messages were certainly not taken.
        provider_logs: loggers of the provider, where it runs in the test's process.
    """

    gateway: Gateway
    settings: Settings
    lacks: Mapping[Mood, str] = {}
    looks_up: bool = True
    channel: str = "sms"
    knows_untaken: bool = False
    provider_logs: Sequence[str] = ()

    @abstractmethod
    def set_mood(self, mood: Mood, address: str | None = None) -> None:
        """How the provider behaves from now on; ``address`` is the one that REFUSE_ONE refuses."""

    @abstractmethod
    def taken(self) -> Sequence[str]:
        """Addresses that the provider took messages for, as often as it did, as it wrote them."""

    @abstractmethod
    def attempts(self) -> Sequence[str]:
        """Addresses in all submissions that reached the provider, taken or not."""

    @abstractmethod
    def contents(self) -> Mapping[str, str]:
        """By taken address (as in :meth:`taken`): text or variable that the recipient reads."""

    @abstractmethod
    def unreachable(self) -> Gateway | None:
        """The same gateway with a provider that nobody can connect to; None: there is no such."""

    @abstractmethod
    def report(
        self, batch: OutBatch, results: Sequence[Result], delivered: Mapping[str, bool]
    ) -> Sequence[Callback]:
        """The provider's callbacks about the batch's messages, by out_id."""

    @abstractmethod
    def garbage(self) -> Sequence[Callback]:
        """Callbacks to the receipts' address that are not what the provider sends."""

    def patient(self) -> Gateway:
        """The same gateway with time for everything."""
        made: Any = type(self.gateway)
        gateway: Gateway = made(self.settings.model_copy(update={"gateway_timeout": 60.0}))
        return gateway

    def address(self, number: int) -> str:
        """A recipient: a number from the unassigned country code 999."""
        return phone(number)

    def same(self, address: str) -> str:
        """What is equal for two writings of one address."""
        return address.removeprefix("+")

    def facts(self) -> Mapping[str, Mapping[str, Any]]:
        """By taken address, what the provider got beside the text, where it gets any.

        Of template_code, subject and params.
        """
        return {}

    def check(self) -> None:
        """Raise an AssertionError when the provider found a submission not as it must be."""
        assert self.gateway.name


def make_batch(case: Case, size: int, batch_id: str = "71", first: int = 1) -> OutBatch:
    """A batch to recipients ``first`` … with awkward text."""
    return OutBatch(
        batch_id=batch_id,
        schedule="冬季 send",
        occurrence="20171228-december",
        channel=case.channel,
        signature="示例商店",
        template_code="UG_000001",
        template_type="promotion",
        submitted_time=datetime.now(UTC),
        messages=[
            OutMessage(
                out_id=str(1000 + n),
                user_id=f"u{n}",
                phone=case.address(n),
                text=TEXT.format(name=f"客{n}"),
                params={"name": f"客{n} 🎁&+%"},
            )
            for n in range(first, first + size)
        ],
        subject="新年礼券 🎁" if case.channel == "email" else None,
    )


def inquiries(batch: OutBatch, results: Sequence[Result] = ()) -> list[Inquiry]:
    """The questions about a batch's messages, as the dispatcher asks them."""
    known = {result.out_id: result.request_id for result in results}
    return [
        Inquiry(
            m.out_id,
            batch.schedule,
            batch.occurrence,
            batch.submitted_time,
            m.phone,
            known.get(m.out_id),
            batch.batch_id,
        )
        for m in batch.messages
    ]


def answers(batch: OutBatch, results: Sequence[Result]) -> dict[str, Answer]:
    """Answers by out_id; each message has one at most, and none that was not asked for."""
    by_id = {result.out_id: result.answer for result in results}
    assert len(by_id) == len(results), "two answers for a message"
    assert set(by_id) <= {m.out_id for m in batch.messages}, "an answer for no message"
    return by_id


def in_doubt(case: Case, batch: OutBatch) -> list[Result]:
    """Submit; what the provider took must be in doubt, by an answer or for lack of one.

    So must the rest, unless the gateway can tell (:attr:`Case.knows_untaken`) that it was not taken.
    """
    try:
        results = list(case.gateway.submit(batch))
    except Exception as error:
        assert not isinstance(error, UserError)
        assert_secret(case, f"{error} {error!r} {error.__cause__!r} {error.__context__!r}", batch)
        return []
    by_id = answers(batch, results)
    taken = {case.same(address) for address in case.taken()}
    for message in batch.messages:
        answer = by_id.get(message.out_id, Answer.IN_DOUBT)
        surely_not_taken = case.knows_untaken and case.same(message.phone) not in taken
        assert answer is Answer.IN_DOUBT or (surely_not_taken and answer is Answer.DEFERRED), answer
    return results


def assert_secret(case: Case, text: str, batch: OutBatch) -> None:
    """No address of the batch stands in a text."""
    for message in batch.messages:
        for form in {message.phone, case.same(message.phone)}:
            assert form not in text, "a recipient's address got out"


class Conformance:
    """The suite; subclasses give the fixture ``case``."""

    @pytest.fixture(autouse=True)
    def secrecy(
        self,
        case: Case,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> Iterator[None]:
        """Nothing that is logged or printed holds an address, whatever the level."""
        monkeypatch.setenv("DEBUG", "sdk")
        caplog.set_level(logging.DEBUG)
        for name in ("urllib3", "httpx", "httpcore", "twilio.http_client", "darabonba-core"):
            caplog.set_level(logging.DEBUG, logger=name)
        yield
        out, err = capfd.readouterr()
        records = [r for r in caplog.get_records("call") if r.name not in case.provider_logs]
        said = "\n".join([out, err, *(f"{r.getMessage()} {r.exc_text}" for r in records)])
        assert_secret(case, said, make_batch(case, 120))
        case.check()

    def test_full_batch_is_taken_once(self, case: Case) -> None:
        """Guards against rows left out or doubled at the largest size, and text that is garbled."""
        batch = make_batch(case, case.gateway.max_batch)
        results = case.patient().submit(batch)
        answered = answers(batch, results)
        assert answered == {m.out_id: Answer.ACCEPTED for m in batch.messages}
        wanted = Counter(case.same(m.phone) for m in batch.messages)
        assert Counter(case.same(a) for a in case.taken()) == wanted
        read = {case.same(a): text for a, text in case.contents().items()}
        for message in batch.messages:
            assert read[case.same(message.phone)] in (message.text, message.params["name"])
        assert_secret(case, repr((batch, results, case.gateway, inquiries(batch))), batch)

    def test_two_texts_of_one_occurrence(self, case: Case) -> None:
        """Guards against a template's code, subject or variables sent with the other's text."""
        one, rows = two_texts(case.channel, case.address, 7)
        wanted = {}
        calls = calls_of(rows, case.gateway.max_batch)
        assert sum(map(len, calls)) == len(rows)
        for number, call in enumerate(calls):
            assert len({row["variant"] for row in call}) == 1
            made, bad = made_messages(VAULT, one, call)
            assert not bad
            text = one.text(call[0]["variant"])
            wanted |= {case.same(m.phone): (m, text) for m in made}
            batch = made_batch(one, call[0]["variant"], 71 + number, made)
            answered = answers(batch, case.patient().submit(batch))
            assert answered == {m.out_id: Answer.ACCEPTED for m in made}
        assert Counter(case.same(a) for a in case.taken()) == dict.fromkeys(wanted, 1)
        read = {case.same(a): text for a, text in case.contents().items()}
        facts_by_address = {case.same(a): facts for a, facts in case.facts().items()}
        for address, (message, text) in wanted.items():
            assert read[address] in (message.text, message.params["name"])
            assert ("礼物" in message.text) == ("gift" in message.params)
            facts = {"template_code": text.template_code, "subject": text.subject}
            facts |= {"params": message.params}
            for name, value in facts_by_address.get(address, {}).items():
                assert value == facts[name], name

    def test_one_bad_row_does_not_reject_its_batch(self, case: Case) -> None:
        """Guards against a poison row that takes its neighbors with it, or sends them twice."""
        if Mood.REFUSE_ONE in case.lacks:
            return
        batch = make_batch(case, min(7, case.gateway.max_batch))
        bad = batch.messages[-2]
        case.set_mood(Mood.REFUSE_ONE, bad.phone)
        results = case.patient().submit(batch)
        answered = answers(batch, results)
        assert answered.pop(bad.out_id) is Answer.REJECTED
        assert set(answered.values()) == {Answer.ACCEPTED}
        wanted = {case.same(m.phone): 1 for m in batch.messages if m is not bad}
        assert Counter(case.same(a) for a in case.taken()) == wanted
        (refused,) = (r for r in results if r.out_id == bad.out_id)
        assert refused.code

    @pytest.mark.parametrize("mood", [Mood.DEFER, Mood.STOP])
    def test_refusals_of_everything(self, case: Case, mood: Mood) -> None:
        """Guards against throttled rows that are lost, and going on with a closed account."""
        if mood in case.lacks:
            return
        batch = make_batch(case, 3)
        case.set_mood(mood)
        results = case.patient().submit(batch)
        wanted = Answer.DEFERRED if mood is Mood.DEFER else Answer.STOP
        assert answers(batch, results) == {m.out_id: wanted for m in batch.messages}
        assert all(result.code for result in results)
        if mood is Mood.DEFER:
            assert all(0 < (result.retry_after or 60) <= 32 * 86_400 for result in results)
        assert not case.taken()
        assert max(Counter(case.attempts()).values(), default=1) == 1
        case.set_mood(Mood.TAKE)
        assert set(answers(batch, case.patient().submit(batch)).values()) == {Answer.ACCEPTED}

    @pytest.mark.parametrize("mood", [Mood.TAKE_AND_HANG, Mood.TAKE_AND_RESET, Mood.NONSENSE])
    def test_taken_without_an_answer_is_in_doubt(self, case: Case, mood: Mood) -> None:
        """Guards against a second text after an answer that was lost, and a doubt never settled."""
        if mood in case.lacks:
            return
        batch = make_batch(case, 3)
        case.set_mood(mood)
        with no_hang():
            results = in_doubt(case, batch)
        assert all(result.code for result in results)
        time.sleep(0.05)
        assert max(Counter(case.attempts()).values()) == 1, "it was submitted again"
        taken = {case.same(address) for address in case.taken()}
        case.set_mood(Mood.TAKE)
        findings = {f.out_id: f for f in case.gateway.look_up(inquiries(batch, results))}
        assert max(Counter(case.attempts()).values()) == 1, "a look-up submitted"
        for message in batch.messages:
            fate = findings[message.out_id].found if message.out_id in findings else None
            if case.looks_up and case.same(message.phone) in taken:
                assert fate in (Found.ACCEPTED, Found.DELIVERED)
            else:
                assert fate in (Found.NOT_FOUND, None)

    @pytest.mark.parametrize("mood", HOSTILE)
    def test_an_answer_without_end_is_in_doubt_in_time(self, case: Case, mood: Mood) -> None:
        """Guards against an answer that hangs a dispatcher or fills its memory: without end, byte
        by byte, or packed."""
        if mood in case.lacks:
            return
        batch = make_batch(case, 3)
        case.set_mood(mood)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with no_hang():
            results = in_doubt(case, batch)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024
        assert all(result.code for result in results)
        assert max(Counter(case.attempts()).values()) == 1, "it was submitted again"
        with no_hang(), contextlib.suppress(LookUpError):
            assert not case.gateway.look_up(inquiries(batch, results)) or not case.looks_up

    def test_a_redirect_is_not_followed(self, case: Case) -> None:
        """Guards against a library that submits again to the address of a redirect, when what it
        came from has taken the batch."""
        if Mood.AWAY in case.lacks:
            return
        batch = make_batch(case, 3)
        case.set_mood(Mood.AWAY)
        answered = answers(batch, case.gateway.submit(batch))
        assert set(answered.values()) <= {Answer.IN_DOUBT, Answer.STOP}
        assert max(Counter(case.attempts()).values()) == 1

    @pytest.mark.parametrize("mood", [Mood.RESET, Mood.ERROR])
    def test_failures_are_in_doubt_and_not_repeated(self, case: Case, mood: Mood) -> None:
        """Guards against a library below the gateway that tries again by itself."""
        if mood in case.lacks:
            return
        batch = make_batch(case, 3)
        case.set_mood(mood)
        results = in_doubt(case, batch)
        assert max(Counter(case.attempts()).values(), default=1) == 1, "it was submitted again"
        case.set_mood(Mood.TAKE)
        for finding in case.gateway.look_up(inquiries(batch, results)):
            assert finding.found is Found.NOT_FOUND

    def test_no_connection_defers(self, case: Case) -> None:
        """Guards against rows in doubt, to be looked up one by one, when nothing was ever said."""
        gateway = case.unreachable()
        if gateway is None:
            return
        batch = make_batch(case, 3)
        results = gateway.submit(batch)
        assert set(answers(batch, results).values()) == {Answer.DEFERRED}
        assert len(results) == 3
        assert all((result.retry_after or 60) >= 1 for result in results)

    def test_unknown_messages_are_not_found(self, case: Case) -> None:
        """Guards against a look-up that takes another batch's or person's message for ours."""
        case.patient().submit(make_batch(case, 3, batch_id="71"))
        never = make_batch(case, 2, batch_id="72", first=50)
        for finding in case.gateway.look_up(inquiries(never)):
            assert finding.found is Found.NOT_FOUND
        assert len(case.taken()) == 3

    def test_reports_find_their_rows(self, case: Case) -> None:
        """Guards against reports that are lost, turned around, or about the wrong row."""
        batch = make_batch(case, 3)
        results = case.patient().submit(batch)
        delivered = {m.out_id: n % 2 == 0 for n, m in enumerate(batch.messages)}
        receipts = [
            receipt
            for callback in case.report(batch, results, delivered)
            for receipt in case.gateway.parse_receipts(callback)
        ]
        statuses = {row_of(case, batch, results, r): r.status for r in receipts}
        wanted = {
            out_id: Found.DELIVERED if good else Found.UNDELIVERED
            for out_id, good in delivered.items()
        }
        assert statuses == wanted
        assert all(r.code for r in receipts if r.status is Found.UNDELIVERED)
        assert_secret(case, repr(receipts), batch)

    def test_garbage_is_a_users_mistake(self, case: Case) -> None:
        """Guards against a traceback, or a report believed, for whatever somebody posts."""
        batch = make_batch(case, 1)
        odd = [b"", b"\xff\xfe", b"null", b"[", b"[null]", b"{}", b"[[[[", b'"a"', b"a=b&c", b"\0"]
        whole = case.report(batch, case.patient().submit(batch), {batch.messages[0].out_id: True})
        callbacks = [
            *(
                replace(callback, body=body, headers=h)
                for callback in whole[:1]
                for body in odd
                for h in ({}, callback.headers)
                if callback.body
            ),
            *(Callback(body, {}, "https://ug.example/x?a=%ff&mark=%00") for body in odd),
            *case.garbage(),
        ]
        for callback in callbacks:
            try:
                receipts = case.gateway.parse_receipts(callback)
            except UserError as error:
                assert error.__cause__ is None
                assert_secret(case, str(error), batch)
            else:
                assert any(isinstance(one, Unread) for one in receipts)
                assert_secret(case, repr(receipts), batch)
        for body in odd:
            with contextlib.suppress(UserError):
                callback = Callback(body, {}, "https://ug.example/x?a=%ff")
                assert all(isinstance(one, Unread) for one in case.gateway.parse_replies(callback))


def row_of(case: Case, batch: OutBatch, results: Sequence[Result], receipt: Receipt) -> str:
    """The row that a receipt is about, found as the ledger does."""
    if receipt.out_id is not None:
        return receipt.out_id
    assert receipt.phone is not None
    requests = {result.out_id: result.request_id for result in results}
    assert receipt.batch_id == batch.batch_id or receipt.request_id in requests.values()
    (row,) = (m.out_id for m in batch.messages if case.same(m.phone) == case.same(receipt.phone))
    return row
