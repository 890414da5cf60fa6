"""The contact policy as SQL over the ledger.

Every condition is an index look-up per row of what that person got, so asking for a batch costs
the same in a ledger of any size.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, ScalarSelect, case, func, null, or_, select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState, TemplateType
from usergrowth_dagster.messaging.policy.suppression import in_force, is_suppressed

if TYPE_CHECKING:
    from usergrowth_dagster.messaging.policy.contact import ContactRules

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

_M = schema.message
_O = schema.occurrence
_SENT = _M.alias("sent")


class Policy:
    """Conditions on rows of ``message``, for one occurrence at one time (business clock)."""

    def __init__(
        self,
        rules: "ContactRules",
        channel: str,
        signature: str,
        template_type: TemplateType | str,
        now: datetime,
    ) -> None:
        self.rules, self.channel, self.signature, self.now = rules, channel, signature, now
        kind = (
            TemplateType[template_type.upper()] if isinstance(template_type, str) else template_type
        )
        self.promotion = kind is TemplateType.PROMOTION

    @property
    def counts(self) -> bool:
        """Whether earlier messages matter at all."""
        limited = self.rules.cap_messages is not None or bool(self.rules.min_gap)
        return limited or self.promotion

    def recent(self, connection: Connection) -> bool:
        """Whether anybody got anything that could matter; mostly not, on a home's first days."""
        spans = [NUMBER_CAP_WINDOW, self.rules.min_gap]
        if self.rules.cap_messages is not None:
            spans.append(self.rules.cap_window)
        query = select(_M.c.id).where(_M.c.sent_time > self.now - max(spans)).limit(1)
        return self.counts and connection.scalar(query) is not None

    def capped(self) -> ColumnElement[bool]:
        """The user or the address has had as many messages as the cap allows."""
        cap, since = self.rules.cap_messages, self.now - self.rules.cap_window
        assert cap is not None
        return or_(
            *(self.newest(key, since, cap).is_not(None) for key in ("user_id", "phone_hash"))
        )

    def newest(self, key: str, since: datetime, place: int) -> ScalarSelect[datetime | None]:
        """When the ``place``-th newest message after ``since`` went to the row's user or address.

        NULL when there were fewer.
        """
        return self._nth(key, since, place, _SENT.c.state.in_(SENT_STATES))

    def number_place(self, since: datetime) -> ScalarSelect[datetime | None]:
        """When the promotion after ``since`` went out that takes the last place; NULL: one is free.

        What the provider rejected counts too: it counts at submission.
        """
        submitted = (*SENT_STATES, MessageState.REJECTED)
        promotions = select(_O.c.id).where(
            _O.c.id == _SENT.c.occurrence_id,
            _O.c.signature == self.signature,
            _O.c.template_type == TemplateType.PROMOTION,
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
        self, key: str, since: datetime, place: int, *conditions: ColumnElement[bool]
    ) -> ScalarSelect[datetime | None]:
        # An expression has no index: a person's few rows are found by the person. By the time,
        # which a planner without fresh statistics may choose, it would be everybody's of a week.
        moment = func.coalesce(_SENT.c.sent_time, _SENT.c.sent_time)
        return (
            select(moment)
            .where(_SENT.c[key] == _M.c[key], moment > since, *conditions)
            .order_by(moment.desc())
            .limit(1)
            .offset(place - 1)
            .correlate(_M)
            .scalar_subquery()
        )

    def columns(self, connection: Connection) -> list[ColumnElement[Any]]:
        """``final`` (a reason or NULL), and the times from which waiting is reckoned."""
        recent = self.recent(connection)
        final = [(is_suppressed(self.channel, self.signature), "suppressed")]
        if recent and self.rules.cap_messages is not None:
            final.append((self.capped(), "capped"))
        gap = recent and bool(self.rules.min_gap)
        since, day = self.now - self.rules.min_gap, self.now - NUMBER_CAP_WINDOW
        number = self.number_place(day) if recent and self.promotion else null()
        return [
            case(*final).label("final"),
            (self.newest("user_id", since, 1) if gap else null()).label("last_of_user"),
            (self.newest("phone_hash", since, 1) if gap else null()).label("last_of_address"),
            number.label("number_place"),
        ]

    def hopeless(
        self, connection: Connection, send_by: datetime
    ) -> list[tuple[str, ColumnElement[bool]]]:
        """What bars a row at ``now`` and until an occurrence ends, in order of precedence."""
        found = []
        held = in_force(self.channel, self.signature)
        if connection.scalar(select(schema.suppression.c.id).where(held).limit(1)) is not None:
            found.append(("suppressed", is_suppressed(self.channel, self.signature)))
        if not self.recent(connection):
            return found
        if self.rules.cap_messages is not None:
            found.append(("capped", self.capped()))
        instant = timedelta(microseconds=1)  # a gap that ends with the window ends too late
        if self.rules.min_gap:
            since = send_by - self.rules.min_gap - instant
            keys = ("user_id", "phone_hash")
            blocked = or_(*(self.newest(key, since, 1).is_not(None) for key in keys))
            found.append(("min_gap", blocked))
        if self.promotion:
            since = send_by - NUMBER_CAP_WINDOW - instant
            found.append(("number_cap", self.number_place(since).is_not(None)))
        return found
