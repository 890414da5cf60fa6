"""Commands about clicks on short links: land."""

from typing import Annotated

import typer

from usergrowth_dagster.cli.common import Home, Json, Page, day_of

app = typer.Typer()
group = typer.Typer(help="Clicks on the short links of our own texts.", no_args_is_help=True)
app.add_typer(group, name="clicks")


@group.command()
def land(
    day: Annotated[
        str, typer.Option("--date", help="Only this business day; default: all with clicks.")
    ] = "",
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Write clicks as landing files of behavior, one a day; the same clicks change nothing."""
    from usergrowth_dagster.cli.cells import Count
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.intake.clicks import days_with_clicks, land_clicks
    from usergrowth_dagster.project import Project

    page = Page(as_json)
    project = Project(open_home(home))
    days = land_clicks(project, [day_of(day)] if day else days_with_clicks(project))
    header = ("date", "people", "messages", "clicks", "file")
    lines = [
        (one.day, Count(one.people), Count(one.messages), Count(one.clicks), one.state)
        for one in days
    ]
    page.table("Clicks", header, lines)
    if not days:
        page.say("no clicks of people yet; programs that look at links do not count")
    elif any(one.state in ("written", "removed") for one in days):
        page.say("The days of changed files land with the next run, or with usergrowth backfill.")
    page.finish()
