"""The one place where what a provider returns is made fit for the ledger, a log and a page.

Every answer, finding, report and reply passes through here before it is used, whatever gateway it
came from. A provider may send lone surrogates, NUL, control and direction characters, megabytes,
NaN, numbers of any size and values of any type. None of these raises an error: text is cut and
cleaned, and a number that makes no sense is replaced by a default.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from usergrowth_dagster.addresses.shown import hide_numbers
from usergrowth_dagster.messaging.gateways.protocol import (
    Answer,
    Finding,
    Found,
    Receipt,
    Reply,
    Result,
)

CODE_SIZE = 128
"""Characters of a code or a request id that the ledger holds."""
OUT_ID_SIZE = 256
ADDRESS_SIZE = 320
CONTENT_SIZE = 10_000
LONGEST_WAIT = 32 * 86_400.0
"""Seconds; the longest wait that a provider may ask for: a monthly limit."""
_LONG_BITS = 1_000
_YEARS = range(2000, 2101)
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]"
)
_LINE_END = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_FIT = re.compile("[!-~]*")
"""A text that cleaning leaves as it is, apart from its length: printable ASCII without spaces."""
_FIT_CODE = re.compile("[!-?A-~]{0,7}")
"""A code that besides holds neither a number of eight digits nor an e-mail address."""
_ROW_ID = re.compile("[1-9][0-9]{0,18}")
"""An id of ours as we write it: no other writing of it is equal to it."""


def clean_text(value: object, size: int, *, lines: bool = False) -> str:
    r"""A text of at most ``size`` characters that any database, log and page can hold.

    Lone surrogates become U+FFFD; NUL, control and direction characters are left out. With
    ``lines``, controls become spaces and every line end a newline, so that no two words join.
    Bytes are read as UTF-8, and finite numbers of up to 300 digits are written out; every other
    value is the empty text.

    Args:
        value: what the provider returned.
        size: most characters. The value is cut first, so that a huge one costs nothing.
        lines: whether line ends and tabs are kept; otherwise white space is folded to one space.

    >>> clean_text("a\x00b\ud800\r\n c", 10)
    'ab\ufffd c'
    """
    if type(value) is str and len(value) <= size and _FIT.fullmatch(value):
        return value
    if isinstance(value, bytes | bytearray):
        value = bytes(value[: 16 * size]).decode("utf-8", "replace")
    elif isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    elif isinstance(value, int):
        value = str(value) if value.bit_length() <= _LONG_BITS else ""
    elif isinstance(value, float):
        value = str(value) if math.isfinite(value) else ""
    text = _SURROGATE.sub("\ufffd", value[: 4 * size])
    text = _CONTROL.sub(" ", _LINE_END.sub("\n", text)) if lines else " ".join(text.split())
    return _UNFIT.sub("", text)[:size].strip()


def clean_code(value: object) -> str:
    """A provider's code for logs and alerts: numbers of eight digits or more, and e-mail addresses,
    are masked.

    >>> clean_code("30034"), clean_code("no route to +12125550128")
    ('30034', 'no route to +121******28')
    """
    if type(value) is str and _FIT_CODE.fullmatch(value):
        return value
    return hide_numbers(clean_text(value, CODE_SIZE), digits=8)


def clean_id(value: object, size: int) -> str | None:
    r"""An id as it was given, or None; what is unfit becomes U+FFFD, so that it stays another id.

    >>> clean_id(" 31", 10), clean_id("31\x00", 10), clean_id(31, 10), clean_id("", 10)
    (' 31', '31\ufffd', '31', None)
    """
    if not isinstance(value, str):
        return clean_text(value, size) or None
    if type(value) is str and len(value) <= size and _FIT.fullmatch(value):
        return value or None
    return _UNFIT.sub("\ufffd", _SURROGATE.sub("\ufffd", value[:size])) or None


def clean_number(value: object, low: float, high: float, default: float) -> float:
    """A finite number within ``low`` and ``high``; ``default`` for what is no number.

    Numbers out of range become the nearest bound, infinity included. NaN, booleans, texts that are
    no number, and every other type are no numbers.

    >>> clean_number("1e999", 1, 60, 30), clean_number(float("nan"), 1, 60, 30)
    (60.0, 30.0)
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return float(default)
    if isinstance(value, str) and len(value) > 64:
        return float(default)
    try:
        number = float(value)
    except ValueError:
        return float(default)
    except OverflowError:  # an integer that no float holds
        number = math.inf if isinstance(value, int) and value > 0 else -math.inf
    return float(default) if math.isnan(number) else float(min(max(number, low), high))


def clean_time(value: object) -> datetime | None:
    """A time of this century, in UTC where it has no zone, or None."""
    if not isinstance(value, datetime) or value.year not in _YEARS:
        return None
    try:
        return value.replace(tzinfo=UTC) if value.utcoffset() is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def clean_result(result: Result) -> Result:
    """An answer with clean fields; one whose meaning is not known is in doubt."""
    wait = result.retry_after
    return Result(
        clean_text(result.out_id, OUT_ID_SIZE),
        _answer(result.answer),
        clean_code(result.code),
        clean_id(result.request_id, CODE_SIZE),
        None if wait is None else clean_number(wait, 0.0, LONGEST_WAIT, 0.0) or None,
        result.opted_out is True,
    )


