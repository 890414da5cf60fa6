"""Rotation of the key that seals numbers, beside dispatchers that go on working.

Which key seals is on record in the table ``meta`` (``phone_key``); who writes sealed values holds
that record while writing. A rotation

1. puts a new secret into the ring beside the old one, so that both open,
2. puts the new key on record, which waits for writers that hold the old one,
3. seals every value anew, in chunks, passing over rows that somebody is at work on,
4. drops the old secret once, with the record locked, nothing is sealed with it any more.

Killed at any place, the next call goes on from there. The key of the hashes never changes: by it
suppressions are found, and persons who are forgotten.
"""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Table, bindparam, func, select

from usergrowth_dagster.control import audit, schema
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.dispatching import failpoints
from usergrowth_dagster.messaging.people import phones
from usergrowth_dagster.messaging.people.phones import (
    ENVIRONMENT,
    FILE_NAME,
    PhoneVault,
    Ring,
    UnknownKeyError,
    open_vault,
)

SEALED: tuple[tuple[Table, Column[Any]], ...] = (
    (schema.message, schema.message.c.phone_number),
    (schema.suppression, schema.suppression.c.phone_number),
    (schema.reply, schema.reply.c.content),
    (schema.reply, schema.reply.c.phone_number),
    (schema.unread, schema.unread.c.content),
    (schema.unread, schema.unread.c.phone_number),
)
"""Every column that holds sealed values."""

NEXT = "secret.key.next"
"""File beside the settings with the ring that the environment should hold next."""

ADDED = "key_added"  # both secrets are in the ring
RECORDED = "key_recorded"  # the new one seals from now on
RESEALED = "values_resealed"  # one more chunk is
_CHUNK = 2_000
_META = schema.meta
_WRONG = (
    f"the secret key ({ENVIRONMENT} or <home>/{FILE_NAME}) is not the one that the ledger was "
    "written with; restore that one, or take the one that usergrowth rotate-key has made since"
)


@dataclass(frozen=True)
class Rotated:
    """What a rotation did: values sealed anew by table, and what a person has to do yet."""

    resealed: dict[str, int]
    key_id: str
    todo: str = ""


def check_key(store: ControlStore, vault: PhoneVault) -> None:
    """Put the vault's keys on record at first use, and hold them against the record later.

    Raises:
        UserError: the ledger was written with another secret.
    """
    query = select(_META.c.name, _META.c.value).where(_META.c.name.in_(("phone_key", "phone_hash")))
    with store.read() as connection:
        key_ids = dict(connection.execute(query).tuples().all())
    if len(key_ids) < 2:
        mine = {"phone_key": vault.key_id.hex(), "phone_hash": vault.hash_id.hex()}
        with store.write(alone=True) as connection:
            key_ids = dict(connection.execute(query).tuples().all())
            if "phone_key" not in key_ids or vault.knows(bytes.fromhex(key_ids["phone_key"])):
                for name in mine.keys() - key_ids.keys():
                    connection.execute(_META.insert().values(name=name, value=mine[name]))
                key_ids = mine | key_ids
    if not vault.knows(bytes.fromhex(key_ids["phone_key"])):
        raise UserError(_WRONG, code="key.unknown")
    if key_ids["phone_hash"] != vault.hash_id.hex():
        raise UserError(_WRONG, code="key.unknown")


def hold_key(connection: Connection, vault: PhoneVault | None = None) -> None:
    """Before sealing, or copying, within a transaction: no rotation ends until it is committed.

    Args:
        connection: of ``ControlStore.write``.
        vault: what seals; None when sealed values are copied as they are.

    Raises:
        UnknownKeyError: the key was rotated, and this process has the old one alone.
    """
    present = connection.scalar(
        select(_META.c.value).where(_META.c.name == "phone_key").with_for_update(read=True)
    )
    if vault is None:
        return
    if present is not None and not vault.knows(bytes.fromhex(present)):
        raise UnknownKeyError(_WRONG)
    vault.refresh()


def rotate(
    store: ControlStore,
    home: Path,
    actor: str,
    progress: Callable[[str, int, int], None] | None = None,
) -> Rotated:
    """Change the key that seals, or finish a change that was interrupted.

    With the key in the environment, which no command can change for other processes, it takes two
    calls: the first writes the environment's next value to ``<home>/secret.key.next``, the second,
    when every process has that value, seals everything anew and writes the last value.

    Args:
        store: the control store.
        home: the home folder.
        actor: who does it, for the audit log.
        progress: called with a table's name, values sealed anew, and values there were.

    Raises:
        UserError: the present key is not the ledger's, or another rotation is at work.
    """
    with one_rotation(home):
        vault = open_vault(home)
        check_key(store, vault)
        outside = phones.ring_from_environment()
        ring = outside or phones.read_ring(home / FILE_NAME)
        if outside is not None and len(ring.secrets) == 1:
            return _ask(store, home, ring, actor)
        if len(ring.secrets) == 1:
            ring = ring.with_new()
            phones.write_ring(home / FILE_NAME, ring.text())
        failpoints.reach(ADDED)
        _record(store, ring.key_ids[0], actor)
        failpoints.reach(RECORDED)
        counts = dict.fromkeys((table.name for table, _ in SEALED), 0)
        sealing = PhoneVault(ring)
        while not _is_done(store, sealing, _reseal(store, sealing, counts, progress)):
            pass
        return _finish(store, home, ring, outside is not None, counts, actor)


