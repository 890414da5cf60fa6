"""Twilio by its official SDK: one ``messages.create`` a message, a few at once.

The row's id goes into the address of the status callback, which Twilio signs as a whole
(``X-Twilio-Signature``), so a report names its row. Twilio has no field for an id of ours: after a
time-out, the messages to the number are listed, and the one that was made by us at that time is the
row's. When there are several, nobody knows which, and the row stays in doubt.

=================================================  ==============================================
201                                                accepted
a code of :data:`REJECTED` (21610: opted out)      rejected
429 and the codes of :data:`WAITS`                 deferred
401, 403, 404 and the codes of :data:`STOPPED`     stop
any other 4xx                                      rejected if another message of the batch was
                                                   taken, else stop (Twilio advises against
                                                   relying on codes, which it changes)
anything else                                      in doubt
=================================================  ==============================================
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from pydantic import Field

from usergrowth_dagster.errors import SetUpError, UserError
from usergrowth_dagster.messaging.credentials import credential
from usergrowth_dagster.messaging.gateways.cleaning import clean_number, clean_text
from usergrowth_dagster.messaging.gateways.posted import Entry, read_entries, text_of
from usergrowth_dagster.messaging.gateways.protocol import (
    Answer,
    Brings,
    Callback,
    CallbackAnswer,
    Finding,
    Found,
    Gateway,
    Inquiry,
    OutBatch,
    OutMessage,
    Receipt,
    Reply,
    Result,
    Unread,
    UnsignedError,
)
from usergrowth_dagster.messaging.gateways.wire import (
    Deadline,
    LookUpError,
    not_begun,
    not_in_the_clear,
    quiet,
    settle_unknown,
    sort_error,
)
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.settings.gateways import GatewaySettings

_LOGGER = "twilio.http_client"
_AT_ONCE = 8
_NO_CONNECTION_WAIT = 30.0
_CLOCKS = timedelta(seconds=30)
"""How far Twilio's clock may be from ours."""
_LISTED = 200

OPTED_OUT = 21610
_NOT_TEXTABLE = {21211, 21214, 21217, 21265, 21266, 21267, 21268, 21269}  # no number to text to
_NO_MOBILE = {21614, 21635}  # a landline, or no mobile number
_UNREACHABLE = {30003, 30004, 30005, 30006}  # off, blocked by the person, unknown, landline
_COUNTRY_OR_ROUTE = {21408, 21612}
_BAD_TEXT = {21602, 21605, 21617, 21619}  # missing or too long
REJECTED = frozenset({OPTED_OUT} | _NOT_TEXTABLE | _NO_MOBILE | _COUNTRY_OR_ROUTE | _BAD_TEXT)
"""Codes about one recipient or text."""
WAITS = {20429: 10.0, 14107: 10.0, 21611: 60.0, 30001: 60.0, 30610: 3600.0}
"""Seconds to wait by code: too many requests, full queue, quiet hours at the recipient."""
_ACCOUNT = {20003, 20005, 20008, 10001, 30002, 90010}  # credentials; suspended or closed
_SENDER = {21212, 21603, 21606, 21607, 21659, 21660, 21661, 21703, 21704, 21705}
STOPPED = frozenset(_ACCOUNT | _SENDER)
"""Codes about the account or the sender."""
STATUS = {
    **dict.fromkeys(("accepted", "scheduled", "queued", "sending", "sent"), Found.ACCEPTED),
    **dict.fromkeys(("delivered", "read", "partially_delivered"), Found.DELIVERED),
    **dict.fromkeys(("undelivered", "failed", "canceled"), Found.UNDELIVERED),
}
"""Statuses of a message."""


class TwilioSettings(GatewaySettings):
    """Who sends, and where Twilio is."""

    twilio_endpoint: str | None = Field(
        None, description="root URL of Twilio's API; default: Twilio's own"
    )
    twilio_from: str | None = Field(
        None, description="sending number or messaging service (MG…) of Twilio"
    )


