"""Error codes of Aliyun's SMS service, sorted by what to do about them.

The names are those of the service's own list of error codes. ``isv.…`` is a mistake of the caller
and ``isp.…`` trouble at the provider: with the first nothing was taken. A code of the gateway in
front of the service has no such prefix (``Throttling.User``, ``InvalidAccessKeyId.NotFound`` …).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from zoneinfo import ZoneInfo

from usergrowth_dagster.messaging.gateways.protocol import Answer

ZONE = ZoneInfo("Asia/Shanghai")
"""The provider's days and times."""

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
        *("isv.AMOUNT_NOT_ENOUGH", "isv.OUT_OF_SERVICE"),
        *("isv.ACCOUNT_ABNORMAL", "isv.ACCOUNT_NOT_EXISTS"),
        *("isv.PRODUCT_UN_SUBSCRIPT", "isv.PRODUCT_UNSUBSCRIBE"),
        *("isp.RAM_PERMISSION_DENY", "isv.DENY_IP_RANGE", "isv.EXTEND_CODE_ERROR"),
        *("isv.SMS_SIGNATURE_ILLEGAL", "isv.SMS_SIGN_ILLEGAL", "isv.SIGN_STATE_ILLEGAL"),
        *("isv.SMS_SIGNATURE_SCENE_ILLEGAL", "isv.SMS_TEMPLATE_ILLEGAL"),
    }
)
"""Refusals because of the account, the signature or the template: no message would be taken."""

_DAY = "isv.DAY_LIMIT_CONTROL"
_MONTH = "isv.MONTH_LIMIT_CONTROL"
_NUMBER = "isv.BUSINESS_LIMIT_CONTROL"
_THROTTLE = 10.0
_NUMBER_WAITS = (("分钟", 60.0), ("minute", 60.0), ("天", 21_600.0), ("day", 21_600.0))
_HOUR = 3600.0


class Scope(Enum):
    """Whom an answer to a batch is about."""

    BATCH = "batch"
    ROW = "row"  # one of the rows, not told which
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Meaning:
    """What a code means: the answer, whom it is about, and seconds to wait when it is deferred."""

    answer: Answer
    scope: Scope = Scope.BATCH
    retry_after: float | None = None


def meaning(code: str, message: str, status: int, now: datetime) -> Meaning:
    """Sort one answer of the provider.

    Args:
        code: its code; "" when it has none.
        message: its sentence, which tells minute, hour or day for the limit of a number.
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
