"""Whom a provider refuses to text because they refused there: they are suppressed here as well.

Otherwise they would be texted through the next provider. The refusal holds for every signature; a
reply such as START lifts it like any other.
"""

import contextlib
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.people.old_hashes import carry_over
from usergrowth_dagster.messaging.people.phones import PhoneVault
from usergrowth_dagster.messaging.policy.suppression import ALL, PROVIDER, add, entries
from usergrowth_dagster.messaging.policy.suppression_order import one_after_another


def suppress_refused(
    connection: Connection,
    vault: PhoneVault,
    gateway: str,
    addresses: Iterable[str],
    now: datetime,
) -> int:
    """Suppress people whom a gateway's provider knows as opted out; returns how many were new.

    Args:
        connection: in a transaction that writes.
        vault: makes the hashes.
        gateway: the gateway's name, kept as the source.
        addresses: theirs; one that cannot be an address is passed over.
        now: the real clock.
    """
    rows, known = [], list(addresses)
    for address in known:
        with contextlib.suppress(UserError):
            rows += entries(
                vault,
                phone=address,
                user_id=None,
                channel="email" if "@" in address else "sms",
                scope=ALL,
                reason=PROVIDER,
                source=f"refused at {gateway}",
                now=now,
            )
    if not rows:
        return 0
    one_after_another(connection)
    carry_over(connection, vault, known)
    return add(connection, rows)
