"""Whose number a provider means: the sender of a reply, the addressee of a report.

Some providers write a number without ``+``, or without its country, so that it may belong to
several people. A refusal then counts for each of them to whom a message ever went, so that none is
lost; a reply that lifts refusals counts only when there is no doubt whose it is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from sqlalchemy import select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.data.phone_numbers import Number, Problem, every_reading, parse, readings
from usergrowth_dagster.messaging.gateways.protocol import Reply
from usergrowth_dagster.messaging.people.phones import PhoneVault

_M = schema.message


def given_number(vault: PhoneVault, text: str) -> str:
    """The likeliest reading of a provider's text; the text itself when it is no number."""
    return text if "@" in text else next(iter(readings(text, vault.country)), text)


def with_senders(
    store: ControlStore, vault: PhoneVault, replies: Sequence[Reply], lifts: Iterable[bool]
) -> list[Reply]:
    """Replies with their senders in E.164, one for each number that a sender may have.

    Args:
        store: the control store.
        vault: makes the hashes.
        replies: as the provider writes them.
        lifts: of each reply, whether it lifts refusals.

    Returns:
        The replies in their order. One of which nobody can say whose it is keeps what the provider
        wrote, which is no number in E.164.
    """
    doubtful = {reply.phone: _candidates(vault, reply.phone) for reply in replies}
    texted = _texted(store, [digest for some in doubtful.values() for digest in some])
    found = []
    for reply, is_lift in zip(replies, lifts, strict=True):
        sure = parse(reply.phone) if "@" not in reply.phone else reply.phone
        if not isinstance(sure, Problem):
            found.append(replace(reply, phone=sure))
            continue
        some = doubtful[reply.phone]
        known = [number for digest, number in some.items() if digest in texted]
        senders = known or readings(reply.phone, vault.country)
        if len(senders) == 1 or not is_lift:
            found += [replace(reply, phone=number) for number in senders]
        if not senders or (is_lift and len(senders) > 1):
            found.append(reply)
    return found


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
    query = select(_M.c.phone_hash).where(_M.c.phone_hash.in_(digests), _M.c.attempts > 0)
    with store.read() as connection:
        return set(connection.scalars(query.distinct()))
