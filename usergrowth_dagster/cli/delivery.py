"""Commands of delivery: dispatch, pause, resume, cancel, delivery, reconcile."""

from typing import Annotated

import typer

from usergrowth_dagster.cli.common import Home, Json, Page, say

app = typer.Typer()

Name = Annotated[
    str, typer.Argument(help="Name of a schedule, or of a campaign for all its schedules.")
]
Ids = Annotated[list[int] | None, typer.Option(metavar="ID", help="May be given repeatedly.")]


@app.command()
def dispatch(
    once: Annotated[
        bool, typer.Option("--once", help="Send what is due and end (the default).")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Continue until interrupted.")] = False,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between rounds.")] = 10.0,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Send the messages that are due; several dispatchers may run at once."""
    from usergrowth_dagster.commands.delivery import dispatch_forever, dispatch_once

    if once and watch:
        raise typer.BadParameter("--once and --watch exclude each other; give one of them")
    if watch and as_json:
        raise typer.BadParameter("--json goes with --once: --watch has no end to report at")
    if watch:
        dispatch_forever(home, interval, say)
        return
    page = Page(as_json)
    page.finish(dispatch_once(home, page.say))


@app.command()
def pause(name: Name, home: Home = None) -> None:
    """Stop sending a schedule until it is resumed."""
    _control("pause", name, home)


@app.command()
def resume(name: Name, home: Home = None) -> None:
    """Continue after a pause, or after a stop by the provider or a rule."""
    _control("resume", name, home)


@app.command()
def cancel(name: Name, home: Home = None) -> None:
    """End what a schedule has planned; never send what the provider does not have yet."""
    _control("cancel", name, home)


def _control(action: str, name: str, home: Home) -> None:
    from usergrowth_dagster.commands.delivery import control

    for line in control(home, action, name):
        say(line)


@app.command()
def delivery(
    name: Annotated[
        str | None, typer.Argument(help="Only a schedule, campaign or task of this name.")
    ] = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Show what is under way: occurrences with their window, people by state and reason."""
    from usergrowth_dagster.cli.sections import show_deliveries
    from usergrowth_dagster.commands.delivery import opened
    from usergrowth_dagster.views.deliveries import read_deliveries

    with opened(home) as (store, settings):
        view = read_deliveries(store, settings, name)
    page = Page(as_json)
    show_deliveries(view, page)
    page.finish(view.unreadable)


@app.command()
def reconcile(
    listed: Annotated[
        bool, typer.Option("--list", help="List what is in doubt (the default).")
    ] = False,
    look_up: Annotated[bool, typer.Option("--look-up", help="Ask the providers first.")] = False,
    release: Ids = None,
    close: Ids = None,
    why: Annotated[
        str, typer.Option(help="The reason, kept on record; --release and --close need it.")
    ] = "",
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Settle messages in doubt: release those that certainly never went out, close the others."""
    from usergrowth_dagster.commands.delivery import reconcile_doubts

    doubts = reconcile_doubts(
        home, look_up=look_up, release=release or [], close=close or [], why=why
    )
    page = Page(as_json)
    for line in doubts.done:
        page.say(line)
    if as_json or listed or doubts.lines or not doubts.done:
        header = ("id", "schedule", "occurrence", "user", "address", "gateway", "reason", "at")
        page.table("In doubt", header, doubts.lines)
    page.finish(doubts.failed)
