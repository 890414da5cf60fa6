"""The dry run: a batch is appended to ``<home>/outbox/<schedule>/<occurrence>.jsonl``.

One JSON object a line and message: out_id, batch_id, schedule, occurrence, channel, user_id, phone,
signature, subject, template_code, template_type, params, text, segments, submitted_time. The file
is the delivery, so it holds the **real numbers**; it is made with mode 0600 in folders of mode
0700. It is synced to disk before the batch counts as accepted.
"""

import fcntl
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
from typing import IO, Any, Self

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.gateways.posted import Entry, moment_of, read_entries, text_of
from usergrowth_dagster.messaging.gateways.protocol import (
    Answer,
    Brings,
    Callback,
    Finding,
    Found,
    Gateway,
    Inquiry,
    OutBatch,
    Receipt,
    Reply,
    Result,
    Unread,
)
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.settings.gateways import DRY_RUN

_UNSAFE = re.compile(r"[/\\%\x00-\x1f\x7f]|^\.")


def file_name(name: str) -> str:
    """A name as one plain part of a path; different names stay different.

    >>> [file_name(name) for name in ("冬季 send", "a/b", "..")]
    ['冬季 send', 'a%2Fb', '%2E.']
    """
    return _UNSAFE.sub(lambda match: f"%{ord(match.group()):02X}", name)


class FileGateway(Gateway):
    """Accepts every message by writing it down.

    Args:
        home: the product's home folder.
        below: a folder below the outbox for the files, such as those of a rehearsal.
    """

    name = DRY_RUN
    channels = ("sms", "email")
    looks_up = "yes: the file"

    def __init__(self, home: Path, below: Path | None = None) -> None:
        self.outbox = home / "outbox" / (below or "")
        parents = self.outbox.parents
        self._folders = [one for one in reversed(parents) if one.is_relative_to(home / "outbox")]

    @classmethod
    def make(cls, settings: Settings) -> Self:
        """The dry run of a home."""
        return cls(settings.home)

    @classmethod
    def proves_origin(cls, brings: Brings, callback: Callback) -> bool:
        """Nothing signs what is posted by hand."""
        return False

    @classmethod
    def callback_addresses(cls, settings: Settings, root: str) -> Sequence[tuple[str, str]]:
        """Where delivery can be tried by hand."""
        with_token = f"{root}/{cls.name}/<callback_token>"
        return [
            (f"{cls.name} receipts", f"{with_token}/dlr"),
            (f"{cls.name} replies", f"{with_token}/mo"),
        ]

    def path(self, schedule: str, occurrence: str) -> Path:
        """The file of one occurrence."""
        return self.outbox / file_name(schedule) / f"{file_name(occurrence)}.jsonl"

    def submit(self, batch: OutBatch) -> Sequence[Result]:
        """Append the batch's lines and sync them; all are accepted."""
        shared = {
            "batch_id": batch.batch_id,
            "schedule": batch.schedule,
            "occurrence": batch.occurrence,
            "channel": batch.channel,
            "signature": batch.signature,
            "subject": batch.subject,
            "template_code": batch.template_code,
            "template_type": batch.template_type,
            "submitted_time": batch.submitted_time.isoformat(),
        }
        lines = [
            json.dumps(
                {
                    "out_id": message.out_id,
                    "user_id": message.user_id,
                    "phone": message.phone,
                    "text": message.text,
                    "params": dict(message.params),
                    "segments": message.segments,
                    **shared,
                },
                ensure_ascii=False,
            )
            for message in batch.messages
        ]
        with self._locked(self.path(batch.schedule, batch.occurrence)) as file:
            file.write("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass"))
            file.flush()
            os.fsync(file.fileno())
        request = f"file-{batch.batch_id}"
        return [
            Result(message.out_id, Answer.ACCEPTED, "OK", request) for message in batch.messages
        ]

    @contextmanager
    def _locked(self, path: Path) -> Iterator[IO[bytes]]:
        """The file, open at its end, ours alone; a line torn by a crash is cut off first."""
        for folder in (*self._folders, self.outbox, path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(handle, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = file.seek(0, os.SEEK_END)
            if end:
                file.truncate(_after_last_line(file, end))
                file.seek(0, os.SEEK_END)
            yield file

    def look_up(self, inquiries: Sequence[Inquiry]) -> Sequence[Finding]:
        """Whether each message stands, whole, in its file."""
        by_file: dict[Path, set[str]] = defaultdict(set)
        for inquiry in inquiries:
            by_file[self.path(inquiry.schedule, inquiry.occurrence)].add(inquiry.out_id)
        requests: dict[str, str] = {}
        for path, wanted in by_file.items():
            for line in _whole_lines(path):
                if (out_id := line.get("out_id")) in wanted:
                    requests[out_id] = f"file-{line.get('batch_id')}"
        return [
            Finding(i.out_id, Found.ACCEPTED, "OK", requests[i.out_id])
            if i.out_id in requests
            else Finding(i.out_id, Found.NOT_FOUND)
            for i in inquiries
        ]

    def parse_receipts(self, callback: Callback) -> Sequence[Receipt | Unread]:
        """A JSON array of ``{"out_id", "success", "err_code", "report_time"}``.

        The keys are those of the SmsReport callback, so that delivery can be tried by hand.

        Raises:
            UserError: not such an array.
        """
        return read_entries(_entries(callback, "receipts"), "receipts", _receipt)

    def parse_replies(self, callback: Callback) -> Sequence[Reply | Unread]:
        """A JSON array of ``{"phone_number", "content", "sign_name", "sequence_id", "send_time"}``.

        The keys are those of the SmsUp callback; the last three may be missing.

        Raises:
            UserError: not such an array.
        """
        return read_entries(_entries(callback, "replies"), "replies", _reply)


def _entries(callback: Callback, what: str) -> list[Any]:
    try:
        entries = json.loads(callback.body)
    except (ValueError, RecursionError):  # its sentence could quote a number
        raise UserError(f"{what}: the body is not valid JSON", code="callback.malformed") from None
    if not isinstance(entries, list):
        raise UserError(f"{what}: expected a JSON array of objects", code="callback.malformed")
    return entries


def _receipt(entry: Entry, where: str) -> Receipt:
    if not isinstance(entry.get("success"), bool):
        raise UserError(f"{where}: 'success' must be true or false", code="callback.malformed")
    return Receipt(
        status=Found.DELIVERED if entry["success"] else Found.UNDELIVERED,
        out_id=text_of(entry, "out_id", where, empty=True),
        code=str(entry.get("err_code") or ""),
        time=moment_of(entry, "report_time", UTC),
    )


def _reply(entry: Entry, where: str) -> Reply:
    return Reply(
        phone=text_of(entry, "phone_number", where),
        content=text_of(entry, "content", where, empty=True),
        signature=str(entry.get("sign_name") or "") or None,
        sequence_id=str(entry.get("sequence_id") or "") or None,
        send_time=moment_of(entry, "send_time", UTC),
    )


def _after_last_line(file: IO[bytes], end: int) -> int:
    """Offset just after the last line break."""
    position = end
    while position:
        start = max(0, position - 65_536)
        file.seek(start)
        offset = file.read(position - start).rfind(b"\n")
        if offset >= 0:
            return start + offset + 1
        position = start
    return 0


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield json.loads(line)
    except FileNotFoundError:
        return
