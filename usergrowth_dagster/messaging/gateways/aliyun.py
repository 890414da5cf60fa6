"""Aliyun SMS by its official SDK: ``SendBatchSms``, ``QuerySendDetails``, SmsReport and SmsUp.

``SendBatchSms`` takes parallel JSON arrays of numbers, signatures and values, but **one** OutId and
gives **one** BizId for the whole call (read in the SDK's request model and the provider's text on
SmsReport). So the OutId is the batch's id with a signature token of this home; details and reports
bring it back with the number, and within a batch no number comes twice, so both together name one
row.

The call is not idempotent. The SDK's repeats are switched off; after a time-out the rows are in
doubt and are looked up. When a refusal is about one row but does not say about which, the batch is
halved until it is found: nothing of a refused call was taken, so its halves may be submitted.

Delivery reports (SmsReport) and replies (SmsUp) are posted as JSON arrays. Reports of another
system on the same account, whose OutId was not made here, are passed over. The provider signs
nothing, so the address for SmsUp holds a signature token as well (:func:`reply_url`). Times without
an offset are in Shanghai's time.

The names of error codes are those of the service's own list. ``isv.…`` is a mistake of the caller
and ``isp.…`` trouble at the provider: with the first nothing was taken. A code of the gateway in
front of the service has no such prefix (``Throttling.User``, ``InvalidAccessKeyId.NotFound`` …).

A number of mainland China is sent, and comes back, as its 11 digits; others with their country code
and without ``+``.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache, cached_property
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from pydantic import Field

from usergrowth_dagster.addresses.mainland import from_mainland, to_mainland
from usergrowth_dagster.errors import SetUpError, UserError
from usergrowth_dagster.messaging.credentials import credential
from usergrowth_dagster.messaging.gateways.cleaning import clean_number
from usergrowth_dagster.messaging.gateways.posted import Entry, moment_of, read_entries, text_of
from usergrowth_dagster.messaging.gateways.protocol import (
    Answer,
    Callback,
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
from usergrowth_dagster.messaging.gateways.signature_tokens import SignatureTokens
from usergrowth_dagster.messaging.gateways.wire import (
    Deadline,
    Idle,
    LookUpError,
    not_begun,
    not_in_the_clear,
    quiet,
    read_json,
    settle_unknown,
    sort_error,
)
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.settings.gateways import GatewaySettings

ZONE = ZoneInfo("Asia/Shanghai")
"""The provider's days and times."""
_LOGGER = "darabonba-core"  # the SDK's
_CONNECT_SECONDS = 5.0
_NO_CONNECTION_WAIT = 30.0
_PAGE = 50
_KEPT_DAYS = 30
_MIDNIGHT = timedelta(minutes=10)
_STATUS = {1: Found.ACCEPTED, 2: Found.UNDELIVERED, 3: Found.DELIVERED}
_REPLIES = "replies"
_T = TypeVar("_T", Receipt, Reply)


class AliyunSettings(GatewaySettings):
    """Where the service is."""

    aliyun_endpoint: str = Field("dysmsapi.aliyuncs.com", description="host of Aliyun's SMS API")


class Scope(Enum):
    """Whom an answer to a batch is about."""

    BATCH = "batch"
    ROW = "row"  # one of the rows, unknown which
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Meaning:
    """What a code means: the answer, whom it is about, and seconds to wait when it is deferred."""

    answer: Answer
    scope: Scope = Scope.BATCH
    retry_after: float | None = None


