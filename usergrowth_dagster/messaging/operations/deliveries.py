"""Where every delivery stands: its window, its counts by state and reason, what holds it up."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import or_, select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.ledger import Count, Ledger
from usergrowth_dagster.messaging.operations.stalls import stalls
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.settings import Settings

occurrence = schema.occurrence
schedule = schema.schedule
campaign = schema.campaign


@dataclass(frozen=True)
class Delivery:
    """One occurrence; times are UTC, ``reason`` says why it was stopped or ended."""

    schedule: str
    occurrence: str
    task_id: str
    state: str
    reason: str | None
    due: datetime
    send_by: datetime
    paused: bool
    stalled: bool
    counts: list[Count]

    @property
    def note(self) -> str:
        """What a person should know, in few words."""
        words = [self.reason] if self.reason else []
        words += ["paused"] if self.paused else []
        words += ["STALLED"] if self.stalled else []
        return "; ".join(words)


def deliveries(
    store: ControlStore, settings: Settings, now: datetime, name: str | None = None
) -> list[Delivery]:
    """All occurrences, by due time; with ``name`` those of a schedule, campaign or task.

    Args:
        store: the control store.
        settings: home folder, ``stall_minutes``.
        now: the business clock.
        name: a schedule's, campaign's or task's name.

    Raises:
        UserError: nothing that is planned has that name.
    """
    query = (
        select(occurrence, schedule.c.name.label("schedule"), schedule.c.paused)
        .join(schedule, schedule.c.id == occurrence.c.schedule_id)
        .join(campaign, campaign.c.id == schedule.c.campaign_id)
        .order_by(occurrence.c.due, occurrence.c.id)
    )
    if name is not None:
        query = query.where(
            or_(schedule.c.name == name, campaign.c.name == name, occurrence.c.task_id == name)
        )
    with store.read() as connection:
        rows = connection.execute(query).mappings().all()
    if name is not None and not rows:
        raise UserError(
            f"no schedule, campaign or task called {name!r} has anything planned",
            code="message.unknown",
        )
    stalled = {one.occurrence_id for one in stalls(store, settings, now)}
    ledger = Ledger(store, open_vault(settings.home, settings.default_country))
    return [
        Delivery(
            schedule=row["schedule"],
            occurrence=row["name"],
            task_id=row["task_id"],
            state=str(row["state"]),
            reason=row["reason"],
            due=row["due"],
            send_by=row["send_by"],
            paused=row["paused"],
            stalled=row["id"] in stalled,
            counts=ledger.counts(row["id"]),
        )
        for row in rows
    ]
