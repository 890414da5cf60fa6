"""Kannel: one HTTP request a message to smsbox's ``sendsms``, as Kannel 1.4.5 answers it.

Everything goes in a POST: the text as a UTF-8 body, the rest as ``X-Kannel-*`` headers, so that no
number and no password is ever part of an address that a log could show. A text outside the GSM
alphabet is sent as UCS-2 (coding 2).

What Kannel answers (read in ``gw/smsbox.c`` and ``gw/bb_boxc.c`` of 1.4.5):

=========================================  ==============================================
202 ``0: Accepted for delivery``           accepted
202 ``3: Queued for later delivery``       accepted; no operator is connected at the moment
503 ``Temporal failure, try again later.`` the queue is full or Kannel is stopping: deferred
403 ``Not routable. Do not try again.``    no operator takes the number: rejected
403 otherwise                              wrong user or password: stop
400 about the number or the text           rejected
400 otherwise, 404, 415                    Kannel or its settings are at fault: stop
anything else                              in doubt
=========================================  ==============================================

A text of several parts is one message for Kannel only where the sendsms-user has
``concatenation = true``; without it the 503 is about the first part alone, so such a text
is in doubt. ``max-messages`` of the sendsms-user must be large enough, its default 1 cuts texts.

Kannel cannot be asked about a message: bearerbox's status page has only totals. A row in doubt is
settled by its delivery report, which carries our id, or by a person.

Kannel signs nothing. A report's address therefore holds a signature token of our id, and so does
the address that replies are sent to (:func:`reply_url`, for the ``get-url`` of an ``sms-service``
group); what comes without it is refused.
"""

import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from pydantic import Field

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.credentials import credential
from usergrowth_dagster.messaging.gateways.posted import Entry, read_entries, text_of
from usergrowth_dagster.messaging.gateways.protocol import (
    Answer,
    Brings,
    Callback,
    CallbackAnswer,
    Found,
    Gateway,
    OutBatch,
    OutMessage,
    Receipt,
    Reply,
    Result,
    Unread,
)
from usergrowth_dagster.messaging.gateways.signature_tokens import SignatureTokens
from usergrowth_dagster.messaging.gateways.wire import quiet
from usergrowth_dagster.messaging.texts.billing import GSM_BASIC, GSM_TWICE
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.settings.gateways import GatewaySettings

if TYPE_CHECKING:
    from usergrowth_dagster.messaging.gateways.bounded_http import BoundedClient

DELIVERED, FAILED, BUFFERED, AT_OPERATOR, REFUSED = 1, 2, 4, 8, 16
"""Kinds of delivery report; an expired message is 34 and one of unknown fate 66 (both FAILED)."""
ALL_REPORTS = 31
_AT_ONCE = 8
_RESERVE = 0.25
"""Share of the time limit that must be left for a message to be begun."""
_RETRY_SECONDS = 30.0
_GSM = frozenset(GSM_BASIC + GSM_TWICE)
_OF_THE_ROW = ("number(s) has", "missing receiver", "empty receiver", "charset or body")
_ERROR = re.compile(r"\berr:([0-9A-Za-z]{1,8})\b|\bNACK/(0x[0-9a-f]{8}|[A-Za-z ]{1,40})")
_REPLIES = "replies"


def sort_answer(status: int, body: str, segments: int = 1) -> tuple[Answer, str]:
    """What smsbox's answer means for a text of so many segments, and the code to keep."""
    said = body.strip().lower()
    if status in (200, 202) and said.startswith(("0:", "3:", "sent.")):
        return Answer.ACCEPTED, said[0] if said[0].isdigit() else "sent"
    if said.startswith(("0:", "3:", "sent.")):
        return Answer.IN_DOUBT, "contrary_answers"  # a refusal over an acceptance
    if status == 503 and said.startswith("temporal failure"):
        return (Answer.DEFERRED if segments == 1 else Answer.IN_DOUBT), "503"
    if status == 403 and said.startswith("not routable"):
        return Answer.REJECTED, "403 not routable"
    if status == 400 and said.startswith(_OF_THE_ROW):
        return Answer.REJECTED, "400"
    if status in (400, 401, 403, 404, 405, 407, 415):
        return Answer.STOP, str(status)
    return Answer.IN_DOUBT, str(status)


class KannelSettings(GatewaySettings):
    """Where Kannel is, and who sends."""

    kannel_url: str = Field(
        "http://127.0.0.1:13013/cgi-bin/sendsms", description="Kannel's sendsms address"
    )
    kannel_from: str | None = Field(
        None, description="sender number of texts; default: that of Kannel's sendsms-user"
    )


