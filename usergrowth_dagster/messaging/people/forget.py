"""A person out of the ledger, the replies, the suppressions and the outbox; a tombstone stays.

The tombstone is a suppression with the reason ``forgotten`` for every channel and signature. It
holds keyed hashes alone, of the user id and of each known address, so the person can be kept out
and is known by nobody. The ledger's rows stay, under a name made of the hash, so counts stay too.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO

from sqlalchemy import ColumnElement, Connection, case, func, null, or_, select

from usergrowth_dagster.control import audit, schema
from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.messaging.people.phones import PhoneVault
from usergrowth_dagster.messaging.policy import suppression
from usergrowth_dagster.messaging.receiving.unread import mentioning

UNSENT = (MessageState.PLANNED, MessageState.CLAIMED)
message, reply, unread = schema.message, schema.reply, schema.unread


def tombstone_id(user_hash: bytes) -> str:
    """What stands in the ledger, and in the audit log, for a forgotten user id."""
    return f"forgotten-{user_hash.hex()}"


@dataclass(frozen=True)
class Person:
    """Who is to be forgotten.

    Args:
        user_id: the user.
        given: addresses that whoever asks says are the person's; what was sent there under
            another user id is erased too.
        found: further addresses, found beside the user id.
    """

    user_id: str = field(repr=False)
    given: tuple[str, ...] = field(default=(), repr=False)
    found: tuple[str, ...] = field(default=(), repr=False)

    @property
    def addresses(self) -> list[str]:
        """All addresses, each once."""
        return list(dict.fromkeys((*self.given, *self.found)))


def ledger_addresses(store: ControlStore, vault: PhoneVault, user_id: str) -> list[str]:
    """Addresses that the ledger and the suppressions know a user by."""
    mine = vault.user_digest(user_id)
    queries = (
        select(message.c.phone_number).where(
            message.c.user_hash == mine, message.c.phone_number.is_not(None)
        ),
        select(schema.suppression.c.phone_number).where(
            schema.suppression.c.user_id == user_id, schema.suppression.c.phone_number.is_not(None)
        ),
    )
    with store.read() as connection:
        sealed = [value for query in queries for value in connection.scalars(query)]
    return list(dict.fromkeys(vault.open(value) for value in sealed))


def forgotten_hashes(store: ControlStore) -> frozenset[bytes]:
    """Hashes of the user ids that were forgotten, and not let in again since."""
    query = select(schema.suppression.c.user_hash).where(
        schema.suppression.c.reason == suppression.FORGOTTEN,
        schema.suppression.c.user_hash.is_not(None),
        schema.suppression.c.lifted_time.is_(None),
    )
    with store.read() as connection:
        return frozenset(connection.scalars(query))


def bury(store: ControlStore, vault: PhoneVault, person: Person, actor: str) -> int:
    """Put the tombstone in force, first of all: nobody texts or lands the person from now on.

    Returns:
        How many of its rows are new.
    """
    shared = {
        "channel": suppression.ALL,
        "scope": suppression.ALL,
        "reason": suppression.FORGOTTEN,
        "source": "forget",
        "now": utc_now(),
    }
    rows = suppression.entries(vault, phone=None, user_id=person.user_id, **shared)  # type: ignore[arg-type]
    for address in person.addresses:
        rows += suppression.entries(vault, phone=address, user_id=None, **shared)  # type: ignore[arg-type]
    with store.write() as connection:
        new = suppression.add(connection, rows)
        if new:
            name = tombstone_id(vault.user_digest(person.user_id))
            audit.record(connection, actor, "forget", name, "suppressed everywhere; erasing")
    return new


def erase_in_store(
    store: ControlStore, vault: PhoneVault, person: Person, *, dry_run: bool = False
) -> dict[str, int]:
    """Erase a person from the ledger, the suppressions, the replies and the audit log.

    Messages that have not gone out are skipped. What a provider has in hand is settled by its row
    id; a row in doubt can only be settled by a report any more.

    Returns:
        Rows by table, and what was skipped under ``message skipped``.
    """
    mine = _mine(vault, person)
    named = (message.c.phone_number.is_not(None)) | (~message.c.user_id.startswith("forgotten-"))
    subject = f"user {person.user_id}"
    of_audit = (schema.audit.c.subject == subject) | schema.audit.c.subject.startswith(
        f"{subject},", autoescape=True
    )
    conditions: dict[str, tuple[object, ColumnElement[bool]]] = {
        "message": (message, mine & named),
        "message skipped": (message, mine & message.c.state.in_(UNSENT)),
        "suppression": (schema.suppression, _suppressions(vault, person) & _with_address()),
        "reply": (reply, _replies(vault, person) & (func.length(reply.c.content) > 0)),
        "click": (schema.click, schema.click.c.message_id.in_(select(message.c.id).where(mine))),
        "person_key": (schema.person_key, _person_keys(vault, person)),
        "audit": (schema.audit, of_audit),
    }
    with store.write() as connection:
        unread = mentioning(connection, vault, person.addresses)
        conditions["unread"] = (
            schema.unread,
            schema.unread.c.id.in_(unread) & (func.length(schema.unread.c.content) > 0),
        )
        counts = {
            name: connection.scalar(select(func.count()).select_from(table).where(condition)) or 0  # type: ignore[arg-type]
            for name, (table, condition) in conditions.items()
        }
        if dry_run:
            return counts
        if store.is_sqlite:  # zeros over what is deleted, in the table and in its indices
            connection.exec_driver_sql("pragma secure_delete = on")
        of_mine = select(message.c.id).where(mine)
        connection.execute(schema.click.delete().where(schema.click.c.message_id.in_(of_mine)))
        connection.execute(schema.person_key.delete().where(_person_keys(vault, person)))
        _erase_messages(connection, store, mine)
        connection.execute(
            schema.suppression.update()
            .where(_suppressions(vault, person))
            .values(phone_number=None, user_id=None)
        )
        connection.execute(
            reply.update().where(_replies(vault, person)).values(content=b"", phone_number=None)
        )
        connection.execute(
            schema.unread.update()
            .where(schema.unread.c.id.in_(unread))
            .values(content=b"", phone_number=None)
        )
        name = tombstone_id(vault.user_digest(person.user_id))
        connection.execute(schema.audit.update().where(of_audit).values(subject=name))
    _clean(store)
    return counts


def _person_keys(vault: PhoneVault, person: Person) -> ColumnElement[bool]:
    """What is kept of the persons that a user or one of the addresses belongs to."""
    user, keys = vault.user_digest(person.user_id), schema.person_key.c
    return (keys.user_hash == user) | keys.key_hash.in_(
        [user, *vault.every_digest(person.addresses)]
    )


def _mine(vault: PhoneVault, person: Person) -> ColumnElement[bool]:
    condition = message.c.user_hash == vault.user_digest(person.user_id)
    hashes = vault.every_digest(person.given)
    return or_(condition, message.c.phone_hash.in_(hashes)) if hashes else condition


def _suppressions(vault: PhoneVault, person: Person) -> ColumnElement[bool]:
    hashes = vault.every_digest(person.addresses)
    return or_(
        schema.suppression.c.user_hash == vault.user_digest(person.user_id),
        schema.suppression.c.phone_hash.in_(hashes),
    )


def _with_address() -> ColumnElement[bool]:
    return schema.suppression.c.phone_number.is_not(None) | schema.suppression.c.user_id.is_not(
        None
    )


def _replies(vault: PhoneVault, person: Person) -> ColumnElement[bool]:
    """Replies from the person's addresses, also when these are known by their hashes alone."""
    hashes = vault.every_digest(person.addresses)
    sent_to = select(message.c.phone_hash).where(
        message.c.user_hash == vault.user_digest(person.user_id), message.c.phone_hash.is_not(None)
    )
    return or_(reply.c.phone_hash.in_(hashes), reply.c.phone_hash.in_(sent_to))