class AliyunGateway(Gateway):
    """Submits to the SMS service at ``aliyun_endpoint``.

    Args:
        settings: endpoint, time-out, home of the credentials (read on the first call, so that
            receipts can be taken without them).
    """

    name = "aliyun"
    settings_model = AliyunSettings
    credentials = ("aliyun_access_key_id", "aliyun_access_key_secret")
    extra = "aliyun"
    looks_up = "yes: `QuerySendDetails`, 30 days"
    personal_codes = frozenset(
        {
            "isv.MOBILE_NUMBER_ILLEGAL",
            "isv.DOMESTIC_NUMBER_NOT_SUPPORTED",
            "isv.TEMPLATE_MISSING_PARAMETERS",
            "isv.TEMPLATE_PARAMS_ILLEGAL",
            "isv.PARAM_LENGTH_LIMIT",
            "isv.BUSINESS_LIMIT_CONTROL",
            "MOBILE_NOT_ON_SERVICE",
            "MOBILE_IN_BLACK",
            "MOBILE_ACCOUNT_ABNORMAL",
            "MOBILE_TERMINAL_ERROR",
            "MOBILE_SEND_LIMIT",
            "USER_REJECT",
        }
    )
    rate = None  # 5,000 calls a second; the provider defers what is beyond it

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._endpoint = AliyunSettings.of(settings).aliyun_endpoint
        self._tokens = _tokens(settings)
        self._idle = Idle()

    @classmethod
    def callback_addresses(cls, settings: Settings, root: str) -> Sequence[tuple[str, str]]:
        """SmsReport and, once ``callback_url`` is set, SmsUp."""
        addresses = [("Aliyun SmsReport", f"{root}/{cls.name}/report")]
        if settings.callback_url:
            addresses.append(("Aliyun SmsUp", reply_url(settings)))
        return addresses

    def out_id(self, batch_id: str) -> str:
        """The OutId of a batch."""
        return signed_out_id(self._tokens, batch_id)

    def require_set_up(self) -> None:
        """Check the SDK, the credentials and the endpoint."""
        _ = self._client

    def submit(self, batch: OutBatch) -> Sequence[Result]:
        """One call; more only where a refusal is about one row of several (see the module's text).

        What could not be begun in ``gateway_timeout``, or after a stop, was certainly not taken.

        Raises:
            SetUpError: a credential or the SDK is missing.
            UserError: ``aliyun_endpoint`` is no address that numbers may be sent to.
        """
        client, deadline = self._client, Deadline(self.settings.gateway_timeout)
        self._renew()
        # Aliyun would take these for numbers of the mainland
        results = [
            Result(message.out_id, Answer.REJECTED, "number_outside_mainland")
            for message in batch.messages
            if to_mainland(message.phone) is None
        ]
        todo = [[m for m in batch.messages if to_mainland(m.phone) is not None]]
        stop: Meaning | None = None
        while todo:
            some = todo.pop()
            if not some:
                continue
            if stop or not deadline.may_begin:
                results += [_unsent(message, results) for message in some]
                continue
            what, code, biz_id = self._call(client, batch, some, deadline)
            if what.scope is not Scope.BATCH and len(some) > 1:
                middle = len(some) // 2
                todo += [some[middle:], some[:middle]]
                continue
            if what.answer is Answer.STOP and what.scope is Scope.BATCH:
                stop = what
            if what.scope is Scope.UNKNOWN:
                code = f"?{code}"
            results += [
                Result(message.out_id, what.answer, code, biz_id, what.retry_after)
                for message in some
            ]
        return settle_unknown(results)

    def _call(
        self, client: Any, batch: OutBatch, messages: Sequence[OutMessage], deadline: Deadline
    ) -> tuple[Meaning, str, str | None]:
        """One request: what its answer means, its code, and its BizId."""
        from alibabacloud_dysmsapi20170525 import models

        values = [dict(message.params) for message in messages]
        request = models.SendBatchSmsRequest(
            out_id=self.out_id(batch.batch_id),
            phone_number_json=_json([to_mainland(message.phone) for message in messages]),
            sign_name_json=_json([batch.signature] * len(messages)),
            template_code=batch.template_code,
            template_param_json=_json(values) if any(values) else None,
        )
        try:
            with quiet(_LOGGER), _bounded():
                body = client.send_batch_sms_with_options(request, _runtime(deadline)).body
            code, message = str(body.code or ""), str(body.message or "")
            what = meaning(code, message, 200, datetime.now(UTC))
            if body.biz_id and what.answer is not Answer.ACCEPTED:
                # the id of a call that was taken, so nothing of it may be submitted again
                return Meaning(Answer.IN_DOUBT), "contrary_answers", body.biz_id
            return what, code or "no_code", body.biz_id or body.request_id
        except Exception as error:  # of the SDK; its text holds the request
            return _failed(error)

    def _renew(self) -> None:
        """Close connections of the SDK that were idle for long; it opens new ones."""
        if self._idle.too_long() and "_client" in self.__dict__:
            from darabonba.core import DaraCore

            for session in list(getattr(DaraCore, "_sessions", {}).values()):
                session.close()

    @cached_property
    def _client(self) -> Any:
        try:
            with quiet(_LOGGER):
                from alibabacloud_dysmsapi20170525.client import Client
                from alibabacloud_tea_openapi.utils_models import Config
        except ImportError:
            raise SetUpError(
                "the gateway aliyun needs its SDK: pip install 'usergrowth-dagster[aliyun]'",
                code="machine.missing",
            ) from None
        _hush()
        _bind_sdk()
        scheme, _, host = self._endpoint.rpartition("://")
        not_in_the_clear(f"{scheme or 'https'}://{host}", "aliyun_endpoint")
        return Client(
            Config(
                access_key_id=credential(self.settings.home, "aliyun_access_key_id"),
                access_key_secret=credential(self.settings.home, "aliyun_access_key_secret"),
                endpoint=host.rstrip("/"),
                protocol=scheme or "https",
            )
        )

    def look_up(self, inquiries: Sequence[Inquiry]) -> Sequence[Finding]:
        """Ask for each number's messages of the day and find those of the batch.

        Raises:
            LookUpError: the provider did not answer the first question that it could not answer;
                what was found before it is lost only for now.
            SetUpError: a credential or the SDK is missing.
            UserError: ``aliyun_endpoint`` is no address that numbers may be sent to.
        """
        findings: list[Finding] = []
        deadline = Deadline(self.settings.gateway_timeout)
        self._renew()
        for inquiry in inquiries:
            if not deadline.may_begin:
                break
            try:
                findings.append(self._find(inquiry, deadline))
            except LookUpError:
                if not findings:
                    raise
                break
        return findings

    def _find(self, inquiry: Inquiry, deadline: Deadline) -> Finding:
        mine, number = self.out_id(inquiry.batch_id or ""), to_mainland(inquiry.phone)
        for day in _days(inquiry.submitted_time):
            if number is None:  # it was never sent
                break
            for detail in self._details(number, day, deadline):
                if detail.out_id != mine:
                    continue
                fate = _STATUS.get(detail.send_status, Found.ACCEPTED)
                return Finding(inquiry.out_id, fate, detail.err_code or "", inquiry.request_id)
        return Finding(inquiry.out_id, Found.NOT_FOUND)

    def _details(self, phone: str, day: str, deadline: Deadline) -> Iterator[Any]:
        """The records of one number on one day, page by page."""
        client, page, seen = self._client, 1, 0
        from alibabacloud_dysmsapi20170525 import models

        while True:
            request = models.QuerySendDetailsRequest(
                phone_number=phone, send_date=day, page_size=_PAGE, current_page=page
            )
            try:
                with quiet(_LOGGER), _bounded():
                    body = client.query_send_details_with_options(request, _runtime(deadline)).body
                code = str(body.code or "no_code")
            except Exception as error:
                code = _failed(error)[1]
            if code != "OK":
                raise LookUpError(f"Aliyun answered a look-up with code {code}")
            listed = body.sms_send_detail_dtos
            details = (listed.sms_send_detail_dto or []) if listed else []
            yield from details
            seen += len(details)
            if not details or seen >= clean_number(body.total_count, 0, 1e6, 0):
                return
            if not deadline.may_begin:
                raise LookUpError("Aliyun's list of a number's messages has no end in time")
            page += 1

    def parse_receipts(self, callback: Callback) -> Sequence[Receipt | Unread]:
        """SmsReport: a JSON array, of single and batch messages alike.

        Raises:
            UserError: not such an array.
        """
        return read_reports(callback, self._tokens)

    def parse_replies(self, callback: Callback) -> Sequence[Reply | Unread]:
        """SmsUp: a JSON array, posted to :func:`reply_url`.

        Raises:
            UnsignedError: the address lacks the signature token.
            UserError: not such an array.
        """
        return read_replies(callback, self._tokens)


