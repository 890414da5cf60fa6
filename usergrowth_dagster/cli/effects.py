"""Commands about effects: report."""

from typing import Annotated

import typer

from usergrowth_dagster.cli.common import Home, Json, Page, day_of

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
    from usergrowth_dagster.commands.report import report as write_reports

    if bool(first) != bool(last):
        raise typer.BadParameter("--from and --to go together")
    page = Page(as_json)
    page.finish(
        write_reports(
            home,
            task,
            campaign=campaign,
            day=day_of(day) if day else None,
            every=every,
            period=(day_of(first), day_of(last)) if first else None,
            page=page,
        )
    )
