"""Who may not be texted: one row for an address or a user, a channel and a scope.

A row in force (``lifted_time`` is null) keeps every message back that goes to its address **or** to
its user, on its channel (``*``: each) and for its scope: a signature's name, or ``*`` for all. It
is found by keyed hashes, so it holds on when the person is forgotten and the address is gone. A
lifted row stays as the record of what held when.

Whom a provider refuses to text because they refused there is suppressed here as well; otherwise
they would be texted through the next provider.
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from usergrowth_dagster.addresses.emails import may_be_email
from usergrowth_dagster.addresses.numbers import Problem, parse
from usergrowth_dagster.addresses.shown import mask
from usergrowth_dagster.control import audit, schema
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.people.old_hashes import carry_over
from usergrowth_dagster.messaging.people.phones import PhoneVault
from usergrowth_dagster.messaging.policy.person_keys import person_refuses
from usergrowth_dagster.messaging.policy.suppression_order import one_after_another

ALL = "*"
"""Every channel, or every signature."""

CHANNELS = ("sms", "email", ALL)
REPLY = "reply"
IMPORT = "import"
PROVIDER = "provider"
BY_HAND = "by_hand"
FORGOTTEN = "forgotten"
"""Reasons. A row whose reason is FORGOTTEN keeps no address and is not lifted by a reply."""

suppression = schema.suppression
message = schema.message


def in_force(channel: str, signature: str) -> ColumnElement[bool]:
    """Condition on ``suppression``: holds now for a channel and a signature."""
    return and_(
        suppression.c.lifted_time.is_(None),
        suppression.c.channel.in_((ALL, channel)),
        suppression.c.scope.in_((ALL, signature)),
    )


def is_suppressed(channel: str, signature: str) -> ColumnElement[bool]:
    """Condition on ``message``: the row's address, its user or another of the person is suppressed.

    Four look-ups in an index a row, however long the list of suppressions is.
    """
    holds = in_force(channel, signature)
    by_address = select(suppression.c.id).where(
        suppression.c.phone_hash == message.c.phone_hash, holds
    )
    by_user = select(suppression.c.id).where(suppression.c.user_hash == message.c.user_hash, holds)
    return or_(
        exists(by_address.correlate(message)),
        exists(by_user.correlate(message)),
        person_refuses(holds),
    )


def suppressed(channel: str, signature: str) -> Select[Any]:
    """All suppressions in force: phone_hash and user_hash, one of them null in each row."""
    return select(suppression.c.phone_hash, suppression.c.user_hash).where(
        in_force(channel, signature)
    )


def clean_address(text: str, country: str | None = None) -> str:
    """A phone number in E.164, or an e-mail address.

    Args:
        text: either, in any spelling.
        country: ISO code of the country of numbers that are written without one.

    Raises:
        UserError: it is neither; the sentence does not repeat it.
    """
    if "@" in text:
        address = text.strip()
        if may_be_email(address):
            return address
        raise UserError("not an e-mail address", code="person.invalid")
    number = parse(text, country)
    if number is Problem.NO_COUNTRY:
        raise UserError(
            "the number does not say its country: write it with + and the country code, or set "
            "default_country",
            code="person.invalid",
        )
    if isinstance(number, Problem):
        read_as = f", read as one of {country}" if country else ""
        raise UserError(
            f"not a phone number of any country{read_as}, and not an e-mail address; write a "
            "number of another country with + and its code (+44 …)",
            code="person.invalid",
        )
    return number


def require_channel(channel: str) -> None:
    """Refuse a channel that suppressions do not know.

    Raises:
        UserError: names those that they know.
    """
    if channel not in CHANNELS:
        raise UserError(
            f"channel {channel!r} is not known; known are: {', '.join(CHANNELS)}",
            code="gateway.unknown",
        )


def entries(
    vault: PhoneVault,
    *,
    phone: str | None,
    user_id: str | None,
    channel: str,
    scope: str,
    reason: str,
    source: str,
    now: datetime,
) -> list[dict[str, Any]]:
    """Rows of ``suppression`` for a person: one for the address, one for the user.

    Raises:
        UserError: neither is given, the address cannot be one, or the channel is unknown.
    """
    require_channel(channel)
    shared = {
        "channel": channel,
        "scope": scope,
        "phone_hash": None,
        "user_hash": None,
        "phone_number": None,
        "user_id": None,
        "reason": reason,
        "source": source[:200],
        "created_time": now,
    }
    kept = reason != FORGOTTEN
    rows = []
    if phone:
        # a forgotten person may have been texted at a number that nobody can read any more
        address = clean_address(phone, vault.country) if kept else phone
        sealed = vault.seal(address) if kept else None
        rows.append({**shared, "phone_hash": vault.digest(address), "phone_number": sealed})
    if user_id:
        shown = user_id if kept else None
        rows.append({**shared, "user_hash": vault.user_digest(user_id), "user_id": shown})
    if not rows:
        raise UserError(
            "a suppression needs a phone number, an e-mail address or a user id",
            code="person.invalid",
        )
    return rows


def add(connection: Connection, rows: Sequence[dict[str, Any]]) -> int:
    """Put rows of :func:`entries` in force; those that are in force already stay as they are.

    FORGOTTEN also takes the address and the user id from every earlier row of the person, and a
    later row of a forgotten person is kept without them.

    Returns:
        How many were new.
    """
    one_after_another(connection)
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    new = 0
    for name in ("phone_hash", "user_hash"):
        mine = [row for row in rows if row[name] is not None]
        if not mine:
            continue
        of_forgotten = select(suppression.c[name]).where(
            suppression.c[name].in_([row[name] for row in mine]),
            suppression.c.lifted_time.is_(None),
            suppression.c.reason == FORGOTTEN,
        )
        forgotten = set(connection.scalars(of_forgotten))
        kept = [
            {**row, "phone_number": None, "user_id": None} if row[name] in forgotten else row
            for row in mine
        ]
        statement = insert(suppression).on_conflict_do_nothing().returning(suppression.c.id)
        new += len(connection.scalars(statement, kept).all())
        for row in mine:
            if row["reason"] == FORGOTTEN:
                _forget(connection, suppression.c[name] == row[name], row)
    return new


def _forget(
    connection: Connection, same_person: ColumnElement[bool], row: Mapping[str, Any]
) -> None:
    everything = suppression.update().where(same_person)
    connection.execute(everything.values(phone_number=None, user_id=None))
    connection.execute(
        everything.where(
            suppression.c.channel == row["channel"],
            suppression.c.scope == row["scope"],
            suppression.c.lifted_time.is_(None),
        ).values(reason=FORGOTTEN)
    )


def suppress(
    store: ControlStore,
    vault: PhoneVault,
    *,
    phone: str | None = None,
    user_id: str | None = None,
    channel: str = "sms",
    scope: str = ALL,
    reason: str,
    source: str,
    now: datetime,
    actor: str | None = None,
) -> bool:
    """Suppress a person by address, by user, or both (two rows).

    Args:
        store: the control store.
        vault: makes the hashes and seals the address.
        phone: phone number or e-mail address.
        user_id: the user.
        channel: ``sms``, ``email`` or ``*``.
        scope: a signature's name, or ``*``.
        reason: a word such as :data:`BY_HAND`; :data:`FORGOTTEN` stores hashes alone.
        source: where this comes from, for people; holds no number.
        now: the real clock.
        actor: who does it by hand; then the audit log gets an entry.

    Returns:
        Whether anything was not in force yet.

    Raises:
        UserError: see :func:`entries`.
    """
    rows = entries(
        vault,
        phone=phone,
        user_id=user_id,
        channel=channel,
        scope=scope,
        reason=reason,
        source=source,
        now=now,
    )
    with store.write() as connection:
        if phone:
            one_after_another(connection)
            carry_over(connection, vault, [phone])
        new = add(connection, rows)
        if actor:
            audit.record(
                connection,
                actor,
                "suppress",
                _subject(vault.country, phone, user_id if reason != FORGOTTEN else None),
                f"{_where(channel, scope)}, {reason}{'' if new else ', was in force already'}",
            )
    return bool(new)


def lift_rows(
    connection: Connection,
    *,
    phone_hashes: Sequence[bytes] = (),
    user_hashes: Sequence[bytes] = (),
    channel: str | None = None,
    scope: str | None = None,
    forgotten: bool = False,
    now: datetime,
) -> int:
    """Within a transaction: :func:`lift`, for people by their hashes."""
    query = suppression.update().where(
        suppression.c.lifted_time.is_(None),
        or_(suppression.c.phone_hash.in_(phone_hashes), suppression.c.user_hash.in_(user_hashes)),
    )
    if channel is not None:
        query = query.where(suppression.c.channel == channel)
    if scope is not None:
        query = query.where(suppression.c.scope == scope)
    if not forgotten:
        query = query.where(suppression.c.reason != FORGOTTEN)
    return int(connection.execute(query.values(lifted_time=now)).rowcount)


def lift(
    store: ControlStore,
    vault: PhoneVault,
    *,
    phone: str | None = None,
    user_id: str | None = None,
    channel: str | None = None,
    scope: str | None = None,
    forgotten: bool = False,
    now: datetime,
    actor: str | None = None,
) -> int:
    """End suppressions of an address, a user, or both.

    Args:
        store: the control store.
        vault: makes the hashes.
        phone: phone number or e-mail address.
        user_id: the user.
        channel: only those of exactly this channel (``*`` is one); default: all.
        scope: only those of exactly this scope (``*`` is one); default: all.
        forgotten: also those that stand for a forgotten person.
        now: the real clock.
        actor: who does it by hand; then the audit log gets an entry.

    Returns:
        How many rows were lifted.

    Raises:
        UserError: neither a number nor a user is given.
    """
    if not phone and not user_id:
        raise UserError(
            "lifting needs a phone number, an e-mail address or a user id", code="person.invalid"
        )
    with store.write() as connection:
        if phone:
            one_after_another(connection)
            carry_over(connection, vault, [phone])
        lifted = lift_rows(
            connection,
            phone_hashes=[vault.digest(clean_address(phone, vault.country))] if phone else [],
            user_hashes=[vault.user_digest(user_id)] if user_id else [],
            channel=channel,
            scope=scope,
            forgotten=forgotten,
            now=now,
        )
        if actor:
            where = _where(channel or ALL, scope or ALL)
            audit.record(
                connection,
                actor,
                "lift",
                _subject(vault.country, phone, None if forgotten else user_id),
                f"{where}, {lifted} lifted",
            )
    return lifted


def counts(store: ControlStore) -> list[tuple[str, str, str, int]]:
    """Suppressions in force: channel, scope, reason, how many rows."""
    names = (suppression.c.channel, suppression.c.scope, suppression.c.reason)
    query = select(*names, func.count()).where(suppression.c.lifted_time.is_(None))
    with store.read() as connection:
        rows = connection.execute(query.group_by(*names).order_by(*names))
        return [(row[0], row[1], row[2], int(row[3])) for row in rows]


def _subject(country: str | None, phone: str | None, user_id: str | None) -> str:
    parts = [f"user {user_id}"] if user_id else []
    if phone:
        parts.append(f"address {mask(clean_address(phone, country))}")
    return ", ".join(parts) or "a forgotten person"


def _where(channel: str, scope: str) -> str:
    return f"channel {channel}, {'everywhere' if scope == ALL else f'signature {scope}'}"


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
