"""E-mails that come back: delivery status notifications (RFC 3464) and replies.

Strangers post them, so they are read within bounds of time and depth. What is read is cut before it
is parsed: a refusal, a status and the signed id of an e-mail of ours stand near the top. The parser
is Python's own without the header objects of its newer policies, whose grammar takes minutes for a
hostile header.
"""

import binascii
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes
from email.errors import HeaderParseError, MessageError
from email.header import decode_header, make_header
from email.message import Message
from email.policy import Compat32
from email.utils import parseaddr, parsedate_to_datetime
from html import unescape
from typing import cast

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.gateways.protocol import Found, Reply
from usergrowth_dagster.messaging.texts.refusals import Action, Words, action_of, built_in_words

Mail = Message
MOST_BYTES = 256 << 10
"""Bytes of an e-mail that are parsed."""

_MOST_LINES = 20_000
_MOST_PARTS = 200
_MOST_LEVELS = 20
_HEADER_LINES, _HEADER_SIZE = 30, 2_000
_TEXT_SIZE = 10_000
_PART = re.compile(rb"^--", re.MULTILINE)
_LEVEL = re.compile(rb"boundary|message/|multipart/digest", re.IGNORECASE)
_BEGINS = re.compile(rb"\s*(?:From [^\n]*\n)?[!-9;-~]{1,200}[ \t]*:")
_ENCODED = re.compile(rb"(?:^[A-Za-z0-9+/]{4,}={0,2}\r?$\n?)+", re.MULTILINE)
_SOFT_BREAK = re.compile(rb"=\r?\n")
_MARKUP = re.compile(r"(?s)<(style|script|head)\b.*?</\1>|<[^<>]*>")

SIGNED_ID = re.compile(r"ug\.\d{1,19}\.[0-9a-f]{32}", re.IGNORECASE)
"""A ledger row's id with its signature token, as Message-ID and envelope id hold it."""
_ACTIONS = {
    "delivered": Found.DELIVERED,
    "failed": Found.UNDELIVERED,
    "delayed": Found.ACCEPTED,  # still on its way
    "relayed": Found.ACCEPTED,  # to a server that sends no notifications
    "expanded": Found.ACCEPTED,  # a list's members got it
}
_STATUS = re.compile(r"^\s*([245]\.\d{1,3}\.\d{1,3})")


class _Cut(Compat32):
    """Headers are cut, so that none takes long to read."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines[:_HEADER_LINES])
        return name, value[:_HEADER_SIZE]


_POLICY = _Cut()


def read_mail(body: bytes, what: str) -> Mail:
    """A posted e-mail, as far as it is parsed.

    Raises:
        UserError: the body is none, or has too many lines, parts or levels; ``what`` begins the
            sentence.
    """
    check_mail(body, what)
    head = body[:MOST_BYTES]
    if len(_PART.findall(head)) > _MOST_PARTS or len(_LEVEL.findall(head)) > _MOST_LEVELS:
        raise UserError(
            f"{what}: an e-mail has at most {_MOST_PARTS} parts and {_MOST_LEVELS} levels",
            code="callback.malformed",
        )
    if head.count(b"\n") > _MOST_LINES:
        head = b"\n".join(head.split(b"\n", _MOST_LINES)[:_MOST_LINES])
    return message_from_bytes(head, policy=_POLICY)


def check_mail(body: bytes, what: str) -> None:
    """Refuse what does not begin as an e-mail does.

    Raises:
        UserError: ``what`` begins the sentence.
    """
    if not _BEGINS.match(body):
        raise UserError(
            f"{what}: the body is no e-mail; post the whole one, headers first",
            code="callback.malformed",
        )


def raw_texts(body: bytes) -> Iterator[str]:
    """Where a signed id may stand in an e-mail, without parsing it: as it is, and decoded."""
    yield body.decode("latin-1")
    yield _SOFT_BREAK.sub(b"", body).decode("latin-1")
    for run in _ENCODED.finditer(body):
        try:
            yield binascii.a2b_base64(run.group()).decode("latin-1")
        except binascii.Error:
            continue


def header(mail: Mail, name: str) -> str:
    """A header in one line, decoded; "" when it is missing."""
    given = str(mail.get(name) or "")
    with contextlib.suppress(HeaderParseError, LookupError, ValueError):
        given = str(make_header(decode_header(given)))
    return " ".join(given.split())


def sender(mail: Mail) -> str:
    """The address that an e-mail is from, or "" when it has none."""
    address = parseaddr(str(mail.get("From") or ""))[1]
    return address if "@" in address else ""


def first_line(mail: Mail) -> str:
    """The first line of an e-mail's text that is not blank; of its HTML where it has no text."""
    for kind in ("text/plain", "text/html"):
        for part in mail.walk():
            if part.get_content_type() == kind and part.get_content_disposition() != "attachment":
                text = _decoded(part)
                if kind == "text/html":
                    text = unescape(_MARKUP.sub("\n", text))
                if line := next((line for line in text.splitlines() if line.strip()), ""):
                    return line.strip()
    return ""


