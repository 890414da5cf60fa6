"""Reports of effects from the command line: the sentence, the main figures, where the page is."""

import json
from datetime import date
from pathlib import Path
from typing import Any

from usergrowth_dagster.commands.show import Say, Shows, ShowTable
from usergrowth_dagster.control.codes import JobStatus
from usergrowth_dagster.control.tasks import Task, all_tasks
from usergrowth_dagster.control.tasks import task as one_task
from usergrowth_dagster.effects.report.figures import figure_rows
from usergrowth_dagster.effects.report.page import render_json
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.homes.home import open_home
from usergrowth_dagster.measure.report import Report, report_period, report_task
from usergrowth_dagster.project import Project


def report(
    home: Path | None,
    task_id: str | None,
    *,
    campaign: str | None,
    day: date | None,
    every: bool,
    period: tuple[date, date] | None = None,
    page: Shows,
) -> list[str]:
    """Write the reports of the tasks that are asked for and show what they say.

    With a ``period`` all campaigns of its dates by the global control group: one report for each
    draw of that group.

    Returns:
        A sentence for each task that has no report.

    Raises:
        UserError: nothing, or more than one thing is asked for; no such task or campaign.
    """
    project = Project(open_home(home))
    if period is not None:
        if task_id is not None or campaign is not None or every or day is not None:
            raise UserError(
                "--from and --to report all campaigns together; name nothing else",
                code="command.invalid",
            )
        if period[0] > period[1]:
            raise UserError(
                f"--from {period[0]} is after --to {period[1]}", code="date.out_of_range"
            )
        made = report_period(project, *period)
        if len(made) > 1:
            page.say(
                "The control group of all campaigns was drawn afresh within the period: there is "
                "a report for each draw.\n"
            )
        for one in made:
            show_report(one, page.say, page.table)
        page.document([_record(one) for one in made])
        return []
    failures, written = [], []
    for task in _asked(project, task_id, campaign, day, every):
        try:
            made_one = report_task(project, task)
        except UserError as error:
            failures.append(str(error))
            continue
        show_report(made_one, page.say, page.table)
        written.append(_record(made_one))
    page.document(written)
    return failures


def _record(report: Report) -> dict[str, Any]:
    """The report as JSON, as its file has it, and where the page is."""
    return {**json.loads(render_json(report.effect, report.basis)), "page": report.page}


def _asked(
    project: Project, task_id: str | None, campaign: str | None, day: date | None, every: bool
) -> list[Task]:
    if sum((task_id is not None, campaign is not None, every)) != 1:
        raise UserError(
            "name one task, or --campaign NAME with or without --date, or --all, or --from and "
            "--to",
            code="command.invalid",
        )
    if day is not None and campaign is None:
        raise UserError("--date goes with --campaign NAME", code="command.invalid")
    if task_id is not None:
        return [one_task(project.store, task_id)]
    tasks = all_tasks(project.store)
    if campaign is not None:
        names = sorted({task.campaign for task in tasks})
        tasks = [t for t in tasks if t.campaign == campaign and day in (None, t.execution_date)]
        if not tasks:
            when = f" of {day}" if day else ""
            raise UserError(
                f"campaign {campaign!r} has no task{when}; campaigns with tasks: "
                f"{', '.join(names) or 'none'}",
                code="campaign.unknown",
            )
    decided = [task for task in tasks if task.status == JobStatus.SUCCESS]
    if not decided:
        raise UserError(
            "no task has been decided yet; run its date first (usergrowth run --date)",
            code="task.undecided",
        )
    return sorted(decided, key=lambda task: (task.execution_date, task.task_id))


def show_report(report: Report, say: Say, table: ShowTable) -> None:
    """Print what a report says."""
    effect = report.effect
    named = f" {effect.task_id} (campaign {effect.campaign})"
    if not effect.funnel.steps:
        named = f" on, {effect.campaign}"
    say(f"{effect.execution_date}{named}: {effect.sentence}")
    say("")
    table("", ("figure", "value", "interval or remark"), list(figure_rows(effect)))
    say(f"{report.page}\n")
