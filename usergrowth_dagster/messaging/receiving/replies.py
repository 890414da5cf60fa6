"""Texts that recipients send back: a refusal holds from the moment that it is stored.

What refuses is said in :mod:`~usergrowth_dagster.messaging.texts.refusals`; beside it, each word
that a text to this very number promised. A reply lifts a refusal when it is one of
``opt_in_words``. The reply and what it does to the suppression list are one transaction, so what a
provider was answered for holds in every later transaction that commits a message as submitting.

The reply that was sent last holds; a refusal and a lift of the same second leave the refusal. A
time that is missing, unreadable or more than ten minutes ahead means now. Replies that an earlier
version stored under an old hash count: the same one again is known, and one that refused outdates
an earlier lift. One that lifted outdates no refusal, since it may be of another country's number.

With ``opt_out_scope = "everywhere"`` a refusal holds for all signatures, and a lift ends all
refusals of the number. With ``"signature"`` both concern the signature that the reply was to: the
one that the provider names, else the one of the last message to the number, else all. A reply by
e-mail refuses e-mails, another one texts. What was suppressed for a forgotten person is never
lifted by a reply.
"""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects import postgresql, sqlite

from usergrowth_dagster.addresses.numbers import Number
from usergrowth_dagster.control import schema
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.gateways.cleaning import clean_reply
from usergrowth_dagster.messaging.gateways.protocol import Reply, Unread
from usergrowth_dagster.messaging.people.old_hashes import carry_over, never_held_old
from usergrowth_dagster.messaging.people.phones import PhoneVault
from usergrowth_dagster.messaging.policy import suppression
from usergrowth_dagster.messaging.policy.suppression_order import one_after_another
from usergrowth_dagster.messaging.receiving.senders import (
    Doubt,
    Sent,
    suppress_doubtful,
    with_senders,
)
from usergrowth_dagster.messaging.receiving.unread import REPLY, keep_unread
from usergrowth_dagster.messaging.texts.refusals import (
    Action,
    action_of,
    normal_forms,
    promised_words,
    words_of,
)
from usergrowth_dagster.settings import Settings

_CHUNK = 500
_AHEAD = timedelta(minutes=10)  # that a provider's clock may differ from ours
_ORDER_LOCK = 0x75677272  # advisory lock of replies: "ugrr"
reply = schema.reply
message = schema.message
occurrence = schema.occurrence


@dataclass(frozen=True)
class Answered:
    """What became of replies: those that came, those not seen before, refusals and lifts among the
    new, and those whose sender's number cannot be one, which are kept as unread."""

    received: int = 0
    new: int = 0
    opt_outs: int = 0
    opt_ins: int = 0
    unusable: int = 0


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
    done = Answered(received=len(replies))
    replies = [clean_reply(reply) for reply in replies]
    in_order = sorted(replies, key=lambda reply: _sent(reply, received) or received)
    words = words_of(settings)
    actions = [action_of(reply.content, words) for reply in in_order]
    sent = with_senders(store, vault, in_order, actions)
    for start in range(0, len(sent), _CHUNK):
        some = sent[start : start + _CHUNK]
        known = [
            one
            for each in some
            if (one := _known(vault, settings, gateway, each, received)) is not None
        ]
        nameless = [one for one in some if not _has_sender(one.reply)]
        unusable = [_unusable(one.reply) for one in nameless]
        keep_unread(store, vault, gateway, REPLY, unusable, received)
        _heed_promises(store, settings, known)
        for one in known:
            one.row["digest"] = _digest(vault, one, one.row["phone_hash"])
        with store.write() as connection:
            if not store.is_sqlite:  # STOP and START of one number, in two calls at once
                connection.execute(select(func.pg_advisory_xact_lock(_ORDER_LOCK)))
            new, outs, ins = _obey(connection, vault, settings, known, received)
            refused: list[Sent | _Known] = [*nameless, *new]
            doubts = [_doubt(one, settings, received) for one in refused if one.others]
            if doubts:
                suppress_doubtful(connection, vault, gateway, doubts, received)
        done = Answered(
            done.received,
            done.new + len(new),
            done.opt_outs + outs,
            done.opt_ins + ins,
            done.unusable + len(unusable),
        )
    return done


@dataclass
class _Known:
    """A reply as it is stored, with what it does and the number in the clear.

    ``others`` are further numbers that it may be of, ``old_hashes`` those that an earlier version
    may have given the number.
    """

    row: dict[str, Any]
    reply: Reply = field(repr=False)
    phone: str = field(repr=False)
    others: tuple[Number, ...] = field(default=(), repr=False)
    old_hashes: list[bytes] = field(default_factory=list, repr=False)

    @property
    def action(self) -> Action:
        return Action(self.row["action"])

    @property
    def second(self) -> datetime:
        """When it was sent; providers name seconds."""
        sent: datetime = self.row["send_time"] or self.row["received_time"]
        return sent.replace(microsecond=0)


