"""The contact policy: may this person get this message now?

One set of rules, those of the settings or of the campaign's ``contact:`` block, asked when an
occurrence is planned and again in the transaction that commits a row as ``submitting``. It holds
for the person: by user and by the keyed hash of the address, across all campaigns. In order of
precedence:

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

Every condition is an index look-up per row of what that person got, so asking for a batch costs
the same in a ledger of any size.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    ScalarSelect,
    Select,
    bindparam,
    case,
    exists,
    func,
    null,
    or_,
    select,
    text,
)

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState, TemplateType
from usergrowth_dagster.control.columns import UtcTime, among
from usergrowth_dagster.messaging.policy.hours import next_open, zones_of
from usergrowth_dagster.messaging.policy.suppression import in_force, is_suppressed
from usergrowth_dagster.settings import Settings

SENT_STATES = (
    MessageState.SUBMITTING,
    MessageState.ACCEPTED,
    MessageState.IN_DOUBT,
    MessageState.DELIVERED,
    MessageState.UNDELIVERED,
    MessageState.EXPIRED,  # those that never went out have no sent_time
)
"""States of rows with a ``sent_time`` that went out, or may have."""
NUMBER_CAP_WINDOW = timedelta(hours=24)

message = schema.message
occurrence = schema.occurrence
_SENT = message.alias("sent")
Moment = datetime | BindParameter[datetime]

_SCOPE = select(
    occurrence.c.send_by,
    exists(select(message.c.id).where(message.c.sent_time > bindparam("since", type_=UtcTime))),
).where(occurrence.c.id == bindparam("occurrence"))
"""Until when an occurrence may be sent, and whether any message went out after ``since``."""

_CHUNK = 2_000
_LOCK_KEY = 0x75676361  # advisory lock of caps: "ugca"


@dataclass(frozen=True)
class ContactRules:
    """The rules of one campaign; build them with :func:`contact_rules`.

    ``cap_messages`` None: no cap. ``zone`` is the business time zone, which stands for a
    recipient's that is not known. ``require_consent`` names the attribute that must be true.
    """

    cap_messages: int | None
    cap_days: int
    min_gap: timedelta
    number_cap: int
    send_from: time
    send_until: time
    max_audience_days: int
    require_consent: str | None
    zone: ZoneInfo

    @property
    def cap_window(self) -> timedelta:
        """How far back messages count for the cap."""
        return timedelta(days=self.cap_days)

    def next_open(self, moment: datetime, zone: str | None) -> datetime | None:
        """The first time from ``moment`` on (UTC) that is not in a recipient's quiet hours."""
        return next_open(moment, zones_of(zone, self.zone), self.send_from, self.send_until)


def contact_rules(settings: Settings, contact: Mapping[str, Any] | None) -> ContactRules:
    """The settings' contact rules, where the campaign's ``contact:`` block has no other.

    Args:
        settings: the home's settings.
        contact: the block as JSON (``occurrence.contact``), or None.
    """
    overrides = {key: value for key, value in (contact or {}).items() if value is not None}
    exempt = bool(overrides.get("ignore_cap"))
    gap = float(overrides.get("min_gap_hours", settings.min_gap_hours))
    return ContactRules(
        cap_messages=None if exempt else overrides.get("cap_messages", settings.cap_messages),
        cap_days=int(overrides.get("cap_days", settings.cap_days)),
        min_gap=timedelta(0) if exempt else timedelta(hours=gap),
        number_cap=settings.number_cap,
        send_from=_time(overrides.get("send_from", settings.send_from)),
        send_until=_time(overrides.get("send_until", settings.send_until)),
        max_audience_days=int(overrides.get("max_audience_days", settings.max_audience_days)),
        require_consent=overrides.get("require_consent"),
        zone=settings.zone,
    )


def _time(value: time | str) -> time:
    return value if isinstance(value, time) else time.fromisoformat(value)


