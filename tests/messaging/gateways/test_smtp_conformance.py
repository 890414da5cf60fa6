"""The mail gateway under the suite of all gateways, against a real SMTP server."""

from collections.abc import Iterator, Mapping, Sequence

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from conformance import HOSTILE, TIMEOUT, Case, Conformance, Mood
from http_provider import closed_port
from smtp_server import MailBox, mail_server

from usergrowth_dagster.messaging.gateways.protocol import Callback, OutBatch, Result
from usergrowth_dagster.messaging.gateways.registry import make_gateway
from usergrowth_dagster.messaging.gateways.smtp import SmtpGateway
from usergrowth_dagster.settings import Settings

REPORT = """\
From: mailer@shop.example
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: message/delivery-status

Original-Envelope-Id: {mark}

Final-Recipient: rfc822; x@shop.example
Action: {action}
Status: {status}

--b--
"""


class Counting(MailBox):
    """A mail box that counts every recipient it was ever asked to take."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.mood = Mood.TAKE

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.asked.append(address)
        how = {Mood.TAKE_AND_HANG: "silence", Mood.TAKE_AND_RESET: "data", Mood.RESET: "rcpt"}
        self.drop = {address: how[self.mood]} if self.mood in how else {}
        if self.mood is Mood.DEFER:
            return "451 4.3.0 later"
        return await super().handle_RCPT(server, session, envelope, address, options)


class SmtpCase(Case):
    channel, looks_up, knows_untaken = "email", False, True
    provider_logs = ("mail.log",)

    def __init__(self, box: Counting, settings: Settings, port: int) -> None:
        self.lacks = {
            Mood.ERROR: "a server's own trouble is a 4xx: the mood DEFER",
            Mood.NONSENSE: "a reply has a code or is none",
            **dict.fromkeys((*HOSTILE, Mood.AWAY), "see test_smtp_hostile"),
        }
        self.box = box
        self.settings = settings.model_copy(
            update={
                "email_gateway": "smtp",
                "smtp_port": port,
                "smtp_from": "News <news@shop.example>",
                "gateway_timeout": TIMEOUT,
            }
        )
        gateway = make_gateway(self.settings, "email")
        assert isinstance(gateway, SmtpGateway)
        self.gateway: SmtpGateway = gateway

    def address(self, number: int) -> str:
        return f"user{number:05d}@shop.example"

    def set_mood(self, mood: Mood, address: str | None = None) -> None:
        self.box.mood = mood
        self.box.sender_reply = "550 5.7.1 not you" if mood is Mood.STOP else "250 OK"
        self.box.replies = {address: "550 5.1.1 unknown"} if address else {}

    def taken(self) -> Sequence[str]:
        return [address for address, _ in self.box.taken]

    def attempts(self) -> Sequence[str]:
        return self.box.asked

    def contents(self) -> Mapping[str, str]:
        mails = zip(self.box.taken, self.box.mails(), strict=True)
        return {to: mail.get_content().replace("\r\n", "\n").strip() for (to, _), mail in mails}

    def facts(self) -> Mapping[str, Mapping[str, str]]:
        mails = zip(self.box.taken, self.box.mails(), strict=True)
        return {to: {"subject": mail["Subject"]} for (to, _), mail in mails}

    def unreachable(self) -> SmtpGateway:
        return SmtpGateway(self.settings.model_copy(update={"smtp_port": closed_port()}))

    def report(
        self, batch: OutBatch, results: Sequence[Result], delivered: Mapping[str, bool]
    ) -> Sequence[Callback]:
        return [
            self._callback(self.gateway.signed_id(out_id), good)
            for out_id, good in delivered.items()
        ]

    def _callback(self, mark: str, good: bool) -> Callback:
        action, status = ("delivered", "2.0.0") if good else ("failed", "5.1.1")
        return Callback(REPORT.format(mark=mark, action=action, status=status).encode())

    def garbage(self) -> Sequence[Callback]:
        return [self._callback(self.gateway.signed_id("1").replace("ug.1.", "ug.2."), True)]


@pytest.fixture
def case(settings: Settings) -> Iterator[SmtpCase]:
    box = Counting()
    with mail_server(box) as port:
        yield SmtpCase(box, settings, port)


class TestSmtp(Conformance):
    """The suite of all gateways; the fixture ``case`` is this module's."""