def callback_root(settings: Settings) -> str | None:
    """Where Kannel reaches ``usergrowth serve``; a Kannel on this machine needs no setting."""
    if settings.callback_url:
        return settings.callback_url.rstrip("/")
    host = urlsplit(KannelSettings.of(settings).kannel_url).hostname
    if host in ("127.0.0.1", "localhost", "::1"):
        return f"http://127.0.0.1:{settings.serve_port}"
    return None


def reply_url(settings: Settings) -> str:
    """The ``get-url`` of the ``sms-service`` group whose texts are replies to ours.

    Raises:
        UserError: no ``callback_url`` and Kannel is on another machine.
    """
    root = callback_root(settings)
    if root is None:
        raise UserError(
            "setting 'callback_url' is needed so that Kannel can hand replies over",
            code="setting.missing",
        )
    token = _tokens(settings).sign(_REPLIES)
    # the text in hexadecimal: its bytes are UTF-8 or UTF-16, which a web server would not keep
    about = f"mark={token}&from=%p&to=%P&hex=%e&coding=%c&time=%T&id=%I"
    return f"{root}/{KannelGateway.name}/mo?{about}"


def _tokens(settings: Settings) -> SignatureTokens:
    return SignatureTokens(settings.home, KannelGateway.name)


class KannelGateway(Gateway):
    """Submits to the smsbox of ``kannel_url``.

    Args:
        settings: address, time-out, sender and callback address; the credentials are
            ``kannel_user`` and ``kannel_password``.

    Raises:
        UserError: a credential is missing.
    """

    name = "kannel"
    settings_model = KannelSettings
    credentials = ("kannel_user", "kannel_password")
    looks_up = "no: by its delivery report"
    personal_codes = frozenset({"400", "403 not routable"})
    rate = None  # Kannel queues, and says 503 when its queue is full
    methods = frozenset({"GET", "POST"})

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._chosen = KannelSettings.of(settings)
        self._user = credential(settings.home, "kannel_user")
        self._password = credential(settings.home, "kannel_password")
        self._tokens = _tokens(settings)

    @classmethod
    def callback_addresses(cls, settings: Settings, root: str) -> Sequence[tuple[str, str]]:
        """The one for replies; that of reports goes along with each message."""
        return [("Kannel get-url of replies", reply_url(settings))]

    @classmethod
    def confirm(cls, brings: Brings, items: Sequence[Receipt | Reply | Unread]) -> CallbackAnswer:
        """Nothing: Kannel would text an answer back."""
        return CallbackAnswer("", "text/plain")

    def require_set_up(self) -> None:
        """Check the address."""
        if not self._chosen.kannel_url.startswith(("http://", "https://")):
            raise UserError(
                "setting 'kannel_url' must begin with http:// or https://", code="setting.invalid"
            )

    def submit(self, batch: OutBatch) -> Sequence[Result]:
        """One request a message, a few at once, all within ``gateway_timeout``.

        What could not be begun in that time, or after a stop, was certainly not taken.
        """
        from usergrowth_dagster.messaging.gateways.bounded_http import BoundedClient

        call = _Call(self.settings.gateway_timeout)
        with (
            quiet(),
            # no proxy of the environment: it would see every number
            BoundedClient(_AT_ONCE, proxies=False) as client,
            ThreadPoolExecutor(min(_AT_ONCE, len(batch.messages))) as pool,
        ):
            return list(pool.map(lambda m: self._send(client, call, m), batch.messages))

    def _send(self, client: "BoundedClient", call: "_Call", message: OutMessage) -> Result:
        import httpcore

        if call.stop:
            return Result(message.out_id, Answer.STOP, call.stop)
        left = call.seconds_left()
        if left < _RESERVE * self.settings.gateway_timeout:
            return Result(message.out_id, Answer.DEFERRED, "not_begun", retry_after=1.0)
        try:
            with quiet():
                answer = client.exchange(
                    "POST",
                    self._chosen.kannel_url,
                    self._headers(message),
                    message.text.encode("utf-8", "replace"),
                    left,
                )
        except (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout) as error:
            why = type(error).__name__  # nothing had been said yet
            return Result(message.out_id, Answer.DEFERRED, why, retry_after=_RETRY_SECONDS)
        except httpcore.UnsupportedProtocol:
            raise UserError(
                "setting 'kannel_url' must begin with http:// or https://", code="setting.invalid"
            ) from None
        except Exception as error:  # its text may hold the address
            return Result(message.out_id, Answer.IN_DOUBT, type(error).__name__)
        meaning, code = sort_answer(answer.status, answer.text, message.segments)
        if meaning is Answer.STOP:
            call.stop = code
        wait = _RETRY_SECONDS if meaning is Answer.DEFERRED else None
        return Result(message.out_id, meaning, code, retry_after=wait)

    def _headers(self, message: OutMessage) -> dict[str, str]:
        headers = {
            "Content-Type": "text/plain; charset=UTF-8",
            "X-Kannel-Username": self._user,
            "X-Kannel-Password": self._password,
            "X-Kannel-To": message.phone,
            "X-Kannel-Coding": "0" if _GSM.issuperset(message.text) else "2",
        }
        if self._chosen.kannel_from:
            headers["X-Kannel-From"] = self._chosen.kannel_from
        if root := callback_root(self.settings):
            token = self._tokens.sign(message.out_id)
            known = urlencode({"out_id": message.out_id, "mark": token})
            headers["X-Kannel-DLR-Mask"] = str(ALL_REPORTS)
            headers["X-Kannel-DLR-URL"] = (
                f"{root}/{self.name}/dlr?{known}&status=%d&answer=%A&time=%T"  # Kannel fills the %
            )
        return headers

    def parse_receipts(self, callback: Callback) -> Sequence[Receipt | Unread]:
        """The one report of a request to our ``dlr-url``.

        Raises:
            UnsignedError: the signature token is not ours.
            UserError: the query cannot be read.
        """
        query = callback.query
        out_id = query.get("out_id", "")
        self._tokens.check(query.get("mark", ""), out_id, "Kannel's delivery report")

        def read(query: Entry, where: str) -> Receipt:
            fate, status = _status(query.get("status", ""), where)
            return Receipt(
                status=fate,
                out_id=out_id,
                code=_error_code(query.get("answer", "")) or status,
                time=_moment(query.get("time", "")),
            )

        return read_entries([_unsigned(query)], "Kannel's delivery report", read, "to")

    def parse_replies(self, callback: Callback) -> Sequence[Reply | Unread]:
        """The one reply of a request to :func:`reply_url`.

        Raises:
            UnsignedError: the signature token is not ours.
            UserError: the query cannot be read.
        """
        query = callback.query
        self._tokens.check(query.get("mark", ""), _REPLIES, "Kannel's reply")

        def read(query: Entry, where: str) -> Reply:
            return Reply(
                phone=text_of(query, "from", where),
                content=_text(query.get("hex", ""), query.get("coding", ""), where),
                signature=None,
                sequence_id=query.get("id") or None,
                send_time=_moment(query.get("time", "")),
            )

        return read_entries([_unsigned(query)], "Kannel's reply", read, "from")