@dataclass(frozen=True)
class Policy:
    """Conditions on rows of ``message``, for the occurrences of one channel, signature and type.

    Times are on the business clock.
    """

    rules: ContactRules
    channel: str
    signature: str
    promotion: bool

    @classmethod
    def of(
        cls, rules: ContactRules, channel: str, signature: str, template_type: TemplateType | str
    ) -> "Policy":
        """The policy of an occurrence; only promotions have the provider's limit."""
        kind = (
            TemplateType[template_type.upper()] if isinstance(template_type, str) else template_type
        )
        return cls(rules, channel, signature, kind is TemplateType.PROMOTION)

    @property
    def counts(self) -> bool:
        """Whether earlier messages matter at all."""
        limited = self.rules.cap_messages is not None or bool(self.rules.min_gap)
        return limited or self.promotion

    @property
    def reach(self) -> timedelta:
        """How far back a message can matter."""
        spans = [NUMBER_CAP_WINDOW, self.rules.min_gap]
        if self.rules.cap_messages is not None:
            spans.append(self.rules.cap_window)
        return max(spans)

    def recent(self, connection: Connection, now: datetime) -> bool:
        """Whether a message went out that could matter; mostly not, on a home's first days."""
        query = select(message.c.id).where(message.c.sent_time > now - self.reach).limit(1)
        return self.counts and connection.scalar(query) is not None

    def capped(self, since: Moment) -> ColumnElement[bool]:
        """The user or the address has had as many messages as the cap allows."""
        cap = self.rules.cap_messages
        assert cap is not None
        return or_(
            *(self.newest(key, since, cap).is_not(None) for key in ("user_id", "phone_hash"))
        )

    def newest(self, key: str, since: Moment, place: int) -> ScalarSelect[datetime | None]:
        """When the ``place``-th newest message after ``since`` went to the row's user or address.

        NULL when there were fewer.
        """
        return self._nth(key, since, place, _SENT.c.state.in_(SENT_STATES))

    def number_place(self, since: Moment) -> ScalarSelect[datetime | None]:
        """When the promotion after ``since`` went out that takes the last place; NULL: one is free.

        What the provider rejected counts too: it counts at submission.
        """
        submitted = (*SENT_STATES, MessageState.REJECTED)
        promotions = select(occurrence.c.id).where(
            occurrence.c.id == _SENT.c.occurrence_id,
            occurrence.c.signature == self.signature,
            occurrence.c.template_type == TemplateType.PROMOTION,
        )
        return self._nth(
            "phone_hash",
            since,
            self.rules.number_cap,
            _SENT.c.state.in_(submitted),
            _SENT.c.channel == self.channel,
            promotions.correlate(_SENT).exists(),
        )

    def _nth(
        self, key: str, since: Moment, place: int, *conditions: ColumnElement[bool]
    ) -> ScalarSelect[datetime | None]:
        # An expression has no index: a person's few rows are found by the person. By the time,
        # which a planner without fresh statistics may choose, it would be everybody's of a week.
        moment = func.coalesce(_SENT.c.sent_time, _SENT.c.sent_time)
        return (
            select(moment)
            .where(_SENT.c[key] == message.c[key], moment > since, *conditions)
            .order_by(moment.desc())
            .limit(1)
            .offset(place - 1)
            .correlate(message)
            .scalar_subquery()
        )

    def hopeless(
        self, connection: Connection, now: datetime, send_by: datetime
    ) -> list[tuple[str, ColumnElement[bool]]]:
        """What bars a row at ``now`` and until an occurrence ends, in order of precedence."""
        objections = []
        refusal = in_force(self.channel, self.signature)
        if connection.scalar(select(schema.suppression.c.id).where(refusal).limit(1)) is not None:
            objections.append(("suppressed", is_suppressed(self.channel, self.signature)))
        if not self.recent(connection, now):
            return objections
        if self.rules.cap_messages is not None:
            objections.append(("capped", self.capped(now - self.rules.cap_window)))
        instant = timedelta(microseconds=1)  # a gap that ends with the window ends too late
        if self.rules.min_gap:
            since = send_by - self.rules.min_gap - instant
            keys = ("user_id", "phone_hash")
            blocked = or_(*(self.newest(key, since, 1).is_not(None) for key in keys))
            objections.append(("min_gap", blocked))
        if self.promotion:
            since = send_by - NUMBER_CAP_WINDOW - instant
            objections.append(("number_cap", self.number_place(since).is_not(None)))
        return objections


@lru_cache(maxsize=256)
def _screening(policy: Policy, *, recent: bool, open_now: bool) -> Select[Any]:
    """The question about the rows ``:rows`` of ``:occurrence`` at a time, made once.

    Making it takes longer than running it. It returns for each row its id and zone, ``final`` (a
    reason or NULL), and the times from which waiting is reckoned: the last message to the user, the
    last to the address, and the promotion that takes the number's last place. The times that it is
    asked with are those of :func:`_windows`.

    Args:
        policy: of the occurrence.
        recent: whether a message went out that could matter.
        open_now: where the business is, the hours are open: rows without a zone of their own to
            which nobody objects are left out.
    """
    final = [(is_suppressed(policy.channel, policy.signature), "suppressed")]
    if recent and policy.rules.cap_messages is not None:
        final.append((policy.capped(_moment("cap_since")), "capped"))
    objections: list[ColumnElement[Any]] = [case(*final).label("final")]
    if recent and policy.rules.min_gap:
        since = _moment("gap_since")
        objections.append(policy.newest("user_id", since, 1).label("last_of_user"))
        objections.append(policy.newest("phone_hash", since, 1).label("last_of_address"))
    if recent and policy.promotion:
        objections.append(policy.number_place(_moment("number_since")).label("number_place"))
    asked = select(message.c.id, message.c.zone, *objections).where(
        among(message.c.id, "rows"),
        # "+ 0" keeps SQLite from reading all of the occurrence's rows for each batch
        message.c.occurrence_id + 0 == bindparam("occurrence"),
    )
    judged = asked.subquery()
    named = [judged.c.get(name, null().label(name)) for name in _TIMES]
    query = select(judged.c.id, judged.c.zone, judged.c.final, *named).order_by(judged.c.id)
    if not open_now:
        return query
    return query.where(
        or_(judged.c.zone.is_not(None), *(judged.c[one.name].is_not(None) for one in objections))
    )


_TIMES = ("last_of_user", "last_of_address", "number_place")


def _windows(policy: Policy, now: datetime) -> dict[str, datetime]:
    """Since when messages count at ``now``, by the names that :func:`_screening` gives."""
    return {
        "cap_since": now - policy.rules.cap_window,
        "gap_since": now - policy.rules.min_gap,
        "number_since": now - NUMBER_CAP_WINDOW,
    }


def _moment(name: str) -> BindParameter[datetime]:
    return bindparam(name, type_=UtcTime)


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
        _SCOPE, {"occurrence": occurrence_id, "since": now - policy.reach}
    ).one()
    openings: dict[str | None, datetime | None] = {None: rules.next_open(now, None)}
    query = _screening(
        policy, recent=bool(recent) and policy.counts, open_now=openings[None] == now
    )
    values = {"occurrence": occurrence_id, **_windows(policy, now)}
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
