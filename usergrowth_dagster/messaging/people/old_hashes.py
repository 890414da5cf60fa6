"""Hashes of phone numbers that earlier versions made, beside those of today.

Earlier versions compared numbers as they were written, so that one hash may belong to numbers of
several countries, and one person may have several. Hashes of today have 17 bytes, those have 16.

Two things make a home of an earlier version work, and both are safe to repeat and to interrupt:

* :func:`renew` runs when a ledger is opened. It opens every number that is kept, and hashes and
  seals it anew in E.164. It passes over rows that another process is at work on and comes back to
  them. A national number stays as it is until ``default_country`` is set.
* A hash without a number (of a forgotten person), or of a number that cannot be read, stays.
  :func:`carry_over` copies such a refusal to each number that it may belong to, when that number
  is planned, refused or allowed again. It may suppress one person too many, never one too few.

Replies keep the hash that they came with, since most have no number. Who looks for the replies of a
number asks for its old hashes too. A reply that is understood as a refusal only now is carried over
by :class:`Waiting` to the messages that are planned already.
"""

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, bindparam, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from usergrowth_dagster.addresses.numbers import Number, Problem, parse
from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.people.phones import PhoneVault, UnknownKeyError
from usergrowth_dagster.messaging.people.rotation import hold_key
from usergrowth_dagster.messaging.policy.suppression_order import one_after_another

OLD_BYTES = 16
_NAME = "number_form"
_FRESH = "E.164"
"""In ``meta``: the home never held an old hash. Else the country that old numbers were read by."""
meta, message, suppression = schema.meta, schema.message, schema.suppression
receipt = schema.receipt
_OLD_IN_FORCE = (
    suppression.c.lifted_time.is_(None),
    func.length(suppression.c.phone_hash) == OLD_BYTES,
    suppression.c.channel != "email",
)
_HASHED = (message, suppression, receipt, schema.reply)
_UNSENT = (MessageState.PLANNED, MessageState.CLAIMED)
_FORGOTTEN = "forgotten"  # as in policy.suppression, which imports this module
_CHUNK = 2_000
_ASKED = 1_000


def renew(store: ControlStore, vault: PhoneVault) -> int:
    """Hash every kept number anew, once for a home and for each default country.

    Returns:
        How many rows were changed.
    """
    with store.read() as connection:
        form = _form(connection)
    if form in (_FRESH, vault.country or "none"):
        return 0
    if form is None and _note_fresh(store):
        return 0
    # refusals first: those that stay as they are hold for the messages that are read after them
    changed = _renew_table(store, vault, suppression) + _renew_table(store, vault, message)
    with store.write(alone=True) as connection:
        _put_form(connection, vault.country or "none")
    return changed


def carry_over(connection: Connection, vault: PhoneVault, numbers: Iterable[str]) -> int:
    """Copy refusals under old hashes to the numbers that they may belong to.

    A refusal that was carried over before, and lifted since, is not carried over again. That of a
    forgotten person takes the place of another in force, which a reply might lift.

    Args:
        connection: in a transaction that writes.
        vault: makes the hashes.
        numbers: addresses; e-mail addresses are passed over.

    Returns:
        How many refusals were copied.
    """
    if not has_old_refusals(connection):
        return 0
    owners: dict[bytes, list[Number]] = {}
    for text in dict.fromkeys(numbers):
        number = parse(text, vault.country)
        if not isinstance(number, Problem):
            for digest in vault.old_digests(number):
                owners.setdefault(digest, []).append(number)
    copied, digests = 0, list(owners)
    for start in range(0, len(digests), _ASKED):
        some = digests[start : start + _ASKED]
        query = select(suppression).where(*_OLD_IN_FORCE, suppression.c.phone_hash.in_(some))
        for row in connection.execute(query).mappings().all():
            for number in owners[row["phone_hash"]]:
                copied += _copy(connection, vault, dict(row), number)
    return copied


def has_old_refusals(connection: Connection) -> bool:
    """Whether a refusal is in force under a hash of an earlier version."""
    if never_held_old(connection):
        return False
    return connection.scalar(select(suppression.c.id).where(*_OLD_IN_FORCE).limit(1)) is not None


