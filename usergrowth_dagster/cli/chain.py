"""Commands of the chain: run, backfill, train, redecide."""

from typing import Annotated

import typer

from usergrowth_dagster.cli.common import Home, Json, Page, day_of, say, warn

app = typer.Typer()


@app.command()
def run(
    day: Annotated[str, typer.Option("--date", help="Execution date; default today.")] = "",
    rehearse: Annotated[
        bool,
        typer.Option(
            "--rehearse",
            help="Plan and send to files as of the date; the ledger stays as it is.",
        ),
    ] = False,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Land the last days, then score, decide and batch the tasks of an execution date."""
    from usergrowth_dagster.commands.chain import run_date
    from usergrowth_dagster.commands.home import open_home
    from usergrowth_dagster.commands.show import chain_progress, show_chain

    settings = open_home(home)
    with chain_progress():
        report = run_date(
            settings,
            day_of(day) if day else settings.current_date(),
            asked=bool(day),
            rehearse=rehearse,
            warn=warn,
        )
    page = Page(as_json)
    page.finish(show_chain(report, page.say, page.table))


@app.command()
def backfill(
    first: Annotated[str, typer.Option("--from", help="First execution date.")],
    last: Annotated[str, typer.Option("--to", help="Last execution date.")],
    only_ingest: Annotated[
        bool, typer.Option("--only-ingest", help="Land and make facts, decide nothing.")
    ] = False,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Land and compute a range of dates; what is up to date is left alone, nothing is sent late."""
    from usergrowth_dagster.commands.chain import backfill as backfill_range
    from usergrowth_dagster.commands.home import open_home
    from usergrowth_dagster.commands.show import chain_progress, show_chain

    settings = open_home(home)
    with chain_progress():
        report = backfill_range(
            settings, day_of(first), day_of(last), only_ingest=only_ingest, warn=warn
        )
    page = Page(as_json)
    page.finish(show_chain(report, page.say, page.table))


@app.command()
def train(
    day: Annotated[str, typer.Option("--date", help="Execution date; default today.")] = "",
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Train the models that campaigns ask for, on what was known before an execution date."""
    from usergrowth_dagster.commands.chain import train_date
    from usergrowth_dagster.commands.home import open_home
    from usergrowth_dagster.commands.show import chain_progress, show_training

    settings = open_home(home)
    with chain_progress():
        report = train_date(settings, day_of(day) if day else settings.current_date())
    page = Page(as_json)
    page.finish(show_training(report, page.say, page.table))


@app.command()
def redecide(
    task: Annotated[str, typer.Argument(help="Task id.")],
    why: Annotated[str, typer.Option("--why", help="The reason, kept in history and audit.")] = "",
    home: Home = None,
) -> None:
    """Throw away a send plan of which nothing ever went out, so that its date decides it anew."""
    from usergrowth_dagster.commands.redecide import redecide_task

    for line in redecide_task(home, task, why):
        say(line)
