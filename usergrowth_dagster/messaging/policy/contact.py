"""The contact policy: may this person get this message now?

One set of rules, asked when an occurrence is planned and again in the transaction that commits a
row as ``submitting``. It holds for the person: by user and by the keyed hash of the address, across
all campaigns. In order of precedence:

* ``suppressed``: a suppression in force for the address or the user, on the channel and for the
  signature;
* ``capped``: ``cap_messages`` messages in the last ``cap_days``, to the user or to the address;
* ``min_gap``: the last message is less than ``min_gap_hours`` ago;
* ``number_cap``: the provider's limit of promotions per number, signature and 24 hours, counted at
  submission;
* ``quiet_hours``: it is not in [send_from, send_until) where the person is.

A message counts from when it was submitted (``message.sent_time``, on the business clock) unless it
is known that it never went out. The first two are final; the others wait where the occurrence still
has time then. A message that nobody counts against may still count: a code or notification with
``ignore_cap`` is one of the messages that a later promotion is held against.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, text

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState, TemplateType
from usergrowth_dagster.messaging.policy.contact_sql import (
    NUMBER_CAP_WINDOW,
    SCOPE,
    SENT_STATES,
    Policy,
    screening,
    windows,
)
from usergrowth_dagster.messaging.policy.rules import ContactRules, contact_rules

__all__ = ["SENT_STATES", "ContactRules", "Verdict", "contact_rules", "screen"]

_CHUNK = 2_000
_LOCK_KEY = 0x75676361  # advisory lock of caps: "ugca"
message = schema.message


@dataclass(frozen=True)
class Verdict:
    """Why a row may not be submitted now.

    ``wait_until`` (UTC) is when to ask again; None: skip it for good, with the reason.
    """

    message_id: int
    reason: str
    wait_until: datetime | None


def screen(
    connection: Connection,
    rules: ContactRules,
    *,
    occurrence_id: int,
    channel: str,
    signature: str,
    template_type: TemplateType | str,
    now: datetime,
    message_ids: Sequence[int] | None,
) -> list[Verdict]:
    """The rows of an occurrence that may not be submitted at ``now``; the others may.

    Call it inside the transaction that commits ``submitting``. On PostgreSQL it takes a lock until
    the end of that transaction, so that two dispatchers with one campaign each cannot both see the
    last free place under a person's cap. (SQLite has one writer at a time.)

    Args:
        connection: of ``ControlStore.write``.
        rules: of the occurrence.
        occurrence_id: the occurrence; its send_by bounds what may wait.
        channel: its channel.
        signature: its signature's name, which scopes suppressions and the provider's limit.
        template_type: only promotions are held against the provider's limit.
        now: business clock.
        message_ids: the rows to ask for; None: all that are planned.

    Returns:
        At most one verdict a row, by id.
    """
    if message_ids is not None and not message_ids:
        return []
    policy = Policy.of(rules, channel, signature, template_type)
    if policy.counts and connection.dialect.name == "postgresql":
        connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
    send_by, recent = connection.execute(
        SCOPE, {"occurrence": occurrence_id, "since": now - policy.reach}
    ).one()
    openings: dict[str | None, datetime | None] = {None: rules.next_open(now, None)}
    query = screening(policy, recent=bool(recent) and policy.counts, open_now=openings[None] == now)
    values = {"occurrence": occurrence_id, **windows(policy, now)}
    verdicts = []
    for chunk in _asked(connection, occurrence_id, message_ids):
        rows = connection.execute(query, {**values, "rows": chunk}).all()
        for message_id, zone, final, *times in rows:
            if final:
                verdicts.append(Verdict(message_id, final, None))
                continue
            reason, wait = _wait(rules, now, *times)
            if reason is not None:
                opening = rules.next_open(wait, zone)
            else:
                if zone not in openings:
                    openings[zone] = rules.next_open(now, zone)
                opening = openings[zone]
            if opening != now:
                late = opening is None or opening >= send_by
                verdicts.append(
                    Verdict(message_id, reason or "quiet_hours", None if late else opening)
                )
    return verdicts


def _asked(
    connection: Connection, occurrence_id: int, message_ids: Sequence[int] | None
) -> Iterator[Sequence[int]]:
    if message_ids is not None:
        ordered = sorted(message_ids)
        yield from (ordered[i : i + _CHUNK] for i in range(0, len(ordered), _CHUNK))
        return
    last = 0
    planned = (message.c.occurrence_id == occurrence_id, message.c.state == MessageState.PLANNED)
    while ids := connection.scalars(
        select(message.c.id)
        .where(*planned, message.c.id > last)
        .order_by(message.c.id)
        .limit(_CHUNK)
    ).all():
        yield ids
        last = ids[-1]


def _wait(
    rules: ContactRules,
    now: datetime,
    last_of_user: datetime | None,
    last_of_address: datetime | None,
    number_place: datetime | None,
) -> tuple[str | None, datetime]:
    """Why a row must wait, and until when; several things are waited for together."""
    reason, wait = None, now
    for name, moment, span in (
        ("min_gap", last_of_user, rules.min_gap),
        ("min_gap", last_of_address, rules.min_gap),
        ("number_cap", number_place, NUMBER_CAP_WINDOW),
    ):
        if moment is not None and moment + span > now:
            reason, wait = reason or name, max(wait, moment + span)
    return reason, wait
