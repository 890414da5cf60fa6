"""Deliveries under way: occurrences, people by state, what is due next, what nobody could read.

It imports no engine, so that a dispatcher's machine can show them.
"""

from dataclasses import dataclass
from datetime import datetime

from usergrowth_dagster.addresses.shown import mask
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.operations.clicked import clicked_texts
from usergrowth_dagster.messaging.operations.deliveries import Delivery, deliveries
from usergrowth_dagster.messaging.receiving.unread import count_unread
from usergrowth_dagster.messaging.schedules.occurrences import business_now
from usergrowth_dagster.messaging.schedules.upcoming import upcoming
from usergrowth_dagster.settings import Settings

_LISTED = 500


@dataclass(frozen=True)
class OccurrenceView:
    """An occurrence with its window, on the clock of the business time zone."""

    schedule: str
    occurrence: str
    state: str
    due: datetime
    send_by: datetime
    note: str


@dataclass(frozen=True)
class PeopleView:
    """People of an occurrence in one state for one reason, by channel."""

    schedule: str
    occurrence: str
    state: str
    reason: str | None
    people: int
    channel: str


@dataclass(frozen=True)
class DueView:
    """When a schedule is due next."""

    schedule: str
    due: datetime


@dataclass(frozen=True)
class UnreadView:
    """Entries that a gateway posted, of one kind, that nobody could read."""

    gateway: str
    kind: str
    entries: int


@dataclass(frozen=True)
class ClickedView:
    """Clicks on one text with a link; ``variant`` is None where there is one text only.

    ``people`` are those that it was sent to, ``rate`` is the share of them who clicked.
    """

    schedule: str
    occurrence: str
    variant: str | None
    people: int
    delivered: int
    clicked: int
    rate: float | None
    clicks: int
    bots: int
    channel: str


@dataclass(frozen=True)
class DeliveriesView:
    """What is under way; ``unreadable`` are sentences about records that cannot be shown.

    ``clicked`` is empty where no text has a link.
    """

    occurrences: list[OccurrenceView]
    people: list[PeopleView]
    following: list[DueView]
    unread: list[UnreadView]
    unreadable: list[str]
    clicked: list[ClickedView]


@dataclass(frozen=True)
class DoubtView:
    """A message of which nobody knows whether it went out.

    ``address`` is masked; ``at`` is when it was submitted, on the clock of the business time zone.
    """

    id: int
    schedule: str
    occurrence: str
    user: str | None
    address: str | None
    gateway: str
    reason: str | None
    at: datetime


def read_doubts(ledger: Ledger, settings: Settings) -> list[DoubtView]:
    """Messages in doubt, at most 500."""
    return [
        DoubtView(
            row["id"],
            row["schedule"],
            row["occurrence"],
            row["user_id"],
            mask(ledger.vault.open(row["phone_number"])),
            row["gateway"],
            row["reason"],
            row["submitted_time"].astimezone(settings.zone),
        )
        for row in ledger.in_doubt(None, 0, _LISTED)
    ]


def read_deliveries(
    store: ControlStore, settings: Settings, name: str | None = None
) -> DeliveriesView:
    """What is under way, of one schedule, campaign or task, or of all.

    Raises:
        UserError: nothing that is planned has that name.
    """
    now = business_now(settings)
    under_way = deliveries(store, settings, now, name)
    schedules = {delivery.schedule for delivery in under_way}
    following = upcoming(store, settings, now)
    return DeliveriesView(
        occurrences=[_occurrence(delivery, settings) for delivery in under_way],
        people=[
            PeopleView(
                *(d.schedule, d.occurrence, str(count.state), count.reason, count.rows),
                count.channel,
            )
            for d in under_way
            for count in d.counts
        ],
        following=[
            DueView(schedule, _local(moment, settings))
            for schedule, moment in following.times
            if name is None or schedule in schedules
        ],
        unread=[UnreadView(*entry) for entry in count_unread(store)] if name is None else [],
        unreadable=following.unreadable,
        clicked=[
            ClickedView(
                *(one.schedule, one.occurrence, one.variant, one.sent, one.delivered),
                *(one.clicked, one.rate, one.clicks, one.bots, one.channel),
            )
            for one in clicked_texts(store, [delivery.id for delivery in under_way])
        ],
    )


def _occurrence(delivery: Delivery, settings: Settings) -> OccurrenceView:
    due, send_by = _local(delivery.due, settings), _local(delivery.send_by, settings)
    return OccurrenceView(
        delivery.schedule, delivery.occurrence, delivery.state, due, send_by, delivery.note
    )


def _local(moment: datetime, settings: Settings) -> datetime:
    try:
        return moment.astimezone(settings.zone)
    except OverflowError:  # at the end of the calendar
        return moment
