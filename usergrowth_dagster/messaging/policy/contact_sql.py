"""The contact policy as SQL over the ledger.

Every condition is an index look-up per row of what that person got, so asking for a batch costs
the same in a ledger of any size.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

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
)

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState, TemplateType
from usergrowth_dagster.control.columns import UtcTime, among
from usergrowth_dagster.messaging.policy.rules import ContactRules
from usergrowth_dagster.messaging.policy.suppression import in_force, is_suppressed

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

SCOPE = select(
    occurrence.c.send_by,
    exists(select(message.c.id).where(message.c.sent_time > bindparam("since", type_=UtcTime))),
).where(occurrence.c.id == bindparam("occurrence"))
"""Until when an occurrence may be sent, and whether any message went out after ``since``."""


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
def screening(policy: Policy, *, recent: bool, open_now: bool) -> Select[Any]:
    """The question about the rows ``:rows`` of ``:occurrence`` at a time, made once.

    Making it takes longer than running it. It returns for each row its id and zone, ``final`` (a
    reason or NULL), and the times from which waiting is reckoned: the last message to the user, the
    last to the address, and the promotion that takes the number's last place. The times that it is
    asked with are those of :func:`windows`.

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


def windows(policy: Policy, now: datetime) -> dict[str, datetime]:
    """Since when messages count at ``now``, by the names that :func:`screening` gives the times."""
    return {
        "cap_since": now - policy.rules.cap_window,
        "gap_since": now - policy.rules.min_gap,
        "number_since": now - NUMBER_CAP_WINDOW,
    }


def _moment(name: str) -> BindParameter[datetime]:
    return bindparam(name, type_=UtcTime)