def _tokens(settings: Settings) -> SignatureTokens:
    return SignatureTokens(settings.home, AliyunGateway.name)


def reply_url(settings: Settings) -> str:
    """The address to enter for SmsUp in the provider's console.

    Raises:
        UserError: ``callback_url`` is not set.
    """
    if not settings.callback_url:
        raise UserError(
            "setting 'callback_url' is needed so that Aliyun can hand replies over",
            code="setting.missing",
        )
    token = _tokens(settings).sign(_REPLIES)
    return f"{settings.callback_url.rstrip('/')}/{AliyunGateway.name}/mo?mark={token}"


def signed_out_id(tokens: SignatureTokens, batch_id: str) -> str:
    """The OutId of a batch (under 256 characters)."""
    return f"{batch_id}.{tokens.sign(batch_id)}"


def _unsent(message: OutMessage, before: Sequence[Result]) -> Result:
    """The answer for a row that was not submitted: stopped if a row before it was, else later."""
    stopped = next((r for r in before if r.answer is Answer.STOP and r.code[:1] != "?"), None)
    return (
        Result(message.out_id, Answer.STOP, stopped.code) if stopped else not_begun(message.out_id)
    )


def _json(values: Sequence[Any]) -> str:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def _runtime(deadline: Deadline) -> Any:
    """One try, within what is left of the time (milliseconds)."""
    from darabonba.runtime import RuntimeOptions

    left = deadline.left
    return RuntimeOptions(
        autoretry=False,
        max_attempts=1,
        connect_timeout=max(int(min(_CONNECT_SECONDS, left) * 1000), 1),
        read_timeout=max(int(left * 1000), 1),
    )


