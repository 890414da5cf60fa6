"""E-mails that come back: delivery status notifications (RFC 3464) and replies."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage, Message
from email.policy import default
from email.utils import parsedate_to_datetime
from typing import cast

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.gateways.protocol import Found, Reply

MARK = re.compile(r"ug\.\d{1,19}\.[0-9a-f]{32}", re.IGNORECASE)
"""A ledger row's id with a keyed hash of it, as Message-ID and envelope id hold it."""
_ACTIONS = {
    "delivered": Found.DELIVERED,
    "failed": Found.UNDELIVERED,
    "delayed": Found.ACCEPTED,  # still on its way
    "relayed": Found.ACCEPTED,  # to a server that sends no notifications
    "expanded": Found.ACCEPTED,  # a list's members got it
}
_STATUS = re.compile(r"^\s*([245]\.\d{1,3}\.\d{1,3})")


@dataclass(frozen=True)
class Notification:
    """One notification: the e-mail's mark, when it was tried, and what became of it."""

    mark: str
    status: Found
    code: str
    time: datetime | None


def read_mail(body: bytes, what: str) -> EmailMessage:
    """A posted e-mail.

    Raises:
        UserError: the body is none; ``what`` begins the sentence.
    """
    mail = message_from_bytes(body, policy=default)
    if not mail.keys() or not body.strip():
        raise UserError(f"{what}: the body is no e-mail; post the whole one, headers first")
    return mail


def parse_notification(body: bytes) -> Notification:
    """What a whole ``multipart/report`` e-mail says; ours have one recipient each.

    Raises:
        UserError: not a delivery status notification, or none of an e-mail of ours.
    """
    mail = read_mail(body, "notification")
    parts = [p for p in mail.walk() if p.get_content_type() == "message/delivery-status"]
    if not parts:
        raise UserError("notification: no part of type message/delivery-status in the e-mail")
    blocks = cast("list[Message[str, str]]", parts[0].get_payload())
    fields = [b for b in blocks if isinstance(b, Message) and b.get("Action")]
    if not fields:
        raise UserError("notification: no recipient's Action in the delivery status")
    field = fields[0]
    action = str(field["Action"]).strip().lower()
    if action not in _ACTIONS:
        raise UserError(f"notification: Action {action[:20]!r} is not known")
    status = _STATUS.match(str(field.get("Status", "")))
    return Notification(
        mark=_mark(mail, body, blocks),
        status=_ACTIONS[action],
        code=status.group(1) if status else action,
        time=moment(str(field.get("Last-Attempt-Date") or mail.get("Date") or "")),
    )


def _mark(mail: EmailMessage, body: bytes, blocks: "list[Message[str, str]]") -> str:
    """The mark, from the envelope id, else from the e-mail that is told of.

    Where it stands does not matter: nobody else can make one.
    """
    said = [str(block.get("Original-Envelope-Id", "")) for block in blocks]
    said.append(body.decode("latin-1"))
    for part in mail.walk():
        if not part.is_multipart():
            said.append(cast(bytes, part.get_payload(decode=True) or b"").decode("latin-1"))
    for text in said:
        if found := MARK.search(text):
            return found.group().lower()  # some servers write it in upper case
    raise UserError("notification: it does not say which of our e-mails it is about")


def parse_reply(body: bytes) -> Reply:
    """Who answered, and the words: the subject ``unsubscribe``, else the first line.

    Raises:
        UserError: the body is no e-mail, or has no sender.
    """
    mail = read_mail(body, "reply")
    sender = mail.get("From")
    addresses = getattr(sender, "addresses", ())
    if not addresses or "@" not in addresses[0].addr_spec:
        raise UserError("reply: the e-mail has no sender")
    subject = str(mail.get("Subject", "")).strip()
    content = subject
    if subject.lower() != "unsubscribe":
        text = mail.get_body(("plain",))
        lines = str(text.get_content()).splitlines() if text else []
        content = next((line.strip() for line in lines if line.strip()), subject)
    return Reply(
        phone=addresses[0].addr_spec,
        content=content,
        signature=None,
        sequence_id=str(mail.get("Message-ID", "")).strip()[:200] or None,
        send_time=moment(str(mail.get("Date") or "")),
    )


def moment(text: str) -> datetime | None:
    """A time of RFC 5322 in UTC; None where it is none."""
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
