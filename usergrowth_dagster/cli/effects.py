"""Commands about effects: report."""

from typing import Annotated

import typer

from usergrowth_dagster.cli.common import Home, day_of, finish, say, table

app = typer.Typer()


@app.command()
def report(
    task: Annotated[str | None, typer.Argument(help="Task id.")] = None,
    campaign: Annotated[str | None, typer.Option(help="All tasks of this campaign.")] = None,
    day: Annotated[
        str, typer.Option("--date", help="Only of this execution date; with --campaign.")
    ] = "",
    every: Annotated[bool, typer.Option("--all", help="All tasks that are decided.")] = False,
    home: Home = None,
) -> None:
    """What the texts of a task brought back, against its control group: a page to forward."""
    from usergrowth_dagster.commands.report import report as write_reports

    finish(
        write_reports(
            home,
            task,
            campaign=campaign,
            day=day_of(day) if day else None,
            every=every,
            say=say,
            table=table,
        )
    )