def _known(
    vault: PhoneVault, settings: Settings, gateway: str, sent: Sent, received: datetime
) -> _Known | None:
    """A reply for the table; None when its sender is a short code or a name: nobody to text."""
    reply = sent.reply
    try:
        phone = suppression.clean_address(reply.phone)
    except UserError:
        return None
    row: dict[str, Any] = {
        "gateway": gateway,
        "phone_hash": vault.digest(phone),
        "phone_number": vault.seal(phone),
        "content": vault.seal(reply.content),
        "signature": _signature(reply),
        "action": str(action_of(reply.content, words_of(settings))),
        "send_time": _sent(reply, received),
        "received_time": received,
    }
    return _Known(row, reply, phone, sent.others)


def _signature(reply: Reply) -> str | None:
    return (reply.signature or "").strip("【】[] ")[:64] or None


def _doubt(one: Sent | _Known, settings: Settings, received: datetime) -> Doubt:
    """A refusal for the numbers that it may be of beside its sender's."""
    scope = None if settings.opt_out_scope == "everywhere" else _signature(one.reply)
    since = None  # what is known is new
    if isinstance(one, Sent):
        since = (_sent(one.reply, received) or received).replace(microsecond=0)
    return Doubt(one.others, scope or suppression.ALL, since)


def _has_sender(reply: Reply) -> bool:
    try:
        return bool(suppression.clean_address(reply.phone))
    except UserError:
        return False


def _unusable(reply: Reply) -> Unread:
    """A reply as it is kept for a person, since nobody can be suppressed for it."""
    return Unread(
        "the sender is neither a phone number nor an e-mail address",
        json.dumps(asdict(reply), ensure_ascii=False, default=str),
    )


def _sent(reply: Reply, received: datetime) -> datetime | None:
    """When a reply was sent; None, which means now, where that cannot be true."""
    sent = reply.send_time
    return None if sent is None or sent > received + _AHEAD else sent


def _heed_promises(store: ControlStore, settings: Settings, known: Sequence[_Known]) -> None:
    """Take as refusals the words that texts to the very number named as such."""
    silent = [one for one in known if one.action is Action.NONE]
    if not silent:
        return
    query = (
        select(message.c.phone_hash, message.c.variant, occurrence.c.content, occurrence.c.variants)
        .join(occurrence, message.c.occurrence_id == occurrence.c.id)
        .where(
            message.c.phone_hash.in_([one.row["phone_hash"] for one in silent]),
            message.c.attempts > 0,
        )
    )
    promised: dict[bytes, set[str]] = {}
    with store.read() as connection:
        for phone_hash, variant, content, variants in connection.execute(query):
            text = (variants or {}).get(variant, {}).get("content") or content
            promised.setdefault(phone_hash, set()).update(_promised(text))
    for one in silent:
        if named := promised.get(one.row["phone_hash"]):
            action = action_of(one.reply.content, words_of(settings), named)
            one.row["action"] = str(action)


@lru_cache(maxsize=256)
def _promised(content: str) -> frozenset[str]:
    return normal_forms(promised_words(content))


def _digest(vault: PhoneVault, one: _Known, phone_hash: bytes) -> bytes:
    """What distinguishes two replies; one without the provider's id and time is always new."""
    row, reply = one.row, one.reply
    sent = reply.send_time  # distinguishes replies even when it is not believed
    if reply.sequence_id:
        identity: Any = reply.sequence_id
    elif sent is not None:
        identity = (sent.isoformat(), reply.content)
    else:
        identity = (row["received_time"].isoformat(), os.urandom(16))
    return vault.user_digest(repr((row["gateway"], phone_hash, row["action"], identity)))


def _obey(
    connection: Connection,
    vault: PhoneVault,
    settings: Settings,
    known: Sequence[_Known],
    received: datetime,
) -> tuple[list[_Known], int, int]:
    """Keep replies and do what the new ones say; returns the new, and counts refusals and lifts."""
    everywhere = settings.opt_out_scope == "everywhere"
    if not everywhere:
        _name_signatures(connection, known)
    new = _store(connection, _not_of_before(connection, vault, known))
    acting = [one for one in new if one.action is not Action.NONE]
    acting = _not_outdated(connection, acting, everywhere)
    counts = {Action.OPT_OUT: 0, Action.OPT_IN: 0}
    for wave in _waves(acting):
        for one in wave:
            counts[one.action] += 1
        refusals = [one for one in wave if one.action is Action.OPT_OUT]
        if refusals:
            _suppress(connection, vault, refusals, everywhere, received)
        lifts: dict[str | None, list[bytes]] = {}
        for one in wave:
            if one.action is Action.OPT_IN:
                scope = None if everywhere else one.row["signature"] or suppression.ALL
                lifts.setdefault(scope, []).append(one.row["phone_hash"])
        numbers = [one.phone for one in wave if one.action is Action.OPT_IN]
        if numbers:
            carry_over(connection, vault, numbers)
        for scope, hashes in lifts.items():
            suppression.lift_rows(connection, phone_hashes=hashes, scope=scope, now=received)
    return new, counts[Action.OPT_OUT], counts[Action.OPT_IN]


