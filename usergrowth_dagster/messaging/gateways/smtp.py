"""E-mail by SMTP: one connection a batch, one transaction a message.

A message is taken when the server answers its text (the end of DATA) with 250. Before that answer
nothing is taken, so a connection lost earlier defers; one that is lost after the first byte of the
text leaves that message in doubt, and those behind it are deferred.

========================================  ===================================================
the server cannot be reached, 421, 4xx    deferred
login, STARTTLS or sender refused (5xx)   stop: it concerns every message
recipient or text refused (5xx)           rejected
========================================  ===================================================

A server cannot be asked about a message, so doubtful rows are settled by a delivery status
notification (RFC 3464) or by a person. Message-ID and, where the server offers DSN (RFC 3461), the
envelope id hold the ledger row's id with a signature token; a notification with another one is
refused. The List-Unsubscribe link (RFC 2369, RFC 8058) holds the recipient's address, encrypted.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from html import escape
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.credentials import credential
from usergrowth_dagster.messaging.gateways.mails import (
    check_mail,
    find_signed_id,
    parse_notification,
    parse_reply,
)
from usergrowth_dagster.messaging.gateways.posted import read_one
from usergrowth_dagster.messaging.gateways.protocol import (
    Answer,
    Brings,
    Callback,
    CallbackAnswer,
    Gateway,
    OutBatch,
    OutMessage,
    Receipt,
    Reply,
    Result,
    Unread,
    counted,
)
from usergrowth_dagster.messaging.gateways.signature_tokens import SignatureTokens
from usergrowth_dagster.messaging.gateways.smtp_session import DoubtError, Refusal, Session
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.settings.gateways import GatewaySettings

_LOCAL = ("127.0.0.1", "localhost", "::1")
_HEAD = 10_000
_LINK = "the unsubscribe link"
_MAIL_BOX = re.compile(r"5\d\d 5\.[12]\.\d{1,3}|5\.[12]\.\d{1,3}")
"""Enhanced codes (RFC 3463) about the address or the mail box."""
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<body style="font: 1.1rem/1.5 system-ui, sans-serif; max-width: 32rem; margin: 4rem auto">
<p>{text}</p>{form}</body></html>
"""
_FORM = '<form method="post"><button style="font: inherit">Unsubscribe · 退订</button></form>'


class SmtpSettings(GatewaySettings):
    """The mail server, and who sends."""

    smtp_host: str = Field("127.0.0.1", description="mail server")
    smtp_port: Annotated[PositiveInt, Field(le=65535)] = Field(25, description="its port")
    smtp_tls: Literal["none", "starttls", "tls"] = Field("none", description="its encryption")
    smtp_from: str | None = Field(None, description="sender of e-mails")