def never_held_old(connection: Connection) -> bool:
    """Whether the home is of this version from its beginning."""
    return _form(connection) == _FRESH


class Waiting:
    """Unsent messages whose numbers some old hashes may belong to.

    Args:
        vault: opens numbers and makes hashes.
        digests: the old hashes; when there are none, nothing is read.
    """

    def __init__(self, vault: PhoneVault, digests: Collection[bytes]) -> None:
        self._vault = vault
        self._digests = frozenset(digests)
        self._seen: set[int] = set()
        self._numbers: dict[Number, None] = {}

    def look(self, connection: Connection) -> None:
        """Read the messages that were not read yet; the first time takes long."""
        if not self._digests:
            return
        query = select(message.c.id, message.c.phone_number).where(
            message.c.state.in_(_UNSENT),
            message.c.phone_number.is_not(None),
            message.c.channel != "email",
        )
        last = 0
        while True:
            some = query.where(message.c.id > last).order_by(message.c.id).limit(_CHUNK)
            rows = connection.execute(some).all()
            if not rows:
                return
            last = rows[-1][0]
            for row_id, sealed in rows:
                number = None if row_id in self._seen else _number(self._vault, sealed)
                self._seen.add(row_id)
                if number and not self._digests.isdisjoint(self._vault.old_digests(number)):
                    self._numbers[number] = None

    def carry_over(self, connection: Connection) -> int:
        """Copy the refusals under the hashes to the messages' numbers, and let none be planned.

        Plans that are being written are waited for. Later ones find the refusals themselves.

        Args:
            connection: in a transaction that has put the refusals in force.

        Returns:
            How many refusals were copied.
        """
        if not self._digests:
            return 0
        connection.execute(  # whoever plans holds it for reading, from before it asks for refusals
            select(meta.c.value).where(meta.c.name == "phone_key").with_for_update()
        ).all()
        self.look(connection)
        return carry_over(connection, self._vault, self._numbers)


def _form(connection: Connection) -> str | None:
    form: str | None = connection.scalar(select(meta.c.value).where(meta.c.name == _NAME))
    return form


def _put_form(connection: Connection, value: str) -> None:
    changed = connection.execute(meta.update().where(meta.c.name == _NAME).values(value=value))
    if not changed.rowcount:
        connection.execute(meta.insert().values(name=_NAME, value=value))


def _note_fresh(store: ControlStore) -> bool:
    """Note that there is no old hash, if nothing is hashed yet."""
    with store.write(alone=True) as connection:
        if _form(connection) is not None:
            return _form(connection) == _FRESH
        if any(connection.scalar(select(table.c.id).limit(1)) for table in _HASHED):
            return False
        _put_form(connection, _FRESH)
    return True


def _copy(connection: Connection, vault: PhoneVault, row: dict[str, Any], number: Number) -> int:
    digest, forgotten = vault.digest(number), row["reason"] == _FORGOTTEN
    same = (suppression.c.phone_hash == digest) & (suppression.c.channel == row["channel"])
    same &= suppression.c.scope == row["scope"]
    before = select(suppression.c.id).where(same, suppression.c.created_time >= row["created_time"])
    if forgotten:
        before = before.where(suppression.c.reason == _FORGOTTEN)
    if connection.scalar(before.limit(1)) is not None:
        return 0
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    del row["id"]
    kept = row["phone_number"] is not None
    values = row | {"phone_hash": digest, "phone_number": vault.seal(number) if kept else None}
    statement = (
        insert(suppression).values(values).on_conflict_do_nothing().returning(suppression.c.id)
    )
    copied = len(connection.scalars(statement).all())
    if forgotten and not copied:
        in_force = suppression.update().where(same, suppression.c.lifted_time.is_(None))
        copied = connection.execute(in_force.values(values)).rowcount
    return copied


def _renew_table(store: ControlStore, vault: PhoneVault, table: Table) -> int:
    """All rows of a table that have an old hash and a number that can be read."""
    stale = (func.length(table.c.phone_hash) == OLD_BYTES) & table.c.phone_number.is_not(None)
    stale &= table.c.channel != "email"
    changed = 0
    while True:
        before, unread, last = changed, 0, 0
        while (chunk := _renew_chunk(store, vault, table, stale, last)) is not None:
            last = chunk.last
            changed += chunk.changed
            unread += chunk.unread
        with store.read() as connection:
            left = connection.scalar(select(func.count()).select_from(table).where(stale)) or 0
        if left <= unread:
            return changed
        if changed == before:
            time.sleep(0.2)  # others are at work on every row that is left