def clean_finding(finding: Finding) -> Finding:
    """A finding with clean fields; one whose meaning is not known counts as not found."""
    return Finding(
        clean_text(finding.out_id, OUT_ID_SIZE),
        _clean_status(finding.found),
        clean_code(finding.code),
        clean_id(finding.request_id, CODE_SIZE),
    )


def clean_receipt(receipt: Receipt) -> Receipt:
    """A report with clean fields; None for those that hold nothing."""
    return replace(
        receipt,
        status=_clean_status(receipt.status),
        out_id=clean_id(receipt.out_id, OUT_ID_SIZE),
        request_id=clean_id(receipt.request_id, CODE_SIZE),
        phone=clean_text(receipt.phone, ADDRESS_SIZE) or None,
        code=clean_code(receipt.code),
        time=clean_time(receipt.time),
        batch_id=clean_id(receipt.batch_id, OUT_ID_SIZE),
        opted_out=receipt.opted_out is True,
    )


def clean_reply(reply: Reply) -> Reply:
    """A reply with clean fields; its content keeps its lines."""
    return Reply(
        clean_text(reply.phone, ADDRESS_SIZE),
        clean_text(reply.content, CONTENT_SIZE, lines=True),
        clean_text(reply.signature, CODE_SIZE) or None,
        clean_id(reply.sequence_id, CODE_SIZE),
        clean_time(reply.send_time),
    )


def one_answer_each(out_ids: Iterable[str], results: object) -> dict[str, Result]:
    """The answer for each message that was asked for, by its id as it was given.

    A message without an answer is in doubt, and so is one with contrary answers: the provider may
    have taken it. Answers that agree count once. Answers for other ids are passed over.

    Args:
        out_ids: the messages of the call.
        results: what the gateway returned, supposed to be :class:`Result` objects.
    """
    asked = list(out_ids)
    listed = results if isinstance(results, Sequence) else ()
    plain = {one.out_id: one for one in listed if _is_plain(one)}
    if list(plain) == asked and len(listed) == len(asked):
        return plain
    given: dict[str, list[Result]] = {}
    for result in listed:
        if isinstance(result, Result):
            one = clean_result(result)
            given.setdefault(_same_id(one.out_id), []).append(one)
    return {out_id: _agreed(out_id, given.get(_same_id(out_id), [])) for out_id in asked}


def _is_plain(result: object) -> bool:
    """Whether something is an answer for a row that cleaning would leave as it is.

    Nearly all are, and to see that takes a third of the time of cleaning.
    """
    if type(result) is not Result:
        return False
    out_id, code, wait = result.out_id, result.code, result.retry_after
    request_id = result.request_id
    return (
        type(result.answer) is Answer
        and type(result.opted_out) is bool
        and (wait is None or (type(wait) is float and 0.0 < wait <= LONGEST_WAIT))
        and (type(out_id) is str and _ROW_ID.fullmatch(out_id) is not None)
        and (type(code) is str and _FIT_CODE.fullmatch(code) is not None)
        and (request_id is None or clean_id(request_id, CODE_SIZE) is request_id)
    )


def one_finding_each(out_ids: Iterable[str], findings: object) -> dict[str, Finding]:
    """What the provider knows about each message that was asked for; see :func:`one_answer_each`.

    Messages without a finding, or with contrary ones, are missing: they stay in doubt.
    """
    given: dict[str, list[Finding]] = {}
    for finding in findings if isinstance(findings, Sequence) else ():
        if isinstance(finding, Finding):
            one = clean_finding(finding)
            given.setdefault(_same_id(one.out_id), []).append(one)
    agreed = {}
    for out_id in out_ids:
        by_fate = {one.found: one for one in given.get(_same_id(out_id), [])}
        if by_fate.keys() & {Found.DELIVERED, Found.UNDELIVERED}:
            by_fate.pop(Found.ACCEPTED, None)  # a step on the way, not a contrary finding
        if len(by_fate) == 1:
            (one,) = by_fate.values()
            if one.found is not Found.NOT_FOUND:
                agreed[out_id] = replace(one, out_id=out_id)
    return agreed


def _agreed(out_id: str, results: list[Result]) -> Result:
    if not results:
        return Result(out_id, Answer.IN_DOUBT, "no_answer")
    refused = any(result.opted_out for result in results)
    if len({result.answer for result in results}) > 1:
        known = next((result.request_id for result in results if result.request_id), None)
        return Result(out_id, Answer.IN_DOUBT, "contrary_answers", known, opted_out=refused)
    one = results[0]
    if one.out_id == out_id and one.opted_out == refused:
        return one
    return replace(one, out_id=out_id, opted_out=refused)


def _same_id(out_id: str) -> str:
    """What is equal for two writings of one id, such as ``31``, ``031`` and ``+31``."""
    if out_id.isascii() and out_id.isdigit() and out_id[0] != "0":
        return out_id
    digits = out_id.removeprefix("+")
    return digits.lstrip("0") or "0" if digits.isascii() and digits.isdigit() else out_id


def _answer(value: object) -> Answer:
    if type(value) is Answer:
        return value
    try:
        return Answer(value)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return Answer.IN_DOUBT


def _clean_status(value: object) -> Found:
    try:
        return Found(value)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return Found.NOT_FOUND
