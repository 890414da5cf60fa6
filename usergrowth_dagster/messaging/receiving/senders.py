"""Whose number a provider means: the sender of a reply, the addressee of a report.

Some providers write a number without ``+``, or without its country, so that it may belong to
several people. A refusal then counts for each of them to whom a message ever went, so that none is
lost; a reply that lifts refusals counts only when there is no doubt whose it is.

Who refuses may also be a person who never got a message. So a refusal holds for the number of
``default_country`` in any case, and for that of each country where the setting says nothing.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import Connection, select

from usergrowth_dagster.addresses.numbers import Number, Problem, every_reading, parse, readings
from usergrowth_dagster.control import schema
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.messaging.gateways.protocol import Reply
from usergrowth_dagster.messaging.people.phones import PhoneVault
from usergrowth_dagster.messaging.policy import suppression
from usergrowth_dagster.messaging.policy.suppression_order import one_after_another
from usergrowth_dagster.messaging.texts.refusals import Action

message = schema.message


@dataclass(frozen=True)
class Sent:
    """A reply of one sender. A refusal may hold for further numbers, which sent none perhaps."""

    reply: Reply
    others: tuple[Number, ...] = field(default=(), repr=False)


def given_number(vault: PhoneVault, text: str) -> str:
    """The likeliest reading of a provider's text; the text itself when it is no number."""
    return text if "@" in text else next(iter(readings(text, vault.country)), text)


def with_senders(
    store: ControlStore, vault: PhoneVault, replies: Sequence[Reply], actions: Sequence[Action]
) -> list[Sent]:
    """Replies with their senders in E.164, one for each number that a sender may have.

    Args:
        store: the control store.
        vault: makes the hashes.
        replies: as the provider writes them.
        actions: what each of them does.

    Returns:
        The replies in their order. One of which nobody can say whose it is keeps what the provider
        wrote, which is no number in E.164. Of several for one refusal, the first has the others.
    """
    doubtful = {reply.phone: _candidates(vault, reply.phone) for reply in replies}
    texted = _texted(store, [digest for some in doubtful.values() for digest in some])
    sent = []
    for reply, action in zip(replies, actions, strict=True):
        sure = parse(reply.phone) if "@" not in reply.phone else reply.phone
        if not isinstance(sure, Problem):
            sent.append(Sent(replace(reply, phone=sure)))
            continue
        some = doubtful[reply.phone]
        known = [number for digest, number in some.items() if digest in texted]
        likely = readings(reply.phone, vault.country)
        senders = known or likely
        if (action is Action.OPT_IN and len(senders) != 1) or not senders:
            mine = [reply]
        else:
            mine = [replace(reply, phone=number) for number in senders]
        others: tuple[Number, ...] = ()
        if action is Action.OPT_OUT:
            nowhere = isinstance(parse(reply.phone, vault.country), Problem)
            meant = some.values() if nowhere else likely[:1]
            others = tuple(number for number in meant if number not in senders)
        sent += [Sent(mine[0], others), *map(Sent, mine[1:])]
    return sent


def _candidates(vault: PhoneVault, text: str) -> dict[bytes, Number]:
    """By their hashes, the numbers that a text without its country may be."""
    if "@" in text or not isinstance(parse(text), Problem):
        return {}
    some = dict.fromkeys([*readings(text, vault.country), *every_reading(text)])
    return {vault.digest(number): number for number in some}


def _texted(store: ControlStore, digests: Sequence[bytes]) -> set[bytes]:
    """Those of the hashes to which a message ever went."""
    if not digests:
        return set()
    query = select(message.c.phone_hash).where(
        message.c.phone_hash.in_(digests), message.c.attempts > 0
    )
    with store.read() as connection:
        return set(connection.scalars(query.distinct()))


@dataclass(frozen=True)
class Doubt:
    """A refusal: the numbers that it may be of, and its scope.

    One that may have come before has the second in which it was sent, ``since``. A number whose
    refusal was recorded since then is left as it is, also when that was lifted.
    """

    numbers: tuple[Number, ...] = field(repr=False)
    scope: str
    since: datetime | None


def suppress_doubtful(
    connection: Connection,
    vault: PhoneVault,
    gateway: str,
    doubts: Sequence[Doubt],
    received: datetime,
) -> None:
    """Put refusals in force for all numbers that they may be of.

    Args:
        connection: in a transaction that writes.
        vault: makes the hashes.
        gateway: the gateway's name, kept as the source.
        doubts: the refusals.
        received: the real clock.
    """
    shared = {
        "channel": "sms",
        "user_hash": None,
        "phone_number": None,
        "user_id": None,
        "reason": suppression.REPLY,
        "source": f"reply by {gateway} without a country",
        "created_time": received,
    }
    one_after_another(connection)
    rows = []
    for one in dict.fromkeys(doubts):
        digests = {vault.digest(number) for number in one.numbers}
        if one.since is not None:
            digests -= _recorded(connection, digests, one.scope, one.since)
        rows += [{**shared, "scope": one.scope, "phone_hash": digest} for digest in digests]
    if rows:
        suppression.add(connection, rows)


def _recorded(
    connection: Connection, digests: Collection[bytes], scope: str, since: datetime
) -> set[bytes]:
    same = (
        schema.suppression.c.phone_hash.in_(digests)
        & (schema.suppression.c.channel == "sms")
        & (schema.suppression.c.scope == scope)
    )
    query = select(schema.suppression.c.phone_hash).where(
        same, schema.suppression.c.created_time >= since
    )
    return set(connection.scalars(query))
