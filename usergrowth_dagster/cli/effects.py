"""Commands about effects: report."""

from collections.abc import Iterable
from dataclasses import astuple
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from usergrowth_dagster.cli.common import Home, Json, Page, day_of

if TYPE_CHECKING:
    from usergrowth_dagster.measure.report import Report
    from usergrowth_dagster.views.effects import EffectView

app = typer.Typer()


@app.command()
def report(
    task: Annotated[str | None, typer.Argument(help="Task id.")] = None,
    campaign: Annotated[str | None, typer.Option(help="All tasks of this campaign.")] = None,
    day: Annotated[
        str, typer.Option("--date", help="Only of this execution date; with --campaign.")
    ] = "",
    every: Annotated[bool, typer.Option("--all", help="All tasks that are decided.")] = False,
    first: Annotated[
        str, typer.Option("--from", help="All campaigns together, by the global control group.")
    ] = "",
    last: Annotated[str, typer.Option("--to", help="Last execution date; with --from.")] = "",
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Report what the texts of a task brought back, against its control group, as one page."""
    if bool(first) != bool(last):
        raise typer.BadParameter("--from and --to go together")
    period = (day_of(first), day_of(last)) if first else None
    wanted = day_of(day) if day else None
    _check(task, campaign, wanted, every, period)
    page = Page(as_json)
    page.finish(_report(home, task, campaign, wanted, period, page))


def _check(
    task: str | None,
    campaign: str | None,
    day: date | None,
    every: bool,
    period: tuple[date, date] | None,
) -> None:
    """Refuse options that ask for nothing, or for more than one thing.

    Raises:
        UserError: they do.
    """
    from usergrowth_dagster.errors import UserError

    if period is not None:
        if task is not None or campaign is not None or every or day is not None:
            raise UserError(
                "--from and --to report all campaigns together; name nothing else",
                code="command.invalid",
            )
        if period[0] > period[1]:
            raise UserError(
                f"--from {period[0]} is after --to {period[1]}", code="date.out_of_range"
            )
        return
    if sum((task is not None, campaign is not None, every)) != 1:
        raise UserError(
            "name one task, or --campaign NAME with or without --date, or --all, or --from and "
            "--to",
            code="command.invalid",
        )
    if day is not None and campaign is None:
        raise UserError("--date goes with --campaign NAME", code="command.invalid")


def _report(
    home: Home,
    task: str | None,
    campaign: str | None,
    day: date | None,
    period: tuple[date, date] | None,
    page: Page,
) -> list[str]:
    """Write the reports that are asked for and print each; the sentences of what failed."""
    from usergrowth_dagster.control.tasks import task as one_task
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.measure.report import decided_tasks, report_period, report_tasks
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.effects import view_report

    project = Project(open_home(home))
    failures: list[str] = []
    reports: Iterable[Report]
    if period is not None:
        reports = report_period(project, *period)
        if len(reports) > 1:
            page.say(
                "The control group of all campaigns was drawn afresh within the period: there is "
                "a report for each draw.\n"
            )
    elif task is not None:
        reports = report_tasks(project, [one_task(project.store, task)], failures)
    else:
        tasks = decided_tasks(project, campaign=campaign, day=day)
        reports = report_tasks(project, tasks, failures)
    views = []
    for written in reports:
        view = view_report(written)
        views.append(view)
        _show(view, page)
    page.document([view.content | {"page": view.page} for view in views])
    return failures


def _show(view: "EffectView", page: Page) -> None:
    """Print what a report says."""
    name = f" {view.task} (campaign {view.campaign})" if view.task else f" on, {view.campaign}"
    page.say(f"{view.execution_date}{name}: {view.sentence}")
    page.say("")
    figures = [astuple(figure) for figure in view.figures]
    page.table("", ("figure", "value", "interval or remark"), figures)
    if view.arms:
        page.say(view.note)
        page.table("From the plan to the click, by arm", *_split(view.arms))
    if view.pairs:
        page.table("Texts compared", *_split(view.pairs))
    page.say(f"{view.page}\n")


def _split(table: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A table's header, and its rows."""
    header, *rows = table
    return header, rows
