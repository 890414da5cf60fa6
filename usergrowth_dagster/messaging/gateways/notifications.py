"""E-mails that come back: delivery status notifications (RFC 3464) and replies."""

import re
from dataclasses import dataclass
from datetime import datetime
from email.message import Message
from typing import cast

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.gateways import mails
from usergrowth_dagster.messaging.gateways.mails import moment, read_mail
from usergrowth_dagster.messaging.gateways.protocol import Found, Reply
from usergrowth_dagster.messaging.texts.refusals import Action, Words, action_of, built_in_words

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
    """One notification: what became of the e-mail, the server's code, and when it was tried."""

    status: Found
    code: str
    time: datetime | None


def find_mark(body: bytes) -> str:
    """The mark of the e-mail of ours that a notification is about.

    It is looked for in the raw bytes, before anything of the e-mail is parsed. Where it stands does
    not matter: nobody else can make one.

    Raises:
        UserError: there is none.
    """
    for text in mails.raw_texts(body):
        if found := MARK.search(text):
            return found.group().lower()  # some servers write it in upper case
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
    address = mails.sender(mail)
    if not address:
        raise UserError("reply: the e-mail has no sender", code="callback.malformed")
    subject = mails.header(mail, "Subject")
    whole = Words(built_in_words().refuse, frozenset(), contained=False)
    refuses = action_of(subject, whole) is Action.OPT_OUT
    return Reply(
        phone=address,
        content=subject if refuses else mails.first_line(mail) or subject,
        signature=None,
        sequence_id=mails.header(mail, "Message-ID")[:200] or None,
        send_time=moment(str(mail.get("Date") or "")),
    )