def _failed(error: Exception) -> tuple[Meaning, str, str | None]:
    """What an error of the SDK means: an answer with an HTTP error status, or none at all."""
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        code = str(getattr(error, "code", "") or "")
        message = str(getattr(error, "message", "") or "")
        what = meaning(code, message, status, datetime.now(UTC))
        return what, code or str(status), getattr(error, "request_id", None)
    answer, code = sort_error(error)
    wait = _NO_CONNECTION_WAIT if answer is Answer.DEFERRED else None
    return Meaning(answer, retry_after=wait), code, None


_ours: ContextVar[bool] = ContextVar("ours", default=False)


@contextmanager
def _bounded() -> Iterator[None]:
    """What the SDK connects to meanwhile is under the bounds of our own calls."""
    token = _ours.set(True)
    try:
        yield
    finally:
        _ours.reset(token)


@cache
def _bind_sdk() -> None:
    """Give the SDK's sessions a bounded adapter, where it is this gateway that uses it."""
    from darabonba.core import DaraCore

    from usergrowth_dagster.messaging.gateways.bounded_requests import BoundedAdapter

    usual = DaraCore.get_adapter

    def get_adapter(*args: Any, **named: Any) -> Any:
        return BoundedAdapter() if _ours.get() else usual(*args, **named)

    DaraCore.get_adapter = staticmethod(get_adapter)


def _hush() -> None:
    """Take the SDK's own handler away, which prints every request when DEBUG=sdk is set."""
    import logging

    logger = logging.getLogger(_LOGGER)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.setLevel(logging.WARNING)


def _days(submitted: datetime) -> list[str]:
    """The provider's days that a message submitted then may stand under; none when too long ago."""
    if datetime.now(UTC) - submitted > timedelta(days=_KEPT_DAYS):
        return []
    days = {(submitted + around).astimezone(ZONE) for around in (-_MIDNIGHT, _MIDNIGHT)}
    return sorted({f"{day:%Y%m%d}" for day in days})


def read_reports(callback: Callback, tokens: SignatureTokens) -> Sequence[Receipt | Unread]:
    """The reports of an SmsReport; those about batches of another system are passed over.

    Raises:
        UserError: not a JSON array.
    """

    def read(entry: Entry, where: str) -> Receipt | None:
        batch_id, _, token = str(entry.get("out_id") or "").partition(".")
        if not batch_id.isascii() or not tokens.fits(token, batch_id):
            return None
        phone = from_mainland(text_of(entry, "phone_number", where))
        success = entry.get("success")
        if not isinstance(success, bool):
            raise UserError(f"{where}: 'success' must be true or false", code="callback.malformed")
        return Receipt(
            status=Found.DELIVERED if success else Found.UNDELIVERED,
            request_id=str(entry.get("biz_id") or "") or None,
            phone=phone,
            code=str(entry.get("err_code") or ""),
            time=moment_of(entry, "report_time", ZONE),
            batch_id=batch_id,
        )

    # this address is open: only entries with our token are believed or kept
    entries = [one if isinstance(one, dict) else {} for one in _entries(callback, "SmsReport")]
    return _with_country(read_entries(entries, "SmsReport", read))


def read_replies(callback: Callback, tokens: SignatureTokens) -> Sequence[Reply | Unread]:
    """The replies of an SmsUp, posted to :func:`reply_url`.

    Raises:
        UnsignedError: the address lacks the signature token.
        UserError: not a JSON array.
    """
    if not tokens.fits(callback.query.get("mark", ""), _REPLIES):
        raise UnsignedError(
            "SmsUp: the address lacks the signature token of this home; enter the one that "
            "`usergrowth serve` shows in the provider's console"
        )

    def read(entry: Entry, where: str) -> Reply:
        return Reply(
            phone=from_mainland(text_of(entry, "phone_number", where)),
            content=text_of(entry, "content", where, empty=True),
            signature=str(entry.get("sign_name") or "") or None,
            sequence_id=str(entry.get("sequence_id") or "") or None,
            send_time=moment_of(entry, "send_time", ZONE),
        )

    return _with_country(read_entries(_entries(callback, "SmsUp"), "SmsUp", read))


