"""Entries of providers' posts that could not be read: kept as they came, sealed, for a person.

The same entry again is kept once. Reports that could not be read are dropped after
:data:`KEEP_REPORTS`; replies stay, since one of them may be a refusal.
"""

import contextlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects import postgresql, sqlite

from usergrowth_dagster.addresses.numbers import Number, Problem, old_keys, parse
from usergrowth_dagster.control import schema
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.gateways.cleaning import ADDRESS_SIZE, CONTENT_SIZE, clean_text
from usergrowth_dagster.messaging.gateways.protocol import Unread
from usergrowth_dagster.messaging.people.phones import PhoneVault
from usergrowth_dagster.messaging.policy.suppression import clean_address

RECEIPT, REPLY = "receipt", "reply"
KEEP_REPORTS = timedelta(days=30)
unread = schema.unread
_WHY_SIZE = 300


def keep_unread(
    store: ControlStore,
    vault: PhoneVault,
    gateway: str,
    kind: str,
    entries: Sequence[Unread],
    received: datetime,
) -> int:
    """Store entries, except those of other systems; what it returns for is on disk.

    Args:
        store: the control store.
        vault: seals the entries.
        gateway: who posted them.
        kind: RECEIPT or REPLY.
        entries: the entries.
        received: the real clock.

    Returns:
        How many were not there yet.
    """
    rows = {
        row["digest"]: row
        for one in entries
        if one.raw is not None and (row := _row(vault, gateway, kind, one, received))
    }
    if not rows:
        return 0
    insert = sqlite.insert if store.is_sqlite else postgresql.insert
    statement = insert(unread).on_conflict_do_nothing().returning(unread.c.id)
    old = (unread.c.kind == RECEIPT) & (unread.c.received_time < received - KEEP_REPORTS)
    with store.write() as connection:
        connection.execute(unread.delete().where(old))
        in_order = sorted(rows.values(), key=lambda row: bytes(row["digest"]))
        return len(connection.scalars(statement, in_order).all())


def _row(
    vault: PhoneVault, gateway: str, kind: str, one: Unread, received: datetime
) -> dict[str, Any]:
    raw = clean_text(one.raw, CONTENT_SIZE, lines=True)
    address = None
    with contextlib.suppress(UserError):
        address = (
            clean_address(clean_text(one.phone, ADDRESS_SIZE), vault.country) if one.phone else None
        )
    return {
        "digest": vault.user_digest(repr((gateway, kind, raw))),
        "gateway": gateway,
        "kind": kind,
        "why": clean_text(one.why, _WHY_SIZE),
        "content": vault.seal(raw),
        "phone_hash": vault.digest(address) if address else None,
        "phone_number": vault.seal(address) if address else None,
        "action": "none",
        "received_time": received,
    }


def count_unread(store: ControlStore) -> list[tuple[str, str, int]]:
    """How many entries wait for a person: gateway, kind, entries."""
    waits = (unread.c.action == "none") & (func.length(unread.c.content) > 0)
    names = (unread.c.gateway, unread.c.kind)
    query = select(*names, func.count()).where(waits).group_by(*names).order_by(*names)
    with store.read() as connection:
        return [(row[0], row[1], int(row[2])) for row in connection.execute(query)]


def mentioning(connection: Connection, vault: PhoneVault, addresses: Sequence[str]) -> list[int]:
    """Ids of the kept entries that are from or about an address, or hold it in any place."""
    hashes = {vault.digest(address) for address in addresses}
    forms = {form for address in addresses for form in _forms(vault, address) if len(form) > 5}
    query = select(unread.c.id, unread.c.phone_hash, unread.c.content)
    return [
        number
        for number, phone_hash, sealed in connection.execute(query)
        if phone_hash in hashes or any(form in _opened(vault, sealed).lower() for form in forms)
    ]


def _forms(vault: PhoneVault, address: str) -> set[str]:
    """What an entry may call an address: a number with its country, or without."""
    number = address if "@" in address else parse(address, vault.country)
    if isinstance(number, Problem) or "@" in number:
        return {address.lstrip("+0").lower()}
    return old_keys(Number(number))


def _opened(vault: PhoneVault, sealed: bytes) -> str:
    try:
        return vault.open(sealed) if sealed else ""
    except UserError:
        return ""  # damaged: nobody can read it
