"""Signatures and templates of campaigns, and what happened to them."""

from dataclasses import dataclass
from datetime import datetime

from usergrowth_dagster.control.review import all_reviews, review_history
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.settings import Settings


@dataclass(frozen=True)
class ReviewView:
    """Where a signature or a template is in its review."""

    kind: str
    name: str
    status: str
    reason: str | None


@dataclass(frozen=True)
class ReviewEventView:
    """One change of a signature or a template, on the clock of the business time zone."""

    time: datetime
    kind: str
    who: str
    source: str | None
    target: str | None
    note: str | None


def read_reviews(store: ControlStore) -> list[ReviewView]:
    """Every signature and template."""
    return [
        ReviewView(one.kind, one.name, one.status.name.lower(), one.reason)
        for one in all_reviews(store)
    ]


def read_review_history(
    store: ControlStore, settings: Settings, name: str
) -> list[ReviewEventView]:
    """What happened to the signatures and templates of one name, in time order.

    Raises:
        UserError: there is none of that name.
    """
    zone = settings.zone
    return [
        ReviewEventView(e.time.astimezone(zone), kind, e.actor, e.source, e.target, e.note)
        for kind, e in review_history(store, name)
    ]