def _erase_messages(connection: Connection, store: ControlStore, mine: ColumnElement[bool]) -> None:
    unsent = message.c.state.in_(UNSENT)
    hexed = (
        func.lower(func.hex(message.c.user_hash))
        if store.is_sqlite
        else func.encode(message.c.user_hash, "hex")
    )
    connection.execute(
        message.update()
        .where(mine)
        .values(
            user_id="forgotten-" + hexed,
            phone_number=None,
            template_params="{}",
            zone=None,
            state=case((unsent, MessageState.SKIPPED), else_=message.c.state),
            reason=case((unsent, suppression.FORGOTTEN), else_=message.c.reason),
            claimed_by=case((unsent, null()), else_=message.c.claimed_by),
            lease_until=case((unsent, null()), else_=message.c.lease_until),
        )
    )


def _clean(store: ControlStore) -> None:
    """Have the database let go of the bytes of rows that were changed.

    Another process that is reading can keep SQLite from it; its own next checkpoint does it then.
    """
    if store.is_sqlite:
        with store.engine.connect() as connection:
            connection.exec_driver_sql("commit")  # a checkpoint cannot run in a transaction
            connection.exec_driver_sql("pragma wal_checkpoint(truncate)").fetchall()
            connection.exec_driver_sql("begin")  # what the pool rolls back
        return
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in (
            message,
            schema.suppression,
            reply,
            unread,
            schema.audit,
            schema.export_error,
            schema.click,
            schema.person_key,
        ):
            connection.exec_driver_sql(f"vacuum {table.name}")


