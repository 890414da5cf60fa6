"""Replies as a person reads them: numbers masked, and a mark for those that refuse after all."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, func, select

from usergrowth_dagster.addresses.numbers import Problem, parse
from usergrowth_dagster.addresses.shown import hide_numbers, mask
from usergrowth_dagster.control import audit, schema
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.gateways.registry import sends_only_mail
from usergrowth_dagster.messaging.people.old_hashes import OLD_BYTES, Waiting
from usergrowth_dagster.messaging.people.phones import PhoneVault
from usergrowth_dagster.messaging.policy import suppression
from usergrowth_dagster.messaging.receiving.unread import REPLY
from usergrowth_dagster.messaging.texts.refusals import Action, action_of, words_of
from usergrowth_dagster.settings import Settings

reply, unread, message = schema.reply, schema.unread, schema.message
_REREAD = "reply_words"  # what the replies were last read by, in the table meta
_CHUNK = 500
_PREFIX = "u"
_ERASED = "(erased)"


@dataclass(frozen=True)
class ShownReply:
    """One reply, or one entry that could not be read (its id begins with ``u``).

    ``sender`` is masked, and so are the numbers and e-mail addresses in ``text``; ``note`` says why
    an entry could not be read. ``action`` is ``opt_out``, ``opt_in`` or ``none``.
    """

    id: str
    received: datetime
    gateway: str
    sender: str
    action: str
    text: str
    note: str = ""


def read_replies(
    store: ControlStore, vault: PhoneVault, *, everything: bool = False, limit: int = 50
) -> list[ShownReply]:
    """The newest replies that a person should read, newest first.

    Args:
        store: the control store.
        vault: opens what is sealed.
        everything: also the replies that refused or lifted a refusal, and reports that could not be
            read.
        limit: at most so many.
    """
    replies = select(reply).order_by(reply.c.received_time.desc(), reply.c.id.desc()).limit(limit)
    unread = (
        select(schema.unread)
        .order_by(schema.unread.c.received_time.desc(), schema.unread.c.id.desc())
        .limit(limit)
    )
    if not everything:
        replies = replies.where(reply.c.action == str(Action.NONE))
        unread = unread.where(
            schema.unread.c.action == str(Action.NONE), schema.unread.c.kind == REPLY
        )
    with store.read() as connection:
        shown = [
            ShownReply(
                str(row["id"]),
                row["received_time"],
                row["gateway"],
                mask(_address(connection, vault, row)) or "unknown",
                row["action"],
                hide_numbers(_content(vault, row)),
            )
            for row in connection.execute(replies).mappings()
        ]
        shown += [
            ShownReply(
                f"{_PREFIX}{row['id']}",
                row["received_time"],
                row["gateway"],
                mask(_address(connection, vault, row)) or "unknown",
                row["action"],
                hide_numbers(_content(vault, row)),
                row["why"],
            )
            for row in connection.execute(unread).mappings()
        ]
    return sorted(shown, key=lambda one: one.received, reverse=True)[:limit]


def mark_refusal(
    store: ControlStore, vault: PhoneVault, settings: Settings, given: str, actor: str
) -> str:
    """Take a reply for the refusal that it is; the audit log gets an entry.

    Args:
        store: the control store.
        vault: opens and seals.
        settings: ``opt_out_scope``.
        given: id of the reply, as :func:`read_replies` shows it.
        actor: who marks it.

    Returns:
        A sentence that says what was done.

    Raises:
        UserError: there is no such reply, it refuses already, or nobody knows who sent it.
    """
    table, number = _place(given)
    query = select(table).where(table.c.id == number)
    with store.read() as connection:
        before = connection.execute(query).mappings().all()
        waiting = _waiting(connection, vault, settings, before)
    with store.write(alone=True) as connection:
        row = connection.execute(query).mappings().first()
        if row is None:
            raise UserError(
                f"there is no reply {given}; usergrowth replies --all lists them",
                code="message.unknown",
            )
        if row["action"] == str(Action.OPT_OUT):
            raise UserError(f"reply {given} refuses already", code="record.forbidden_change")
        if row["phone_hash"] is None:
            raise UserError(
                f"nobody knows who sent {given}: read it with usergrowth replies --reveal {given}, "
                "then suppress the number with usergrowth suppress add --phone -",
                code="record.forbidden_change",
            )
        new = suppression.add(connection, [_suppression(connection, vault, settings, row)])
        waiting.carry_over(connection)
        connection.execute(
            table.update().where(table.c.id == number).values(action=str(Action.OPT_OUT))
        )
        change = f"was {row['action']}{'' if new else ', was suppressed already'}"
        audit.record(connection, actor, "mark-refusal", f"reply {given}", change)
    return f"Reply {given} refuses: its sender {'is' if new else 'was already'} suppressed."


def reread_replies(store: ControlStore, vault: PhoneVault, settings: Settings) -> int:
    """Obey the replies that were kept before as talk and that refuse by the words of now.

    Nothing is read again until the words, or the rules for them, have changed. A sender who has
    sent START since, or whose suppression was lifted since, is left as he is.

    Returns:
        How many senders are suppressed by it.
    """
    words, name = words_of(settings), schema.meta.c.name == _REREAD

    def refuses(row: RowMapping) -> bool:
        return action_of(_readable(vault, row), words) is Action.OPT_OUT

    with store.read() as connection:
        if connection.scalar(select(schema.meta.c.value).where(name)) == words.digest:
            return 0
        last = connection.scalar(select(func.max(reply.c.id))) or 0
        talk = (reply.c.action == str(Action.NONE)) & (func.length(reply.c.content) > 0)
        old = select(reply).where(talk, func.length(reply.c.phone_hash) == OLD_BYTES)
        refusing = [row for row in connection.execute(old).mappings() if refuses(row)]
        waiting = _waiting(connection, vault, settings, refusing)
    done = start = 0
    while start < last:
        with store.write(alone=True) as connection:
            query = select(reply).where(talk, reply.c.id > start, reply.c.id <= last)
            rows = connection.execute(query.order_by(reply.c.id).limit(_CHUNK)).mappings().all()
            start = rows[-1]["id"] if len(rows) == _CHUNK else last
            new = [_obey_late(connection, vault, settings, row) for row in rows if refuses(row)]
            if new:
                waiting.carry_over(connection)
            done += sum(new)
    with store.write(alone=True) as connection:
        connection.execute(schema.meta.delete().where(name))
        connection.execute(schema.meta.insert().values(name=_REREAD, value=words.digest))
    return done


def _readable(vault: PhoneVault, row: RowMapping) -> str:
    try:
        return _content(vault, row)
    except UserError:
        return ""  # damaged


def _obey_late(
    connection: Connection, vault: PhoneVault, settings: Settings, row: RowMapping
) -> int:
    """Take an earlier reply for a refusal, unless it was lifted since; whether it is new."""
    sent = row["send_time"] or row["received_time"]
    next_second = sent.replace(microsecond=0) + timedelta(seconds=1)  # in its own it wins
    refusal = _suppression(connection, vault, settings, row)
    hashes = {row["phone_hash"], refusal["phone_hash"]}
    lift = select(reply.c.id).where(
        reply.c.phone_hash.in_(hashes),
        reply.c.action == str(Action.OPT_IN),
        func.coalesce(reply.c.send_time, reply.c.received_time) >= next_second,
    )
    lifted = select(schema.suppression.c.id).where(
        schema.suppression.c.phone_hash.in_(hashes),
        schema.suppression.c.lifted_time >= row["received_time"],
    )
    connection.execute(
        reply.update().where(reply.c.id == row["id"]).values(action=str(Action.OPT_OUT))
    )
    if connection.scalar(lift.limit(1)) or connection.scalar(lifted.limit(1)):
        return 0
    return suppression.add(connection, [refusal])


def _waiting(
    connection: Connection, vault: PhoneVault, settings: Settings, rows: Sequence[RowMapping]
) -> Waiting:
    """The unsent messages that may go to senders who are known by old hashes alone."""
    known = [row for row in rows if row["phone_hash"] is not None]
    refusals = [_suppression(connection, vault, settings, row) for row in known]
    hashes = {one["phone_hash"] for one in refusals if one["channel"] != "email"}
    waiting = Waiting(vault, {digest for digest in hashes if len(digest) == OLD_BYTES})
    waiting.look(connection)
    return waiting


def reveal(store: ControlStore, vault: PhoneVault, given: str, actor: str) -> str:
    """A reply in the clear, numbers included; the audit log gets an entry.

    Raises:
        UserError: there is no such reply.
    """
    table, number = _place(given)
    with store.write() as connection:
        row = connection.execute(select(table).where(table.c.id == number)).mappings().first()
        if row is None:
            raise UserError(
                f"there is no reply {given}; usergrowth replies --all lists them",
                code="message.unknown",
            )
        audit.record(connection, actor, "reveal", f"reply {given}", "")
        address = _address(connection, vault, row) or "unknown"
    return f"{address}: {_content(vault, row)}"


def _place(given: str) -> tuple[Table, int]:
    digits = given.removeprefix(_PREFIX)
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise UserError(f"{given!r} is no id of a reply, such as 12 or u3", code="message.unknown")
    return (unread if given.startswith(_PREFIX) else reply), int(digits)


def _content(vault: PhoneVault, row: RowMapping) -> str:
    return vault.open(row["content"]) if row["content"] else _ERASED


def _address(connection: Connection, vault: PhoneVault, row: RowMapping) -> str | None:
    """The sender: as it was kept, else as the ledger knows it."""
    sealed = row["phone_number"]
    if sealed is None and row["phone_hash"] is not None and row["content"]:
        known = (message.c.phone_hash == row["phone_hash"]) & message.c.phone_number.is_not(None)
        sealed = connection.scalar(select(message.c.phone_number).where(known).limit(1))
    return vault.open(sealed) if sealed else None


def _suppression(
    connection: Connection, vault: PhoneVault, settings: Settings, row: RowMapping
) -> dict[str, Any]:
    """A row of ``suppression`` for the sender, whose number may be known by its hash alone.

    The hash of an earlier version stays where the number is not known together with its country.
    """
    address = _address(connection, vault, row)
    sure = address and ("@" in address or not isinstance(parse(address), Problem))
    mail = "@" in address if address else sends_only_mail(row["gateway"])
    everywhere = settings.opt_out_scope == "everywhere"
    return {
        "channel": "email" if mail else "sms",
        "scope": suppression.ALL if everywhere else row.get("signature") or suppression.ALL,
        "phone_hash": vault.digest(address) if address and sure else row["phone_hash"],
        "user_hash": None,
        "phone_number": vault.seal(address) if address else None,
        "user_id": None,
        "reason": suppression.REPLY,
        "source": f"reply by {row['gateway']}, understood later",
        "created_time": utc_now(),
        "lifted_time": None,
    }