class _Call:
    """The time and the fate that the requests of one batch share."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self.stop = ""

    def seconds_left(self) -> float:
        return self.end - time.monotonic()


def _error_code(answer: str) -> str:
    """The operator's error out of its reply, which may hold a text and a number besides."""
    match = _ERROR.search(answer)
    return (match.group(1) or match.group(2)) if match else ""


def _unsigned(query: Mapping[str, str]) -> dict[str, str]:
    """What a request says, without the token that proves its origin."""
    return {key: value for key, value in query.items() if key != "mark"}


def _status(given: str, where: str) -> tuple[Found, str]:
    """What a report's status means, and the status as it is kept."""
    if not (given.isascii() and given.isdigit() and len(given) < 10):
        raise UserError(f"{where}: 'status' must be a number", code="callback.malformed")
    status = int(given)
    if status & DELIVERED:
        return Found.DELIVERED, str(status)
    if status & (FAILED | REFUSED):
        return Found.UNDELIVERED, str(status)
    if status & (BUFFERED | AT_OPERATOR):
        return Found.ACCEPTED, str(status)
    raise UserError(f"{where}: status {status} is not known", code="callback.malformed")


def _text(digits: str, coding: str, where: str) -> str:
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        raise UserError(
            f"{where}: 'hex' must be hexadecimal (%e)", code="callback.malformed"
        ) from None
    return data.decode("utf-16-be" if coding == "2" else "utf-8", "replace")


def _moment(seconds: str) -> datetime | None:
    try:
        return datetime.fromtimestamp(int(seconds), UTC) if seconds else None
    except (ValueError, OverflowError, OSError):
        return None
