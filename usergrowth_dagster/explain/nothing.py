"""Sentences about what a command was asked for and did not do."""

from collections.abc import Sequence
from datetime import date

from usergrowth_dagster.control.tasks import all_tasks, campaigns
from usergrowth_dagster.data.landing import unread_landing
from usergrowth_dagster.messaging.schedules.occurrences import business_now
from usergrowth_dagster.messaging.schedules.windows import passed_send_by
from usergrowth_dagster.project import Project

_LISTED = 20


def shortened(sentences: Sequence[str]) -> list[str]:
    """At most twenty sentences, and how many more there are."""
    more = len(sentences) - _LISTED
    return [*sentences[:_LISTED], *([f"and {more} more"] if more > 0 else [])]


def unread_files(project: Project) -> list[str]:
    """What lies among the landing files and is read by nothing: misspelt or misplaced."""
    output_roots = {
        spec.output_of("task").partition("/")[0] for spec in campaigns(project.store).values()
    }
    return shortened(unread_landing(project.landing, output_roots))


def no_task(project: Project, day: date) -> str | None:
    """Why nothing is decided on a date; None when it has a task.

    Names the campaigns with their dates.
    """
    tasks = all_tasks(project.store)
    if any(task.execution_date == day for task in tasks):
        return None
    specs = campaigns(project.store)
    if not specs:
        return (
            f"nothing was decided: {day} has no task, since there is no campaign yet; "
            "apply one with usergrowth apply -f campaign.yaml"
        )
    dates = {
        name: sorted({t.execution_date for t in tasks if t.campaign == name}) for name in specs
    }
    listed = "; ".join(
        shortened(
            [
                f"{name}: {_dates(dates[name]) or _waits(specs[name].population)}"
                for name in sorted(specs)
            ]
        )
    )
    return f"nothing was decided: {day} has no task; campaigns and their dates are {listed}"


def _dates(days: list[date]) -> str:
    newest = ", ".join(str(day) for day in days[-3:])
    return f"{newest} and {len(days) - 3} earlier" if len(days) > 3 else newest


def _waits(population: str) -> str:
    return f"none, it waits for an upload {population}"


def late_tasks(project: Project, days: Sequence[date], *, campaign: str | None = None) -> list[str]:
    """A sentence for each date whose plans would expire at once, as its texts had to go earlier.

    Args:
        project: the home.
        days: the execution dates.
        campaign: look only at the tasks of this one; its name.
    """
    settings, now = project.settings, business_now(project.settings)
    wanted = set(days)
    by_day: dict[date, list[str]] = {}
    for task in all_tasks(project.store):
        if task.execution_date not in wanted or campaign not in (None, task.campaign):
            continue
        ended = passed_send_by(project.store, settings, task, now)
        if ended is not None:
            local = f"{ended.astimezone(settings.zone):%Y-%m-%d %H:%M}"
            by_day.setdefault(task.execution_date, []).append(f"{task.task_id} (by {local})")
    return [
        f"{day} has passed for {', '.join(shortened(names))}: every text will expire at once and "
        f"nobody is texted. To see what would have been sent: usergrowth run --date {day} "
        f'--rehearse. To replay the date: today = "{day}" in usergrowth.toml. To text these '
        "people: give the campaign a later execution_date. A plan that expired is thrown away "
        "with usergrowth redecide"
        for day, names in sorted(by_day.items())
    ]
