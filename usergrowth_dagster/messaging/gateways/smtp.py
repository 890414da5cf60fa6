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
envelope id hold the ledger row's id with a mark; a notification with another mark is refused. The
List-Unsubscribe link (RFC 2369, RFC 8058) holds the recipient's address, sealed.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.credentials import credential
from usergrowth_dagster.messaging.gateways.mails import check_mail
from usergrowth_dagster.messaging.gateways.marks import Marks
from usergrowth_dagster.messaging.gateways.notifications import (
    find_mark,
    parse_notification,
    parse_reply,
)
from usergrowth_dagster.messaging.gateways.posted import read_one
from usergrowth_dagster.messaging.gateways.protocol import (
    Answer,
    Callback,
    Finding,
    Found,
    Inquiry,
    OutBatch,
    OutMessage,
    Receipt,
    Reply,
    Result,
    Unread,
)
from usergrowth_dagster.messaging.gateways.smtp_session import DoubtError, Refusal, Session
from usergrowth_dagster.settings import Settings

_LOCAL = ("127.0.0.1", "localhost", "::1")
_HEAD = 10_000
_LINK = "the unsubscribe link"


class SmtpGateway:
    """Submits to the mail server of the ``smtp_*`` settings.

    Args:
        settings: server, encryption, sender, time-out; the credentials ``smtp_user`` and
            ``smtp_password`` are used where they are set.

    Raises:
        UserError: ``smtp_from`` is missing or no address, or a password would go out in the clear.
    """

    name = "smtp"
    max_batch = 100
    rate: float | None = None

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._marks = Marks(settings.home, "smtp")
        self.address = parseaddr(settings.smtp_from or "")[1]
        if "@" not in self.address or not self.address.isascii():
            raise UserError(
                "setting 'smtp_from' must be the sender of e-mails, such as "
                "Shop <news@shop.example>",
                code="setting.missing",
            )
        self._login = _login(settings)

    def require_set_up(self) -> None:
        """Everything was checked when it was made."""

    def submit(self, batch: OutBatch) -> Sequence[Result]:
        """Open a connection and hand over one message after the other, in ``gateway_timeout``.

        What could not be begun, or comes after a stop, was certainly not taken.
        """
        chosen = self.settings
        results: list[Result] = []
        try:
            with Session(
                chosen.smtp_host,
                chosen.smtp_port,
                chosen.smtp_tls,
                self._login,
                chosen.gateway_timeout,
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
            begin += ["RET=HDRS", f"ENVID={self.mark(out_id)}"]
            to += ["NOTIFY=SUCCESS,FAILURE,DELAY"]
        try:
            session.command(Answer.STOP, " ".join(begin))
            session.command(Answer.REJECTED, " ".join(to))
            session.command(Answer.REJECTED, "DATA")
            code = session.text(mail.as_bytes(policy=SMTP.clone(utf8=wide)))
        except Refusal as refusal:
            return refusal.result(out_id)
        except DoubtError as doubt:
            return Result(out_id, Answer.IN_DOUBT, str(doubt), self.mark(out_id))
        return Result(out_id, Answer.ACCEPTED, code, self.mark(out_id))

    def compose(self, batch: OutBatch, message: OutMessage, recipient: str) -> EmailMessage:
        """The e-mail of a message.

        Raises:
            ValueError: ``recipient`` is not one plain address.
        """
        made = EmailMessage(policy=SMTP)
        made["From"] = self.settings.smtp_from
        made["To"] = recipient
        if [one.addr_spec for one in made["To"].addresses] != [recipient] or "@" not in recipient:
            raise ValueError("not one plain address")
        made["Subject"] = " ".join((batch.subject or batch.signature).split())
        made["Date"] = format_datetime(batch.submitted_time.astimezone(UTC))
        made["Message-ID"] = f"<{self.mark(message.out_id)}@{self.address.rpartition('@')[2]}>"
        ways = [f"<mailto:{self.address}?subject=unsubscribe>"]
        if self.settings.callback_url:
            ways.insert(0, f"<{self.unsubscribe_url(message.phone, batch.signature)}>")
            made["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        made["List-Unsubscribe"] = ", ".join(ways)
        made["Auto-Submitted"] = "auto-generated"
        made.set_content(message.text, charset="utf-8", cte="quoted-printable")
        return made

    def mark(self, out_id: str) -> str:
        """A row's id as it stands in Message-ID and envelope id."""
        return f"ug.{out_id}.{self._marks.mark(out_id)}"

    def unsubscribe_url(self, address: str, signature: str) -> str:
        """Where a mail program posts a recipient's refusal."""
        root = (self.settings.callback_url or "").rstrip("/")
        token = self._marks.seal(f"{address}\n{signature}")
        return f"{root}/smtp/mo?token={token}"

    def look_up(self, inquiries: Sequence[Inquiry]) -> Sequence[Finding]:
        """Nothing is ever found: a mail server cannot be asked."""
        return [Finding(inquiry.out_id, Found.NOT_FOUND) for inquiry in inquiries]

    def parse_receipts(self, callback: Callback) -> Sequence[Receipt | Unread]:
        """The report of a delivery status notification, posted as a whole e-mail.

        Raises:
            UnsignedError: not about an e-mail of ours.
            UserError: it names no e-mail of ours.
        """
        _, out_id, mark = find_mark(callback.body).split(".")
        self._marks.check(mark, out_id, "notification")

        def read() -> Receipt:
            one = parse_notification(callback.body)
            return Receipt(one.status, out_id=out_id, code=one.code, time=one.time)

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
        address, _, signature = self._marks.open(token, _LINK).partition("\n")
        return [
            Reply(
                phone=address,
                content="UNSUBSCRIBE",
                signature=signature or None,
                sequence_id=token[-64:],
                send_time=datetime.now(UTC),
            )
        ]


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
    if settings.smtp_tls == "none" and settings.smtp_host not in _LOCAL:
        raise UserError(
            f"setting 'smtp_tls' is none, so the password would go to {settings.smtp_host} in "
            "the clear; set starttls or tls",
            code="setting.invalid",
        )
    return user, password