def _name_signatures(connection: Connection, known: Sequence[_Known]) -> None:
    """Where the provider does not say which signature a reply is to: that of the last message."""
    nameless = [one for one in known if one.row["signature"] is None]
    order = (message.c.sent_time.desc().nulls_last(), message.c.id.desc())
    place = func.row_number().over(partition_by=message.c.phone_hash, order_by=order)
    sent = (
        select(message.c.phone_hash, occurrence.c.signature, place.label("place"))
        .join(occurrence, message.c.occurrence_id == occurrence.c.id)
        .where(message.c.phone_hash.in_([one.row["phone_hash"] for one in nameless]))
        .where(message.c.attempts > 0)
        .subquery()
    )
    query = select(sent.c.phone_hash, sent.c.signature).where(sent.c.place == 1)
    last = {row[0]: row[1] for row in connection.execute(query)}
    for one in nameless:
        one.row["signature"] = last.get(one.row["phone_hash"])


def _not_of_before(
    connection: Connection, vault: PhoneVault, known: Sequence[_Known]
) -> Sequence[_Known]:
    """Those that an earlier version did not store, each with its old hashes."""
    if never_held_old(connection):
        return known
    for one in known:
        if "@" not in one.phone:
            one.old_hashes = vault.old_digests(Number(one.phone))
    stored = {
        _digest(vault, one, old): one.row["digest"] for one in known for old in one.old_hashes
    }
    query = select(reply.c.digest).where(reply.c.digest.in_(stored))
    again = {stored[digest] for digest in connection.scalars(query)}
    return [one for one in known if one.row["digest"] not in again]


def _store(connection: Connection, known: Sequence[_Known]) -> list[_Known]:
    """Keep replies; returns those that were not there yet."""
    if not known:
        return []
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = insert(reply).on_conflict_do_nothing().returning(reply.c.digest)
    fresh = set(connection.scalars(statement, [one.row for one in known]))
    first = {one.row["digest"]: one for one in reversed(known)}
    return [one for one in known if one.row["digest"] in fresh and first[one.row["digest"]] is one]


def _not_outdated(
    connection: Connection, acting: Sequence[_Known], everywhere: bool
) -> list[_Known]:
    """Those of which the contrary was not sent later; within a second the refusal wins."""
    if not acting:
        return []
    moment = func.max(
        func.coalesce(reply.c.send_time, reply.c.received_time), type_=reply.c.send_time.type
    )
    query = (
        select(reply.c.phone_hash, reply.c.signature, reply.c.action, moment)
        .where(reply.c.phone_hash.in_({digest for one in acting for digest in _hashes(one)}))
        .where(reply.c.action != str(Action.NONE))
        .group_by(reply.c.phone_hash, reply.c.signature, reply.c.action)
    )
    newest: dict[tuple[Any, ...], datetime] = {}
    for phone_hash, signature, action, when in connection.execute(query):
        key = (phone_hash, None if everywhere else signature, action)
        newest[key] = max(when, newest.get(key, when))
    kept = []
    for one in acting:
        contrary = Action.OPT_IN if one.action is Action.OPT_OUT else Action.OPT_OUT
        scope = None if everywhere else one.row["signature"]
        times = [newest.get((digest, scope, str(contrary))) for digest in _hashes(one)]
        later = max((when for when in times if when), default=None)
        second = later.replace(microsecond=0) if later else None
        if (
            second is None
            or second < one.second
            or (second == one.second and one.action is Action.OPT_OUT)
        ):
            kept.append(one)
    return kept


def _hashes(one: _Known) -> list[bytes]:
    """Under which replies may outdate one: what an earlier version stored outdates lifts alone."""
    return [one.row["phone_hash"], *(one.old_hashes if one.action is Action.OPT_IN else ())]


def _waves(acting: Sequence[_Known]) -> list[list[_Known]]:
    """Replies in their order, parted so that a number comes once in a part."""
    waves: list[list[_Known]] = []
    seen: Counter[bytes] = Counter()
    for one in acting:
        place = seen[one.row["phone_hash"]]
        seen[one.row["phone_hash"]] += 1
        if place == len(waves):
            waves.append([])
        waves[place].append(one)
    return waves


def _suppress(
    connection: Connection,
    vault: PhoneVault,
    refusals: Sequence[_Known],
    everywhere: bool,
    received: datetime,
) -> None:
    rows = []
    for one in refusals:
        scope = None if everywhere else one.row["signature"]
        rows += suppression.entries(
            vault,
            phone=one.phone,
            user_id=None,
            channel="email" if "@" in one.phone else "sms",
            scope=scope or suppression.ALL,
            reason=suppression.REPLY,
            source=f"reply by {one.row['gateway']}",
            now=received,
        )
    one_after_another(connection)
    carry_over(connection, vault, [one.phone for one in refusals])
    suppression.add(connection, rows)
