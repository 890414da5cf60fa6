"""Refusals for numbers that may be the sender's: suppressed, but neither counted nor kept."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, select

from usergrowth_dagster.addresses.numbers import Number
from usergrowth_dagster.control import schema
from usergrowth_dagster.messaging.people.phones import PhoneVault
from usergrowth_dagster.messaging.policy import suppression
from usergrowth_dagster.messaging.policy.suppression_order import one_after_another


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
