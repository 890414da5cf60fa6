"""What Aliyun posts to us: delivery reports (SmsReport) and replies (SmsUp), as JSON arrays.

A report brings back the OutId that its batch was sent with: the batch's id and a mark of this home.
Reports of another system on the same account, whose OutId was not made here, are passed over. The
provider signs nothing, so the address for SmsUp holds a mark as well (:func:`reply_url`).

Times without an offset are in Shanghai's time.
"""

import hmac
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.gateways.aliyun_codes import ZONE
from usergrowth_dagster.messaging.gateways.aliyun_numbers import from_aliyun
from usergrowth_dagster.messaging.gateways.marks import Marks
from usergrowth_dagster.messaging.gateways.posted import (
    Entry,
    moment_of,
    read_entries,
    text_of,
)
from usergrowth_dagster.messaging.gateways.protocol import (
    Callback,
    Found,
    Receipt,
    Reply,
    Unread,
    UnsignedError,
)
from usergrowth_dagster.messaging.gateways.wire import read_json
from usergrowth_dagster.settings import Settings

_T = TypeVar("_T", Receipt, Reply)
_REPLIES = "replies"


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
    mark = Marks(settings.home, "aliyun").mark(_REPLIES)
    return f"{settings.callback_url.rstrip('/')}/aliyun/mo?mark={mark}"


def mark_batch(marks: Marks, batch_id: str) -> str:
    """The OutId of a batch (under 256 characters)."""
    return f"{batch_id}.{marks.mark(batch_id)}"


def read_reports(callback: Callback, marks: Marks) -> Sequence[Receipt | Unread]:
    """The reports of an SmsReport; those about batches of another system are passed over.

    Raises:
        UserError: not a JSON array.
    """

    def read(entry: Entry, where: str) -> Receipt | None:
        batch_id, _, mark = str(entry.get("out_id") or "").partition(".")
        if not batch_id.isascii() or not _same(mark, marks.mark(batch_id)):
            return None
        phone = from_aliyun(text_of(entry, "phone_number", where))
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

    # this address is open: only entries with our mark are believed or kept
    entries = [one if isinstance(one, dict) else {} for one in _entries(callback, "SmsReport")]
    return _with_country(read_entries(entries, "SmsReport", read))


def read_replies(callback: Callback, marks: Marks) -> Sequence[Reply | Unread]:
    """The replies of an SmsUp, posted to :func:`reply_url`.

    Raises:
        UnsignedError: the address has not the mark.
        UserError: not a JSON array.
    """
    if not _same(callback.query.get("mark", ""), marks.mark(_REPLIES)):
        raise UnsignedError(
            "SmsUp: the address has not the mark of this home; enter the one that "
            "`usergrowth serve` shows in the provider's console"
        )

    def read(entry: Entry, where: str) -> Reply:
        return Reply(
            phone=from_aliyun(text_of(entry, "phone_number", where)),
            content=text_of(entry, "content", where, empty=True),
            signature=str(entry.get("sign_name") or "") or None,
            sequence_id=str(entry.get("sequence_id") or "") or None,
            send_time=moment_of(entry, "send_time", ZONE),
        )

    return _with_country(read_entries(_entries(callback, "SmsUp"), "SmsUp", read))


def _with_country(entries: Sequence[_T | Unread]) -> list[_T | Unread]:
    """Entries that could not be read get their numbers with the country, like the others."""
    return [
        replace(one, phone=from_aliyun(one.phone)) if isinstance(one, Unread) and one.phone else one
        for one in entries
    ]


def _same(mark: str, right: str) -> bool:
    return hmac.compare_digest(mark.encode("utf-8", "replace"), right.encode())


def _entries(callback: Callback, what: str) -> list[Any]:
    entries = read_json(callback.body, what)
    if not isinstance(entries, list):
        raise UserError(f"{what}: expected a JSON array of objects", code="callback.malformed")
    return entries
