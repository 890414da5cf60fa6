"""What Aliyun posts to us: delivery reports (SmsReport) and replies (SmsUp), as JSON arrays.

A report brings back the OutId that its batch was sent with: the batch's id and a mark of this home.
Reports of another system on the same account, whose OutId was not made here, are passed over. The
provider signs nothing, so the address for SmsUp holds a mark as well (:func:`reply_url`).

Times without an offset are in Shanghai's time.
"""

import hmac
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.gateways.aliyun_codes import ZONE
from usergrowth_dagster.messaging.gateways.marks import Marks
from usergrowth_dagster.messaging.gateways.protocol import (
    Callback,
    Found,
    Receipt,
    Reply,
    UnsignedError,
)
from usergrowth_dagster.messaging.gateways.wire import read_json
from usergrowth_dagster.settings import Settings

_REPLIES = "replies"


def reply_url(settings: Settings) -> str:
    """The address to enter for SmsUp in the provider's console.

    Raises:
        UserError: ``callback_url`` is not set.
    """
    if not settings.callback_url:
        raise UserError("setting 'callback_url' is needed so that Aliyun can hand replies over")
    mark = Marks(settings.home, "aliyun").mark(_REPLIES)
    return f"{settings.callback_url.rstrip('/')}/aliyun/mo?mark={mark}"


def mark_batch(marks: Marks, batch_id: str) -> str:
    """The OutId of a batch (under 256 characters)."""
    return f"{batch_id}.{marks.mark(batch_id)}"


def read_reports(callback: Callback, marks: Marks) -> Sequence[Receipt]:
    """The reports of an SmsReport that are about batches of this home.

    Raises:
        UserError: not such an array.
    """
    receipts = []
    for number, entry in _entries(callback, "SmsReport"):
        where = f"SmsReport: entry {number}"
        phone, success = _text(entry, "phone_number", where), entry.get("success")
        if not isinstance(success, bool):
            raise UserError(f"{where}: 'success' must be true or false")
        batch_id, _, mark = str(entry.get("out_id") or "").partition(".")
        if not batch_id.isascii() or not _same(mark, marks.mark(batch_id)):
            continue
        receipts.append(
            Receipt(
                status=Found.DELIVERED if success else Found.UNDELIVERED,
                request_id=str(entry.get("biz_id") or "") or None,
                phone=phone,
                code=str(entry.get("err_code") or ""),
                time=_moment(entry, "report_time", where),
                batch_id=batch_id,
            )
        )
    return receipts


def read_replies(callback: Callback, marks: Marks) -> Sequence[Reply]:
    """The replies of an SmsUp, posted to :func:`reply_url`.

    Raises:
        UnsignedError: the address has not the mark.
        UserError: not such an array.
    """
    if not _same(callback.query.get("mark", ""), marks.mark(_REPLIES)):
        raise UnsignedError(
            "SmsUp: the address has not the mark of this home; enter the one that "
            "`usergrowth serve` shows in the provider's console"
        )
    replies = []
    for number, entry in _entries(callback, "SmsUp"):
        where = f"SmsUp: entry {number}"
        replies.append(
            Reply(
                phone=_text(entry, "phone_number", where),
                content=_text(entry, "content", where, empty=True),
                signature=str(entry.get("sign_name") or "") or None,
                sequence_id=str(entry.get("sequence_id") or "") or None,
                send_time=_moment(entry, "send_time", where),
            )
        )
    return replies


def _same(mark: str, right: str) -> bool:
    return hmac.compare_digest(mark.encode("utf-8", "replace"), right.encode())


def _entries(callback: Callback, what: str) -> Iterator[tuple[int, dict[str, Any]]]:
    entries = read_json(callback.body, what)
    if not isinstance(entries, list):
        raise UserError(f"{what}: expected a JSON array of objects")
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict):
            raise UserError(f"{what}: entry {number} must be an object")
        yield number, entry


def _text(entry: dict[str, Any], key: str, where: str, *, empty: bool = False) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not (value or empty):
        raise UserError(f"{where}: {key!r} must be a text")
    return value


def _moment(entry: dict[str, Any], key: str, where: str) -> datetime | None:
    value = entry.get(key)
    if value in (None, ""):
        return None
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise UserError(f"{where}: {key!r} must be a time such as 2026-01-01 10:00:00") from None
    return found if found.tzinfo else found.replace(tzinfo=ZONE)