def _decoded(part: Mail) -> str:
    content = cast(bytes, part.get_payload(decode=True) or b"")[: 4 * _TEXT_SIZE]
    charset = part.get_content_charset() or "utf-8"
    try:
        text = content.decode(charset, "replace")
    except (LookupError, ValueError, MessageError):
        text = content.decode("utf-8", "replace")
    return text[:_TEXT_SIZE]


def moment(text: str) -> datetime | None:
    """A time of RFC 5322 in UTC; None where it is none."""
    try:
        parsed = parsedate_to_datetime(text[:100])
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


@dataclass(frozen=True)
class Notification:
    """One notification: what became of the e-mail, the server's code, and when it was tried."""

    status: Found
    code: str
    time: datetime | None


def find_signed_id(body: bytes) -> str:
    """The signed id of the e-mail of ours that a notification is about.

    It is looked for in the raw bytes, before anything of the e-mail is parsed. Where it stands does
    not matter: nobody else can make one.

    Raises:
        UserError: there is none.
    """
    for text in raw_texts(body):
        if match := SIGNED_ID.search(text):
            return match.group().lower()  # some servers write it in upper case
    raise UserError(
        "notification: it does not say which of our e-mails it is about", code="callback.malformed"
    )


def parse_notification(body: bytes) -> Notification:
    """What a whole ``multipart/report`` e-mail says; ours have one recipient each.

    Raises:
        UserError: not a delivery status notification.
    """
    mail = read_mail(body, "notification")
    parts = [p for p in mail.walk() if p.get_content_type() == "message/delivery-status"]
    if not parts:
        raise UserError(
            "notification: no part of type message/delivery-status in the e-mail",
            code="callback.malformed",
        )
    blocks = cast("list[Message[str, str]]", parts[0].get_payload())
    fields = [b for b in blocks if isinstance(b, Message) and b.get("Action")]
    if not fields:
        raise UserError(
            "notification: no recipient's Action in the delivery status", code="callback.malformed"
        )
    field = fields[0]
    action = str(field["Action"]).strip().lower()
    if action not in _ACTIONS:
        raise UserError(
            f"notification: Action {action[:20]!r} is not known", code="callback.malformed"
        )
    status = _STATUS.match(str(field.get("Status", "")))
    return Notification(
        status=_ACTIONS[action],
        code=status.group(1) if status else action,
        time=moment(str(field.get("Last-Attempt-Date") or mail.get("Date") or "")),
    )


def parse_reply(body: bytes) -> Reply:
    """Who answered, and the words: a subject that refuses, else the first line, else the subject.

    Raises:
        UserError: the body is no e-mail, or has no sender.
    """
    mail = read_mail(body, "reply")
    address = sender(mail)
    if not address:
        raise UserError("reply: the e-mail has no sender", code="callback.malformed")
    subject = header(mail, "Subject")
    whole = Words(built_in_words().refuse, frozenset(), contained=False)
    refuses = action_of(subject, whole) is Action.OPT_OUT
    return Reply(
        phone=address,
        content=subject if refuses else first_line(mail) or subject,
        signature=None,
        sequence_id=header(mail, "Message-ID")[:200] or None,
        send_time=moment(str(mail.get("Date") or "")),
    )
