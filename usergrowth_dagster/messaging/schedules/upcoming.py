"""When schedules are due next, for a person who looks."""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, RowMapping, exists, func, select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.campaign import OF_SEGMENT
from usergrowth_dagster.control.codes import OccurrenceState
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.control.tasks import load_spec
from usergrowth_dagster.messaging.schedules.series import all_series, too_old
from usergrowth_dagster.messaging.schedules.windows import first_due
from usergrowth_dagster.settings import Settings

occurrence = schema.occurrence
schedule = schema.schedule


def next_due(
    store: ControlStore, settings: Settings, schedule: str, now: datetime
) -> datetime | None:
    """When the next occurrence of a schedule is due after ``now`` (UTC); None: none is known.

    That is one that is planned, one that repeats, or the first of a task that is still to be
    decided. Pauses are not looked at: it is when it would be sent if the schedule went on.

    Args:
        store: the control store.
        settings: the business time zone.
        schedule: the schedule's name.
        now: business clock.
    """
    with store.read() as connection:
        row = (
            connection.execute(select(schema.schedule).where(schema.schedule.c.name == schedule))
            .mappings()
            .first()
        )
        if row is None:
            return None
        times = [
            *_planned(connection, row, now),
            *_repeated(connection, settings, row, now),
            *_undecided(connection, settings, row),
        ]
    return min((moment for moment in times if moment > now), default=None)


@dataclass(frozen=True)
class Upcoming:
    """Schedules with the time (UTC) at which each is due next, the next one first.

    ``unreadable`` are sentences about schedules whose records hold what no time can be made from.
    """

    times: list[tuple[str, datetime]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def upcoming(store: ControlStore, settings: Settings, now: datetime) -> Upcoming:
    """When schedules are due after ``now``; a record that cannot be read hides no other one."""
    with store.read() as connection:
        names = connection.scalars(select(schedule.c.name)).all()
    due_next = Upcoming()
    for name in names:
        try:
            moment = next_due(store, settings, name, now)
        except (ValueError, ArithmeticError) as error:  # a date at the end of the calendar
            due_next.unreadable.append(
                f"schedule {name!r}: when it is due next cannot be said ({_short(error)}); see "
                "the dates of its campaign's file and apply it again"
            )
            continue
        if moment is not None:
            due_next.times.append((name, moment))
    due_next.times.sort(key=lambda one: (one[1], one[0]))
    return due_next


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def _planned(connection: Connection, schedule: RowMapping, now: datetime) -> list[datetime]:
    query = select(func.min(occurrence.c.due)).where(
        occurrence.c.schedule_id == schedule["id"],
        occurrence.c.due > now,
        occurrence.c.state.in_((OccurrenceState.PLANNING, OccurrenceState.READY)),
    )
    schedule_name = connection.scalar(query)
    return [schedule_name] if schedule_name else []


def _repeated(
    connection: Connection, settings: Settings, schedule: RowMapping, now: datetime
) -> list[datetime]:
    times = []
    for series in all_series(connection, settings, schema.schedule.c.id == schedule["id"]):
        number = series.times.latest(now)
        following = 0 if number is None else number + 1
        due = series.times.due(following)
        if due and not too_old(series, settings, following):
            times.append(due)
    return times


def _undecided(connection: Connection, settings: Settings, schedule: RowMapping) -> list[datetime]:
    job = schema.inference_job
    planned = exists().where(occurrence.c.task_id == job.c.name)
    query = select(job.c.user_config, job.c.execution_date).where(
        job.c.campaign_id == schedule["campaign_id"],
        job.c.data_path.in_(["population/" + job.c.name, f"{OF_SEGMENT}/" + job.c.name]),
        ~planned,
    )
    return [
        first_due(settings, schedule, load_spec(config), day)
        for config, day in connection.execute(query).tuples()
    ]
