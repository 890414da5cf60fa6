"""Texts that recipients send back: a refusal holds from the moment that it is stored.

A reply refuses when, after Unicode NFKC, without punctuation and in lower case, it is exactly one
of ``opt_out_words``: ``TD``, `` td. `` and full-width ``ＴＤ！`` do, ``TD, please`` does not. It
lifts a refusal when it is one of ``opt_in_words``. The reply and what it does to the suppression
list are one transaction, so what a provider was answered for holds in every later transaction that
commits a message as submitting.

With ``opt_out_scope = "everywhere"`` a refusal holds for all signatures, and a lift ends all
refusals of the number. With ``"signature"`` both concern the signature that the reply was to: the
one that the provider names, else the one of the last message to the number, else all. A reply by
e-mail refuses e-mails, another one texts. What was suppressed for a forgotten person is never
lifted by a reply.
"""

import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects import postgresql, sqlite

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging import suppression
from usergrowth_dagster.messaging.gateways.protocol import Reply
from usergrowth_dagster.messaging.incoming import plain_text, sane_time
from usergrowth_dagster.messaging.phones import PhoneVault
from usergrowth_dagster.settings import Settings

_CHUNK = 500
_LONGEST = 10_000
_ORDER_LOCK = 0x75677272  # advisory lock of replies: "ugrr"
_P = schema.reply
_M = schema.message
_O = schema.occurrence


class Action(StrEnum):
    """What a reply does."""

    OPT_OUT = "opt_out"
    OPT_IN = "opt_in"
    NONE = "none"


@dataclass(frozen=True)
class Answered:
    """What became of replies: those that came, those not seen before, refusals and lifts among the
    new, and those whose sender's number cannot be one."""

    received: int = 0
    new: int = 0
    opt_outs: int = 0
    opt_ins: int = 0
    unusable: int = 0


def normal_word(text: str) -> str:
    """A reply as it is compared with the words.

    >>> [normal_word(text) for text in (" ＴＤ！ ", "退订。", "Stop", "T D")]
    ['td', '退订', 'stop', 't d']
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = (c for c in folded if unicodedata.category(c)[0] not in "PCSM" or c.isspace())
    return " ".join("".join(kept).split())


def action_of(content: str, settings: Settings) -> Action:
    """What a reply does, by the settings' words; a word on both lists refuses."""
    word = normal_word(content)
    if not word:
        return Action.NONE
    if word in {normal_word(known) for known in settings.opt_out_words}:
        return Action.OPT_OUT
    if word in {normal_word(known) for known in settings.opt_in_words}:
        return Action.OPT_IN
    return Action.NONE


def take_replies(
    store: ControlStore,
    vault: PhoneVault,
    settings: Settings,
    gateway: str,
    replies: Sequence[Reply],
    received: datetime,
) -> Answered:
    """Store replies and obey them, in the order in which they were sent; repeats change nothing.

    A number that no message ever went to is suppressed as well.

    Args:
        store: the control store.
        vault: makes the hashes; seals the contents.
        settings: words and scope.
        gateway: who hands them over.
        replies: the replies.
        received: the real clock.

    Returns:
        Counts of this call; what it returns for is on disk.
    """
    done = Answered()
    known = sorted(replies, key=lambda reply: sane_time(reply.send_time) or received)
    for start in range(0, len(known), _CHUNK):
        with store.write() as connection:
            if not store.is_sqlite:  # STOP and START of one number, in two calls at once
                connection.exec_driver_sql(f"select pg_advisory_xact_lock({_ORDER_LOCK})")
            for reply in known[start : start + _CHUNK]:
                done = _add(done, _take(connection, vault, settings, gateway, reply, received))
    return done


def _add(one: Answered, other: Answered) -> Answered:
    return Answered(
        one.received + other.received,
        one.new + other.new,
        one.opt_outs + other.opt_outs,
        one.opt_ins + other.opt_ins,
        one.unusable + other.unusable,
    )


def _take(
    connection: Connection,
    vault: PhoneVault,
    settings: Settings,
    gateway: str,
    reply: Reply,
    received: datetime,
) -> Answered:
    try:
        phone = suppression.clean_address(reply.phone)
    except UserError:
        return Answered(1, unusable=1)  # a short code or a name: nobody whom we could text
    action = action_of(reply.content, settings)
    row: dict[str, Any] = {
        "gateway": gateway,
        "phone_hash": vault.digest(phone),
        "content": vault.seal(plain_text(reply.content, _LONGEST) or ""),
        "signature": plain_text((reply.signature or "").strip("【】[] "), 64),
        "action": str(action),
        "send_time": sane_time(reply.send_time),
        "received_time": received,
    }
    if settings.opt_out_scope == "signature" and row["signature"] is None:
        row["signature"] = _last_signature(connection, row["phone_hash"])
    if not _store(connection, {**row, "digest": _digest(vault, reply, row)}):
        return Answered(1)
    everywhere = settings.opt_out_scope == "everywhere"
    scope = suppression.ALL if everywhere else row["signature"] or suppression.ALL
    if action is Action.NONE or _outdated(connection, row, everywhere):
        return Answered(1, 1)
    if action is Action.OPT_OUT:
        refusal = suppression.entries(
            vault,
            phone=phone,
            user_id=None,
            channel="email" if "@" in phone else "sms",
            scope=scope,
            reason=suppression.REPLY,
            source=f"reply by {gateway}",
            now=received,
        )
        suppression.add(connection, refusal)
        return Answered(1, 1, opt_outs=1)
    suppression.lift_rows(
        connection, vault, phone=phone, scope=None if everywhere else scope, now=received
    )
    return Answered(1, 1, opt_ins=1)


def _digest(vault: PhoneVault, reply: Reply, row: Mapping[str, Any]) -> bytes:
    """What tells two replies apart; one without the provider's id and time is always new."""
    if reply.sequence_id:
        told: Any = reply.sequence_id
    elif row["send_time"] is not None:
        told = (row["send_time"].isoformat(), reply.content)
    else:
        told = (row["received_time"].isoformat(), os.urandom(16))
    return vault.user_digest(repr((row["gateway"], row["phone_hash"], row["action"], told)))


def _store(connection: Connection, row: Mapping[str, Any]) -> bool:
    """Keep a reply; False when it is there already."""
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = insert(_P).values(row).on_conflict_do_nothing().returning(_P.c.id)
    return connection.execute(statement).first() is not None


def _outdated(connection: Connection, row: Mapping[str, Any], everywhere: bool) -> bool:
    """Whether the contrary was sent later and came first; a reply without a time counts as now."""
    if row["send_time"] is None:
        return False
    contrary = Action.OPT_IN if row["action"] == Action.OPT_OUT else Action.OPT_OUT
    later = select(_P.c.id).where(
        _P.c.phone_hash == row["phone_hash"],
        _P.c.action == str(contrary),
        func.coalesce(_P.c.send_time, _P.c.received_time) > row["send_time"],
    )
    if not everywhere:
        later = later.where(_P.c.signature.is_not_distinct_from(row["signature"]))
    return connection.scalar(later.limit(1)) is not None


def _last_signature(connection: Connection, phone_hash: bytes) -> str | None:
    """The signature of the last message that went to a number."""
    return connection.scalar(
        select(_O.c.signature)
        .join(_M, _M.c.occurrence_id == _O.c.id)
        .where(_M.c.phone_hash == phone_hash, _M.c.attempts > 0)
        .order_by(_M.c.sent_time.desc().nulls_last(), _M.c.id.desc())
        .limit(1)
    )
