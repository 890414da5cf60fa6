"""What gateways that speak HTTP share: silence in logs, time limits, what an error proves."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.gateways.protocol import Answer, Result

_LOGGERS = (
    "httpcore.connection",
    "httpcore.http11",
    "httpcore.http2",
    "httpcore.proxy",
    "httpx",
    "requests",
    "urllib3.connection",
    "urllib3.connectionpool",
    "urllib3.poolmanager",
    "urllib3.util.retry",
)
_RESERVE = 0.25
_IDLE_SECONDS = 10.0
_silent: ContextVar[bool] = ContextVar("silent", default=False)


def _speaks(record: logging.LogRecord) -> bool:
    return not _silent.get()


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Nothing that the libraries under a provider's call log is let through, at any level.

    Their records hold addresses with numbers. It holds for the thread that enters it; other users
    of the same libraries in this process log as before.

    Args:
        loggers: those of the provider's SDK, beside those of the HTTP libraries.
    """
    for name in (*_LOGGERS, *loggers):
        logger = logging.getLogger(name)
        if _speaks not in logger.filters:
            logger.addFilter(_speaks)
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


class LookUpError(Exception):
    """The provider could not say what became of messages; its text holds no number."""


class Deadline:
    """The seconds that one call of a gateway may take in all, however many requests it needs."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until the end, at least a hundredth."""
        return max(self._end - time.monotonic(), 0.01)

    @property
    def may_begin(self) -> bool:
        """Whether enough is left to begin another request: a quarter of all."""
        return self.left >= _RESERVE * self._seconds


class Idle:
    """Knows when connections have been idle for so long that they may be dead without a sign.

    A router on the way may have forgotten such a connection. What is written into it gets no
    answer, and would be in doubt for nothing: a new one costs less.
    """

    def __init__(self) -> None:
        self._used = -_IDLE_SECONDS

    def too_long(self) -> bool:
        """Whether the last use was long ago; this is a use."""
        last, self._used = self._used, time.monotonic()
        return self._used - last > _IDLE_SECONDS


def not_begun(out_id: str) -> Result:
    """The answer for a message that there was no time for."""
    return Result(out_id, Answer.DEFERRED, "not_begun", retry_after=1.0)


def sort_error(error: BaseException) -> tuple[Answer, str]:
    """What a failed request proves, and the code to keep.

    DEFERRED where no connection came about, so nothing was said; STOP where the provider's
    certificate is not trusted; else IN_DOUBT. The chain of causes is read, since the SDKs wrap the
    errors of requests and urllib3.
    """
    import ssl

    chain = list(_chain(error))
    names = {type(cause).__name__ for cause in chain}
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in chain):
        return Answer.STOP, "certificate_not_trusted"
    if names & _NO_CONNECTION:
        return Answer.DEFERRED, "no_connection"
    if any("Timeout" in name for name in names):
        return Answer.IN_DOUBT, "timeout"
    unread = any(isinstance(cause, ValueError) for cause in chain)  # such as JSONDecodeError
    return Answer.IN_DOUBT, "unreadable_answer" if unread else "connection_lost"


_NO_CONNECTION = frozenset(
    {"NewConnectionError", "ConnectTimeoutError", "NameResolutionError"}  # urllib3
    | {"ConnectTimeout", "ConnectError", "PoolTimeout"}  # requests and httpx
)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and everything that it wraps, each once."""
    todo: list[BaseException] = [error]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = [one.__cause__, one.__context__, getattr(one, "inner_exception", None)]
        inner += [getattr(one, "reason", None), *one.args]
        todo += [each for each in inner if isinstance(each, BaseException)]


def not_in_the_clear(url: str, setting: str) -> None:
    """Refuse an address to which numbers or a password would travel unencrypted.

    Machines without a public name (this one, a neighbor in the same network) are let through.

    Raises:
        UserError: the setting's address is neither https nor of such a machine.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        host = ""
    if not host or parts.scheme not in ("http", "https"):
        raise UserError(
            f"setting {setting!r} must begin with http:// or https://", code="setting.invalid"
        )
    if parts.scheme == "http" and not is_near(host):
        raise UserError(
            f"setting {setting!r}: numbers would go to {host} in the clear; use https://",
            code="setting.invalid",
        )


def is_near(host: str) -> bool:
    """Whether a host is this machine, or one without a public name."""
    try:
        return ip_address(host).is_private
    except ValueError:
        return "." not in host


def read_json(body: bytes, what: str) -> Any:
    """A body's JSON.

    Raises:
        UserError: it is none; the body is not quoted, since it may hold numbers.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise UserError(f"{what}: the body is not valid JSON", code="callback.malformed") from None


def settle_unknown(results: list[Result]) -> list[Result]:
    """Decide about refusals with a code that is not known, marked by a ``?`` before it.

    Nothing was taken, but is it the row's fault or the campaign's? When another message of the
    same batch was taken it is the row's: it is rejected. Otherwise the campaign stops.
    """
    some_pass = any(result.answer is Answer.ACCEPTED for result in results)
    return [
        result
        if not result.code.startswith("?")
        else Result(result.out_id, Answer.REJECTED if some_pass else Answer.STOP, result.code[1:])
        for result in results
    ]