@dataclass(frozen=True)
class _Chunk:
    """The id of the last row, and rows that were changed or cannot be read."""

    last: int
    changed: int
    unread: int


def _renew_chunk(
    store: ControlStore, vault: PhoneVault, table: Table, stale: ColumnElement[bool], last: int
) -> _Chunk | None:
    """The next rows after an id; None: there are none."""
    with store.write() as connection:
        if table is suppression:
            one_after_another(connection)
        hold_key(connection, vault)
        rows = connection.execute(
            select(table)
            .where(table.c.id > last, stale)
            .order_by(table.c.id)
            .limit(_CHUNK)
            .with_for_update(skip_locked=True)  # waiting for rows while holding some: never
        ).mappings()
        kept = [dict(row) for row in rows]
        changes = []
        for row in kept:
            if number := _number(vault, row["phone_number"]):
                new = {"now": vault.digest(number), "sealed": vault.seal(number)}
                old = {"this": row["id"], "was": row["phone_hash"], "number": number}
                changes.append(old | new)
        if not changes:
            return _Chunk(kept[-1]["id"], 0, len(kept)) if kept else None
        if table is suppression:
            _end_doubles(connection, kept, changes)
        connection.execute(
            table.update()
            .where(table.c.id == bindparam("this"), table.c.phone_hash == bindparam("was"))
            .values(phone_hash=bindparam("now"), phone_number=bindparam("sealed")),
            [{k: v for k, v in change.items() if k != "number"} for change in changes],
        )
        if table is message:
            _renew_receipts(connection, changes)
            unsent = {row["id"] for row in kept if row["state"] in _UNSENT}
            carry_over(connection, vault, [c["number"] for c in changes if c["this"] in unsent])
        return _Chunk(kept[-1]["id"], len(changes), len(kept) - len(changes))


def _number(vault: PhoneVault, sealed: bytes) -> Number | None:
    """The number of a row; None when it cannot be opened or read, or is an e-mail address."""
    try:
        text = vault.open(sealed)
    except UnknownKeyError:
        raise
    except UserError:  # damaged
        return None
    number = parse(text, vault.country)
    return None if isinstance(number, Problem) else number


def _end_doubles(
    connection: Connection, rows: Sequence[dict[str, Any]], changes: Sequence[dict[str, Any]]
) -> None:
    """Of refusals that turn out to be of one number, the first stays in force; the others end."""
    hashes = [change["now"] for change in changes]
    present = select(suppression.c.phone_hash, suppression.c.channel, suppression.c.scope).where(
        suppression.c.phone_hash.in_(hashes), suppression.c.lifted_time.is_(None)
    )
    taken = {tuple(row) for row in connection.execute(present)}
    by_id = {row["id"]: row for row in rows}
    doubles = []
    for change in changes:
        row = by_id[change["this"]]
        key = (change["now"], row["channel"], row["scope"])
        if row["lifted_time"] is None:
            if key in taken:
                doubles.append(row["id"])
            taken.add(key)
    connection.execute(
        suppression.update().where(suppression.c.id.in_(doubles)).values(lifted_time=utc_now())
    )


def _renew_receipts(connection: Connection, changes: Sequence[dict[str, Any]]) -> None:
    """Reports that wait for a message find it by its new hash."""
    waiting = select(receipt.c.id).where(
        receipt.c.pending, func.length(receipt.c.phone_hash) == OLD_BYTES
    )
    if connection.scalar(waiting.limit(1)) is None:
        return
    mine = select(message.c.batch_id).where(message.c.id == bindparam("this")).scalar_subquery()
    connection.execute(
        receipt.update()
        .where(
            receipt.c.pending,
            receipt.c.phone_hash == bindparam("was"),
            or_(receipt.c.row_id == bindparam("this"), receipt.c.batch_id == mine),
        )
        .values(phone_hash=bindparam("now")),
        [{name: change[name] for name in ("this", "was", "now")} for change in changes],
    )
