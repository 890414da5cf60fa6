"""When an occurrence may go out: from when it is due to its send-by.

Due is, by the campaign's ``schedule``:

* its ``execute_time``;
* the moment of planning, with ``execute_time: now`` or in a campaign "on upload", once the day has
  begun (setting ``send_from``);
* else the execution date at ``send_from``, in the business time zone;
* the k-th time of a repeating schedule, reckoned from the first (module ``repeats``);
* the first day of send-time optimization at ``send_from``.

The send-by is ``send_within_hours`` later, and never after ``end_time`` or the next occurrence.
Send-time optimization ends on its last day at ``send_until``. Inside the window each person is
texted when it is day where they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.campaign import CampaignSpec
from usergrowth_dagster.control.codes import RepeatUnit
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.control.values import NOW
from usergrowth_dagster.control.wall_clock import moment_of
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.policy.contact import ContactRules, contact_rules
from usergrowth_dagster.messaging.schedules.repeats import Repeat
from usergrowth_dagster.settings import Settings

occurrence = schema.occurrence


@dataclass(frozen=True)
class Window:
    """An occurrence's window (UTC), and its number if its schedule repeats."""

    due: datetime
    send_by: datetime
    sequence: int | None = None


def repeats(schedule: Mapping[Any, Any]) -> bool:
    """Whether a schedule record repeats."""
    return schedule["repeat_cycle_unit"] is not RepeatUnit.NEVER


def repeat_of(settings: Settings, schedule: Mapping[Any, Any], first: datetime) -> Repeat:
    """The times of a schedule record whose first occurrence is due at ``first``."""
    return Repeat(
        first,
        schedule["repeat_cycle_unit"],
        schedule["repeat_cycle"],
        schedule["repeat_times"],
        settings.zone,
        schedule["end_time"],
    )


def first_due(
    settings: Settings,
    schedule: Mapping[Any, Any],
    spec: CampaignSpec,
    day: date,
    now: datetime | None = None,
) -> datetime:
    """When the first occurrence of a task is due (UTC).

    Args:
        settings: the business time zone, and ``send_from``.
        schedule: the schedule record.
        spec: the campaign as the task sees it.
        day: the task's execution date.
        now: business clock, at planning.
    """
    if schedule["execute_time"] is not None:
        execute_time: datetime = schedule["execute_time"].astimezone(UTC)
        return execute_time
    opens = _rules(settings, spec).send_from
    optimized = spec.schedule.smart_send
    if optimized:
        return moment_of(datetime.combine(max(day, optimized.start_date), opens), settings.zone)
    due = moment_of(datetime.combine(day, opens), settings.zone)
    at_once = spec.schedule.execute_time == NOW or spec.on_upload
    if at_once and now is not None and now.astimezone(settings.zone).date() == day:
        return max(due, now.astimezone(UTC))
    return due


def _window_of(
    settings: Settings,
    schedule: Mapping[Any, Any],
    spec: CampaignSpec,
    day: date,
    now: datetime,
) -> Window:
    """The window of a task's first occurrence; arguments as of :func:`first_due`."""
    due = first_due(settings, schedule, spec, day, now)
    within = timedelta(hours=settings.send_within_hours)
    if spec.schedule.smart_send:
        return Window(due, max(due, send_times_end(settings, spec)))
    plan = repeat_of(settings, schedule, due)
    bounds = plan.window(0, within)
    if bounds is None:  # end_time is before it is due: it is never sent
        return Window(due, due, 0 if repeats(schedule) else None)
    return Window(*bounds, 0 if repeats(schedule) else None)


def send_times_end(settings: Settings, spec: CampaignSpec) -> datetime:
    """When the window of send-time optimization closes (UTC)."""
    optimized, rules = spec.schedule.smart_send, _rules(settings, spec)
    assert optimized is not None
    last = optimized.end_date
    if rules.send_until <= rules.send_from:  # open across midnight
        last += timedelta(days=1)
    return moment_of(datetime.combine(last, rules.send_until), settings.zone)


def check_audience_age(settings: Settings, spec: CampaignSpec, source: str) -> None:
    """Refuse a schedule that would go on sending to an audience that has grown too old.

    A campaign with a fixed date is checked when it is applied, each task when it is planned.

    Raises:
        UserError: names the campaign file (``source``), the key and what to do.
    """
    if isinstance(spec.execution_date, date):
        _check_task_age(settings, spec, spec.execution_date, f"{source}: ")
    elif spec.schedule.smart_send or spec.schedule.repeat_unit != "never":
        stand_in = settings.current_date()
        if isinstance(spec.schedule.execute_time, datetime):
            stand_in = spec.schedule.execute_time.date()
        elif spec.schedule.smart_send:
            stand_in = spec.schedule.smart_send.start_date
        _check_task_age(settings, spec, stand_in, f"{source}: ")