class TwilioGateway(Gateway):
    """Submits to Twilio, or to ``twilio_endpoint``.

    Args:
        settings: sender, endpoint, time-out, callback address; home of the credentials.
    """

    name = "twilio"
    settings_model = TwilioSettings
    credentials = ("twilio_account_sid", "twilio_auth_token")
    extra = "twilio"
    looks_up = "yes: by its id, or the one message to the number at that time"
    personal_codes = frozenset(map(str, {OPTED_OUT} | _NOT_TEXTABLE | _NO_MOBILE | _UNREACHABLE))
    max_batch = 20
    rate = 10.0  # what a common sender takes; faster ones: setting gateway_rate

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._chosen = TwilioSettings.of(settings)

    @classmethod
    def callback_addresses(cls, settings: Settings, root: str) -> Sequence[tuple[str, str]]:
        """The one for incoming messages; that of reports goes along with each message."""
        return [("Twilio, a message comes in", f"{root}/{cls.name}/mo")]

    @classmethod
    def confirm(cls, brings: Brings, items: Sequence[Receipt | Reply | Unread]) -> CallbackAnswer:
        """An empty TwiML: no text is sent back."""
        return CallbackAnswer('<?xml version="1.0"?><Response></Response>', "text/xml")

    def require_set_up(self) -> None:
        """Check the sender, the credentials and the SDK."""
        _ = self._sender(), self._client

    def submit(self, batch: OutBatch) -> Sequence[Result]:
        """One request a message, all within ``gateway_timeout``.

        What could not be begun in that time, or after a stop, was certainly not taken.

        Raises:
            UserError: the sender, a credential or the SDK is missing.
        """
        sender, client = self._sender(), self._client
        deadline, stopped = Deadline(self.settings.gateway_timeout), list[str]()

        def send(message: OutMessage) -> Result:
            if stopped:
                return Result(message.out_id, Answer.STOP, stopped[0])
            if not deadline.may_begin:
                return not_begun(message.out_id)
            client.http_client.limit(deadline.left)
            result = self._send(client, sender, message)
            if result.answer is Answer.STOP and not result.code.startswith("?"):
                stopped.append(result.code)
            return result

        with ThreadPoolExecutor(min(_AT_ONCE, len(batch.messages))) as pool:
            return settle_unknown(list(pool.map(send, batch.messages)))

    def _send(self, client: Any, sender: dict[str, str], message: OutMessage) -> Result:
        from twilio.base.exceptions import TwilioRestException

        about = dict(sender)
        if self.settings.callback_url:
            root = self.settings.callback_url.rstrip("/")
            about["status_callback"] = (
                f"{root}/{self.name}/dlr?{urlencode({'out_id': message.out_id})}"
            )
        try:
            with quiet(_LOGGER):
                made = client.messages.create(to=message.phone, body=message.text, **about)
            return Result(message.out_id, Answer.ACCEPTED, str(made.status or ""), made.sid)
        except TwilioRestException as error:
            return sort_refusal(message.out_id, error.status, _code(error.code))
        except Exception as error:  # its text holds the address or the request
            answer, code = sort_error(error)
            wait = _NO_CONNECTION_WAIT if answer is Answer.DEFERRED else None
            return Result(message.out_id, answer, code, retry_after=wait)

    def _sender(self) -> dict[str, str]:
        sender = self._chosen.twilio_from
        if not sender:
            raise UserError(
                "setting 'twilio_from' is missing: the sending number, such as +12125550100, or "
                "the messaging service (MG…) of Twilio",
                code="setting.missing",
            )
        return {"messaging_service_sid" if sender.startswith("MG") else "from_": sender}

    @cached_property
    def _client(self) -> Any:
        account = credential(self.settings.home, "twilio_account_sid")
        token = credential(self.settings.home, "twilio_auth_token")
        root = self._chosen.twilio_endpoint
        if root:
            not_in_the_clear(root, "twilio_endpoint")
        with quiet(_LOGGER):
            try:
                from twilio.rest import Client

                from usergrowth_dagster.messaging.gateways.twilio_http import OneTry
            except ImportError:
                raise _no_sdk() from None
            http = OneTry(root, self.settings.gateway_timeout, _AT_ONCE)
            return Client(account, token, http_client=http)

    def look_up(self, inquiries: Sequence[Inquiry]) -> Sequence[Finding]:
        """Fetch messages by their id, or look for them among those to the number.

        Raises:
            LookUpError: the provider did not answer the first question that it could not answer.
            UserError: a credential or the SDK is missing.
        """
        findings: list[Finding] = []
        client, deadline = self._client, Deadline(self.settings.gateway_timeout)
        for inquiry in inquiries:
            if not deadline.may_begin:
                break
            client.http_client.limit(deadline.left)
            try:
                findings.append(self._find(client, inquiry))
            except LookUpError:
                if not findings:
                    raise
                break
        return findings

    def _find(self, client: Any, inquiry: Inquiry) -> Finding:
        from twilio.base.exceptions import TwilioRestException

        try:
            with quiet(_LOGGER):
                if inquiry.request_id:
                    candidates = [client.messages(inquiry.request_id).fetch()]
                else:
                    candidates = self._made_then(client, inquiry)
        except TwilioRestException as error:
            if error.status == 404 and inquiry.request_id:
                return Finding(inquiry.out_id, Found.NOT_FOUND)
            raise LookUpError(f"Twilio answered a look-up with {error.status}") from None
        except Exception as error:  # a list's refusal comes as an error with the response in it
            status = next((getattr(one, "status_code", None) for one in error.args[1:]), None)
            why = f"status {status}" if status else sort_error(error)[1]
            raise LookUpError(f"Twilio's look-up failed: {why}") from None
        if len(candidates) != 1:
            return Finding(inquiry.out_id, Found.NOT_FOUND)
        (message,) = candidates
        fate = STATUS.get(clean_text(message.status, 32), Found.NOT_FOUND)
        if fate is Found.NOT_FOUND:
            return Finding(inquiry.out_id, fate)
        return Finding(inquiry.out_id, fate, str(message.error_code or ""), message.sid)

    def _made_then(self, client: Any, inquiry: Inquiry) -> list[Any]:
        """Messages to the number that our account made while the row was being submitted.

        They are found by when they were made, not sent: one that waits at Twilio has no DateSent.
        """
        first = inquiry.submitted_time - _CLOCKS
        last = inquiry.submitted_time + timedelta(seconds=self.settings.gateway_timeout) + _CLOCKS
        sender = self._sender()
        candidates = []
        for message in client.messages.stream(
            to=inquiry.phone, limit=_LISTED, page_size=50
        ):  # newest first
            if message.date_created is None or message.date_created > last:
                continue
            if message.date_created < first:
                break
            ours = sender.get("messaging_service_sid", message.messaging_service_sid)
            ours_from = sender.get("from_", message.from_)
            if (
                message.direction == "outbound-api"
                and message.messaging_service_sid == ours
                and message.from_ == ours_from
            ):
                candidates.append(message)
        return candidates

    def parse_receipts(self, callback: Callback) -> Sequence[Receipt | Unread]:
        """One status callback; it does not say when.

        Raises:
            UnsignedError: Twilio did not sign it.
            UserError: the body is no form.
        """
        form = self._signed(callback)

        def read(form: Entry, where: str) -> Receipt:
            status = form.get("MessageStatus", "")
            if status not in STATUS:
                raise UserError(
                    f"{where}: 'MessageStatus' is missing or not known", code="callback.malformed"
                )
            return Receipt(
                status=STATUS[status],
                out_id=callback.query.get("out_id") or None,
                request_id=text_of(form, "MessageSid", where),
                phone=form.get("To") or None,
                code=form.get("ErrorCode", ""),
                opted_out=form.get("ErrorCode") == str(OPTED_OUT),
            )

        return read_entries([form], "Twilio's status callback", read, "To")

    def parse_replies(self, callback: Callback) -> Sequence[Reply | Unread]:
        """One incoming message; an opt-out word that Twilio itself knew is read as STOP or START.

        Raises:
            UnsignedError: Twilio did not sign it.
            UserError: the body is no form.
        """

        def read(form: Entry, where: str) -> Reply:
            kind = form.get("OptOutType", "").upper()
            return Reply(
                phone=text_of(form, "From", where),
                content=kind if kind in ("STOP", "START") else form.get("Body", ""),
                sequence_id=form.get("MessageSid") or None,
            )

        return read_entries([self._signed(callback)], "Twilio's incoming message", read, "From")

    def _signed(self, callback: Callback) -> dict[str, str]:
        """The callback's form, once its signature has been checked."""
        try:
            from twilio.request_validator import RequestValidator
        except ImportError:
            raise _no_sdk() from None
        token = credential(self.settings.home, "twilio_auth_token")
        form = dict(callback.form)
        signature = callback.header("X-Twilio-Signature")
        if not RequestValidator(token).validate(callback.url, form, signature):
            raise UnsignedError(
                "Twilio's callback: X-Twilio-Signature does not fit; check twilio_auth_token and "
                "that callback_url is the address that Twilio calls"
            )
        return form


def sort_refusal(out_id: str, status: int, code: int) -> Result:
    """What an HTTP error with Twilio's code means; see the module's table."""
    kept = str(code or status)
    if code in WAITS or status == 429:
        return Result(out_id, Answer.DEFERRED, kept, retry_after=WAITS.get(code, 10.0))
    if code == OPTED_OUT:
        return Result(out_id, Answer.REJECTED, kept, opted_out=True)
    if code in REJECTED:
        return Result(out_id, Answer.REJECTED, kept)
    if code in STOPPED or status in (401, 403, 404):
        return Result(out_id, Answer.STOP, kept)
    if 400 <= status < 500:
        return Result(out_id, Answer.STOP, f"?{kept}")
    return Result(out_id, Answer.IN_DOUBT, kept)


def _code(value: object) -> int:
    """A provider's code; 0 where it is none."""
    return int(clean_number(value, 0, 999_999, 0))


def _no_sdk() -> SetUpError:
    return SetUpError(
        "the gateway twilio needs its SDK: pip install 'usergrowth-dagster[twilio]'",
        code="machine.missing",
    )