class SmtpGateway(Gateway):
    """Submits to the mail server of the ``smtp_*`` settings.

    Args:
        settings: server, encryption, sender, time-out; the credentials ``smtp_user`` and
            ``smtp_password`` are used where they are set.

    Raises:
        UserError: ``smtp_from`` is missing or no address, or a password would go out in the clear.
    """

    name = "smtp"
    channels = ("email",)
    settings_model = SmtpSettings
    credentials = ("smtp_user", "smtp_password")
    looks_up = "no: by a notification"
    personal_codes = frozenset({"bad_address", "smtputf8_not_offered"})
    longest_body = 32 << 20  # an e-mail with what is attached to it
    kept_body = 512 << 10

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._chosen = SmtpSettings.of(settings)
        self._tokens = SignatureTokens(settings.home, self.name)
        self.address = parseaddr(self._chosen.smtp_from or "")[1]
        if "@" not in self.address or not self.address.isascii():
            raise UserError(
                "setting 'smtp_from' must be the sender of e-mails, such as "
                "Shop <news@shop.example>",
                code="setting.missing",
            )
        self._login = _login(settings)

    @classmethod
    def proves_origin(cls, brings: Brings, callback: Callback) -> bool:
        """An e-mail that somebody sent back carries no proof of who hands it over."""
        return brings is Brings.RECEIPTS or _by_link(callback)

    @classmethod
    def page(cls, brings: Brings, callback: Callback) -> CallbackAnswer | None:
        """The page behind an unsubscribe link: a mail scanner that follows it refuses nothing."""
        if brings is Brings.RECEIPTS or not _by_link(callback):
            return None
        question = "Do you want to get no more of these e-mails? 是否退订？"
        return _html("Unsubscribe", question, _FORM)

    @classmethod
    def confirm(cls, brings: Brings, items: Sequence[Receipt | Reply | Unread]) -> CallbackAnswer:
        """A page for the person who refused; counts for a mail server."""
        if brings is Brings.RECEIPTS:
            return counted(brings, items)
        return _html("Unsubscribed", "You will get no more of these e-mails. 已退订。", "")

    @classmethod
    def callback_addresses(cls, settings: Settings, root: str) -> Sequence[tuple[str, str]]:
        """Where a mail server hands over notifications and replies."""
        with_token = f"{root}/{cls.name}/<callback_token>"
        return [
            (f"{cls.name} receipts", f"{with_token}/dlr"),
            (f"{cls.name} replies", f"{with_token}/mo"),
        ]

    @classmethod
    def is_personal(cls, code: str) -> bool:
        """Whether a code is about the address or the mail box."""
        return super().is_personal(code) or _MAIL_BOX.fullmatch(code) is not None

    def submit(self, batch: OutBatch) -> Sequence[Result]:
        """Open a connection and hand over one message after the other, in ``gateway_timeout``.

        What could not be begun, or comes after a stop, was certainly not taken.
        """
        chosen = self._chosen
        results: list[Result] = []
        try:
            with Session(
                chosen.smtp_host,
                chosen.smtp_port,
                chosen.smtp_tls,
                self._login,
                self.settings.gateway_timeout,
            ) as session:
                for message in batch.messages:
                    session.require_time()
                    results.append(self._send(session, batch, message))
                    if results[-1].answer is Answer.STOP:
                        raise Refusal(Answer.STOP, results[-1].code)
                    if not session.alive:
                        raise Refusal(Answer.DEFERRED, "connection_lost")
        except Refusal as refusal:
            rest = batch.messages[len(results) :]
            results += [refusal.result(message.out_id) for message in rest]
        return results

    def _send(self, session: Session, batch: OutBatch, message: OutMessage) -> Result:
        """One transaction."""
        out_id = message.out_id
        try:
            recipient = _ascii_domain(message.phone)
            mail = self.compose(batch, message, recipient)
        except ValueError:
            return Result(out_id, Answer.REJECTED, "bad_address")
        wide = not recipient.isascii()
        if wide and not session.offers("smtputf8"):
            return Result(out_id, Answer.REJECTED, "smtputf8_not_offered")
        begin, to = [f"MAIL FROM:<{self.address}>"], [f"RCPT TO:<{recipient}>"]
        if wide:
            begin += ["BODY=8BITMIME", "SMTPUTF8"]
        if session.offers("dsn"):
            begin += ["RET=HDRS", f"ENVID={self.signed_id(out_id)}"]
            to += ["NOTIFY=SUCCESS,FAILURE,DELAY"]
        try:
            session.command(Answer.STOP, " ".join(begin))
            session.command(Answer.REJECTED, " ".join(to))
            session.command(Answer.REJECTED, "DATA")
            code = session.text(mail.as_bytes(policy=SMTP.clone(utf8=wide)))
        except Refusal as refusal:
            return refusal.result(out_id)
        except DoubtError as doubt:
            return Result(out_id, Answer.IN_DOUBT, str(doubt), self.signed_id(out_id))
        return Result(out_id, Answer.ACCEPTED, code, self.signed_id(out_id))

    def compose(self, batch: OutBatch, message: OutMessage, recipient: str) -> EmailMessage:
        """The e-mail of a message.

        Raises:
            ValueError: ``recipient`` is not one plain address.
        """
        made = EmailMessage(policy=SMTP)
        made["From"] = self._chosen.smtp_from
        made["To"] = recipient
        if [one.addr_spec for one in made["To"].addresses] != [recipient] or "@" not in recipient:
            raise ValueError("not one plain address")
        made["Subject"] = " ".join((batch.subject or batch.signature).split())
        made["Date"] = format_datetime(batch.submitted_time.astimezone(UTC))
        made["Message-ID"] = f"<{self.signed_id(message.out_id)}@{self.address.rpartition('@')[2]}>"
        ways = [f"<mailto:{self.address}?subject=unsubscribe>"]
        if self.settings.callback_url:
            ways.insert(0, f"<{self.unsubscribe_url(message.phone, batch.signature)}>")
            made["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        made["List-Unsubscribe"] = ", ".join(ways)
        made["Auto-Submitted"] = "auto-generated"
        made.set_content(message.text, charset="utf-8", cte="quoted-printable")
        return made

    def signed_id(self, out_id: str) -> str:
        """A row's id with its signature token, as it stands in Message-ID and envelope id."""
        return f"ug.{out_id}.{self._tokens.sign(out_id)}"

    def unsubscribe_url(self, address: str, signature: str) -> str:
        """Where a mail program posts a recipient's refusal."""
        root = (self.settings.callback_url or "").rstrip("/")
        token = self._tokens.seal(f"{address}\n{signature}")
        return f"{root}/{self.name}/mo?token={token}"

    def parse_receipts(self, callback: Callback) -> Sequence[Receipt | Unread]:
        """The report of a delivery status notification, posted as a whole e-mail.

        Raises:
            UnsignedError: not about an e-mail of ours.
            UserError: it names no e-mail of ours.
        """
        _, out_id, token = find_signed_id(callback.body).split(".")
        self._tokens.check(token, out_id, "notification")

        def read() -> Receipt:
            notification = parse_notification(callback.body)
            return Receipt(
                notification.status, out_id=out_id, code=notification.code, time=notification.time
            )

        return [read_one(read, lambda: _beginning(callback.body), None, "notification")]

    def parse_replies(self, callback: Callback) -> Sequence[Reply | Unread]:
        """A refusal by the List-Unsubscribe link, or a whole e-mail that somebody sent back.

        Raises:
            UnsignedError: the link's token is not ours.
            UserError: the body is no e-mail.
        """
        token = callback.query.get("token")
        if not token:
            check_mail(callback.body, "reply")
            return [
                read_one(
                    lambda: parse_reply(callback.body),
                    lambda: _beginning(callback.body),
                    None,
                    "reply",
                )
            ]
        address, _, signature = self._tokens.open(token, _LINK).partition("\n")
        return [
            Reply(
                phone=address,
                content="UNSUBSCRIBE",
                signature=signature or None,
                sequence_id=token[-64:],
                send_time=datetime.now(UTC),
            )
        ]


def _by_link(callback: Callback) -> bool:
    """Whether somebody followed the List-Unsubscribe link."""
    return bool(callback.query.get("token"))


def _html(title: str, text: str, form: str) -> CallbackAnswer:
    """A page for a person."""
    body = _PAGE.format(title=escape(title), text=escape(text), form=form)
    return CallbackAnswer(body, "text/html")


def _beginning(body: bytes) -> str:
    """What is kept of an e-mail that cannot be read."""
    return body[:_HEAD].decode("utf-8", "replace")


def _ascii_domain(address: str) -> str:
    """An address whose domain every server understands.

    >>> _ascii_domain("li@bücher.example")
    'li@xn--bcher-kva.example'
    """
    local, at, domain = address.rpartition("@")
    return local + at + domain.encode("idna").decode()


def _login(settings: Settings) -> tuple[str, str] | None:
    """User and password, if they are set.

    Raises:
        UserError: only one of them is, or nothing would encrypt them on their way.
    """
    user = credential(settings.home, "smtp_user", required=False)
    password = credential(settings.home, "smtp_password", required=False)
    if user is None and password is None:
        return None
    if user is None or password is None:
        raise UserError(
            "the credentials smtp_user and smtp_password belong together: set both",
            code="credential.invalid",
        )
    chosen = SmtpSettings.of(settings)
    if chosen.smtp_tls == "none" and chosen.smtp_host not in _LOCAL:
        raise UserError(
            f"setting 'smtp_tls' is none, so the password would go to {chosen.smtp_host} in "
            "the clear; set starttls or tls",
            code="setting.invalid",
        )
    return user, password