def _check_task_age(settings: Settings, spec: CampaignSpec, day: date, place: str) -> None:
    """As :func:`check_audience_age`, for an audience that is decided on ``day``."""
    plan, rules = spec.schedule, _rules(settings, spec)
    if plan.smart_send:
        last: date | None = plan.smart_send.end_date
        instead = "or end schedule.smart_send earlier"
    elif plan.repeat_unit == "never" or plan.refresh_audience:
        return
    else:
        last = _last_day(settings, spec, day)
        instead = "or set schedule.refresh_audience: true"
        if last is None and spec.contact.max_audience_days is None:
            raise UserError(
                f"{place}contact.max_audience_days: schedule.repeat_times has no end, so say for "
                f"how many days the audience is good {instead}",
                code="audience.too_old",
            )
    if last is not None and (last - day).days > rules.max_audience_days:
        raise UserError(
            f"{place}contact.max_audience_days: the schedule sends until {last} to an audience "
            f"that is decided on {day}, and {rules.max_audience_days} days are allowed; say "
            f"{(last - day).days} here {instead}",
            code="audience.too_old",
        )


def _last_day(settings: Settings, spec: CampaignSpec, day: date) -> date | None:
    """Last day on which a repeating schedule may send; None: it has no end."""
    plan = spec.schedule
    if plan.repeat_times < 0 and plan.end_time is None:
        return None
    start = plan.execute_time
    schedule = {
        "execute_time": _utc(settings, start) if isinstance(start, datetime) else None,
        "end_time": _utc(settings, plan.end_time) if plan.end_time else None,
        "repeat_cycle_unit": RepeatUnit[plan.repeat_unit.upper()],
        "repeat_cycle": plan.repeat_cycle,
        "repeat_times": plan.repeat_times,
    }
    times = repeat_of(settings, schedule, first_due(settings, schedule, spec, day))
    number = times.latest(datetime.max.replace(tzinfo=UTC))
    within = timedelta(hours=settings.send_within_hours)
    window = times.window(number, within) if number is not None else None
    if window is None:
        return day
    return (window[1] - timedelta(microseconds=1)).astimezone(settings.zone).date()


def _utc(settings: Settings, moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment_of(moment, settings.zone)


def _rules(settings: Settings, spec: CampaignSpec) -> ContactRules:
    return contact_rules(settings, spec.contact.model_dump())


def task_window(
    connection: Connection,
    settings: Settings,
    task: Task,
    schedule: RowMapping,
    now: datetime,
) -> Window:
    """A task's window: of the first occurrence, or of the one that its date stands for."""
    if task.upload == task.task_id:
        _check_task_age(settings, task.spec, task.execution_date, f"campaign {task.campaign!r}: ")
        return _window_of(settings, schedule, task.spec, task.execution_date, now)
    times = repeat_of(settings, schedule, _first_due(connection, settings, task, schedule))
    number = times.on_day(task.execution_date)
    window = times.window(number, timedelta(hours=settings.send_within_hours)) if number else None
    if window is None:
        raise UserError(
            f"task {task.task_id!r}: schedule {schedule['name']!r} is not due on "
            f"{task.execution_date} any more, so this audience is not sent to",
            code="schedule.not_due",
        )
    return Window(*window, number)


def _first_due(
    connection: Connection, settings: Settings, task: Task, schedule: RowMapping
) -> datetime:
    """When the first occurrence of the upload of a task that is decided again was due."""
    due: datetime | None = connection.scalar(
        select(occurrence.c.due).where(
            occurrence.c.schedule_id == schedule["id"],
            occurrence.c.task_id == task.upload,
            occurrence.c.sequence == 0,
        )
    )
    job = schema.inference_job
    day = connection.scalar(select(job.c.execution_date).where(job.c.name == task.upload))
    if due is None:
        due = first_due(settings, schedule, task.spec, day or task.execution_date)
    return due


def passed_send_by(
    store: ControlStore, settings: Settings, task: Task, now: datetime
) -> datetime | None:
    """The send-by (UTC) of a task without a plan, when it has passed at ``now``; else None.

    None too where no window can be reckoned: planning says why.
    """
    table = schema.schedule
    if task.frozen:
        return None
    with store.read() as connection:
        row = (
            connection.execute(select(table).where(table.c.name == task.spec.schedule.name))
            .mappings()
            .first()
        )
        if row is None:
            return None
        try:
            window = task_window(connection, settings, task, row, now)
        except UserError:
            return None
    return window.send_by if window.send_by <= now else None