def erase_in_outbox(home: Path, person: Person, vault: PhoneVault, *, dry_run: bool = False) -> int:
    """Empty the person's lines in the dry run's files; returns how many there were.

    A line stays, with its message's id, for it says that the message went out. It is written over
    in place, with a line of the same length, so the file never lacks one.
    """
    digests = vault.every_digest(person.given)

    def is_mine(line: dict[str, object]) -> bool:
        if line.get("user_id") == person.user_id:
            return True
        phone = line.get("phone")
        return bool(digests) and isinstance(phone, str) and vault.digest(phone) in digests

    outbox = home / "outbox"
    files = sorted(outbox.rglob("*.jsonl")) if outbox.is_dir() else []
    return sum(_blank_lines(path, is_mine, dry_run) for path in files)


def _blank_lines(path: Path, is_mine: Callable[[dict[str, object]], bool], dry_run: bool) -> int:
    erased = 0
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as the gateway does while it appends
        for offset, line in list(_lines(file)):
            try:
                entry = json.loads(line)
            except ValueError:  # torn by a crash; the gateway cuts it off
                continue
            if not isinstance(entry, dict) or not is_mine(entry):
                continue
            erased += 1
            if dry_run:
                continue
            kept = {name: entry[name] for name in ("out_id", "batch_id") if name in entry}
            blank = json.dumps({**kept, "forgotten": True}).encode()
            file.seek(offset)
            file.write(blank.ljust(len(line) - 1) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return erased


def _lines(file: IO[bytes]) -> Iterable[tuple[int, bytes]]:
    offset = 0
    for line in file:
        if line.endswith(b"\n"):
            yield offset, line
        offset += len(line)


def forgotten_since(store: ControlStore, vault: PhoneVault, user_id: str) -> datetime | None:
    """When a user was forgotten; None: never."""
    query = select(func.min(schema.suppression.c.created_time)).where(
        schema.suppression.c.reason == suppression.FORGOTTEN,
        schema.suppression.c.user_hash == vault.user_digest(user_id),
    )
    with store.read() as connection:
        moment: datetime | None = connection.scalar(query)
    return moment