def _with_country(entries: Sequence[_T | Unread]) -> list[_T | Unread]:
    """Entries that could not be read get their numbers with the country, like the others."""
    return [
        replace(entry, phone=from_mainland(entry.phone))
        if isinstance(entry, Unread) and entry.phone
        else entry
        for entry in entries
    ]


def _entries(callback: Callback, what: str) -> list[Any]:
    entries = read_json(callback.body, what)
    if not isinstance(entries, list):
        raise UserError(f"{what}: expected a JSON array of objects", code="callback.malformed")
    return entries


OF_ONE_ROW = frozenset(
    {
        "isv.MOBILE_NUMBER_ILLEGAL",
        "isv.MOBILE_COUNT_OVER_LIMIT",
        "isv.TEMPLATE_MISSING_PARAMETERS",
        "isv.TEMPLATE_PARAMS_ILLEGAL",
        "isv.INVALID_JSON_PARAM",
        "isv.INVALID_PARAMETERS",
        "isv.PARAM_LENGTH_LIMIT",
        "isv.PARAM_NOT_SUPPORT_URL",
        "isv.BLACK_KEY_CONTROL_LIMIT",
        "isv.SMS_CONTENT_ILLEGAL",
        "isv.CONTENT_KEYWORD",
        "isv.DOMESTIC_NUMBER_NOT_SUPPORTED",
    }
)
"""Refusals because of one recipient's number or values."""

OF_EVERYTHING = frozenset(
    {
        "isv.AMOUNT_NOT_ENOUGH",
        "isv.OUT_OF_SERVICE",
        "isv.ACCOUNT_ABNORMAL",
        "isv.ACCOUNT_NOT_EXISTS",
        "isv.PRODUCT_UN_SUBSCRIPT",
        "isv.PRODUCT_UNSUBSCRIBE",
        "isp.RAM_PERMISSION_DENY",
        "isv.DENY_IP_RANGE",
        "isv.EXTEND_CODE_ERROR",
        "isv.SMS_SIGNATURE_ILLEGAL",
        "isv.SMS_SIGN_ILLEGAL",
        "isv.SIGN_STATE_ILLEGAL",
        "isv.SMS_SIGNATURE_SCENE_ILLEGAL",
        "isv.SMS_TEMPLATE_ILLEGAL",
    }
)
"""Refusals because of the account, the signature or the template: no message would be taken."""

_DAY = "isv.DAY_LIMIT_CONTROL"
_MONTH = "isv.MONTH_LIMIT_CONTROL"
_NUMBER = "isv.BUSINESS_LIMIT_CONTROL"
_THROTTLE = 10.0
_NUMBER_WAITS = (("分钟", 60.0), ("minute", 60.0), ("天", 21_600.0), ("day", 21_600.0))
_HOUR = 3600.0


def meaning(code: str, message: str, status: int, now: datetime) -> Meaning:
    """Sort one answer of the provider.

    Args:
        code: its code; "" when it has none.
        message: its sentence, which names minute, hour or day for the limit of a number.
        status: the HTTP status.
        now: an aware time, for limits that end with the day or the month.
    """
    if code == "OK":
        return Meaning(Answer.ACCEPTED if status == 200 else Answer.IN_DOUBT)
    if code == _DAY:
        return Meaning(Answer.DEFERRED, retry_after=seconds_to_next(now, month=False))
    if code == _MONTH:
        return Meaning(Answer.DEFERRED, retry_after=seconds_to_next(now, month=True))
    if code == _NUMBER:
        waits = (seconds for word, seconds in _NUMBER_WAITS if word in message.lower())
        return Meaning(Answer.DEFERRED, Scope.ROW, next(waits, _HOUR))
    if code.startswith("Throttling") or status == 429:
        return Meaning(Answer.DEFERRED, retry_after=_THROTTLE)
    if code in OF_ONE_ROW:
        return Meaning(Answer.REJECTED, Scope.ROW)
    if code in OF_EVERYTHING:
        return Meaning(Answer.STOP)
    if code.startswith("isv."):
        return Meaning(Answer.STOP, Scope.UNKNOWN)
    if 400 <= status < 500 and not code.startswith("isp."):
        return Meaning(Answer.STOP)  # refused before it came to the service
    return Meaning(Answer.IN_DOUBT)


def seconds_to_next(now: datetime, *, month: bool) -> float:
    """Seconds until the provider's next day or month begins.

    >>> from datetime import UTC
    >>> seconds_to_next(datetime(2026, 1, 31, 15, tzinfo=UTC), month=True)
    3600.0
    """
    local = now.astimezone(ZONE)
    start = local.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    while month and start.day != 1:
        start += timedelta(days=1)
    return (start - local).total_seconds()