def _ask(store: ControlStore, home: Path, ring: Ring, actor: str) -> Rotated:
    """The first call with the key in the environment: write down what it should become."""
    path = home / NEXT
    if path.exists() and (written := phones.read_ring(path)).secrets[1:] == ring.secrets:
        ring = written  # asked before: the same value again
    else:
        ring = ring.with_new()
        phones.write_ring(path, ring.text())
        with store.write() as connection:
            audit.record(connection, actor, "rotate-key", "new key", "waits for the environment")
    return Rotated(
        {},
        ring.key_ids[0].hex(),
        f"the key is in {ENVIRONMENT}, which this command cannot change: set it to the content of "
        f"{path} for every process, start them again, then run usergrowth rotate-key again",
    )


def _record(store: ControlStore, key_id: bytes, actor: str) -> None:
    """From now on everything is sealed with the key; waits for who still seals with another."""
    name = _META.c.name == "phone_key"
    with store.write(alone=True) as connection:
        if connection.scalar(select(_META.c.value).where(name)) == key_id.hex():
            return
        connection.execute(_META.update().where(name).values(value=key_id.hex()))
        audit.record(connection, actor, "rotate-key", f"key {key_id.hex()}", "seals from now on")


def _stale(vault: PhoneVault, column: Column[Any]) -> ColumnElement[bool]:
    """Condition: a value that is sealed with another key than the vault seals with."""
    return (func.length(column) > 0) & (func.substr(column, 1, 4) != vault.key_id)


def _is_done(store: ControlStore, vault: PhoneVault, damaged: dict[str, set[int]]) -> bool:
    """Whether nothing needs the old key any more, and nothing can come to need it.

    The record is locked first: who was copying old values has committed them by then, and who
    comes later finds new ones alone.
    """
    with store.write(alone=True) as connection:
        connection.execute(
            select(_META.c.value).where(_META.c.name == "phone_key").with_for_update()
        ).all()
        return not any(
            connection.scalar(
                select(table.c.id)
                .where(_stale(vault, column), table.c.id.not_in(damaged[table.name]))
                .limit(1)
            )
            for table, column in SEALED
        )


def _reseal(
    store: ControlStore,
    vault: PhoneVault,
    done: dict[str, int],
    progress: Callable[[str, int, int], None] | None,
) -> dict[str, set[int]]:
    """Seal everything anew that is sealed with another key.

    Args:
        store: the control store.
        vault: has both keys and seals with the new one.
        done: how many values by table; counted on.
        progress: see :func:`rotate`.

    Returns:
        Ids of the rows, by table, whose values no key opens.
    """
    damage: dict[str, set[int]] = {}
    for table, column in SEALED:
        name, stale = table.name, _stale(vault, column)
        damaged = damage.setdefault(name, set())
        with store.read() as connection:
            total = connection.scalar(select(func.count()).where(stale)) or 0
        left = total > 0
        while left:
            before = done[name]
            for number in _pass(store, vault, column, stale, damaged):
                done[name] += number
                if progress:
                    progress(name, done[name], max(total, done[name]))
            passed_over = select(table.c.id).where(stale, table.c.id.not_in(damaged)).limit(1)
            with store.read() as connection:
                left = connection.scalar(passed_over) is not None
            if left and done[name] == before:
                time.sleep(0.2)  # others are at work on every row that is left
    return damage


def _pass(
    store: ControlStore,
    vault: PhoneVault,
    column: Column[Any],
    stale: ColumnElement[bool],
    damaged: set[int],
) -> Iterator[int]:
    """Go once through a table; yields the values of each chunk."""
    table, last = column.table, 0
    assert isinstance(table, Table)
    change = (
        table.update()
        .where(table.c.id == bindparam("row_id"), column == bindparam("was"))
        .values({column: bindparam("now")})
    )
    while True:
        with store.write() as connection:
            rows = connection.execute(
                select(table.c.id, column)
                .where(table.c.id > last, stale)
                .order_by(table.c.id)
                .limit(_CHUNK)
                .with_for_update(skip_locked=True)  # waiting for rows while holding some: never
            ).all()
            if not rows:
                return
            changes = []
            for row_id, was in rows:
                try:
                    now = vault.seal(vault.open(was))
                except UnknownKeyError:
                    raise
                except UserError:  # nobody can read it, whatever key is kept
                    damaged.add(row_id)
                    continue
                changes.append({"row_id": row_id, "was": was, "now": now})
            if changes:
                connection.execute(change, changes)
        failpoints.reach(RESEALED)
        last = rows[-1][0]
        yield len(changes)


def _finish(
    store: ControlStore,
    home: Path,
    ring: Ring,
    outside: bool,
    counts: dict[str, int],
    actor: str,
) -> Rotated:
    """Drop the old secret, and report."""
    alone = ring.newest_alone()
    todo = ""
    if outside:
        path = home / NEXT
        phones.write_ring(path, alone.text())
        todo = (
            f"nothing is sealed with the old key any more: set {ENVIRONMENT} to the content of "
            f"{path} for every process, start them again, keep a copy apart, and remove the file"
        )
    else:
        phones.write_ring(home / FILE_NAME, alone.text())
    key_id = ring.key_ids[0].hex()
    listed = ", ".join(f"{number} of {name}" for name, number in counts.items())
    with store.write() as connection:
        audit.record(connection, actor, "rotate-key", f"key {key_id}", f"sealed anew: {listed}")
    return Rotated(counts, key_id, todo)


@contextmanager
def one_rotation(home: Path) -> Iterator[None]:
    """Keep other rotations of a home's key off.

    Raises:
        UserError: one is at work.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / f".{FILE_NAME}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                "another usergrowth rotate-key is at work; let it finish", code="store.busy"
            ) from None
        yield
