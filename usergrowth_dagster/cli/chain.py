"""Commands of the chain: run, backfill, train, redecide."""

from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from usergrowth_dagster.cli.common import Home, Json, Page, day_of, say, warn

if TYPE_CHECKING:
    from usergrowth_dagster.runs.last_run import LastRun
    from usergrowth_dagster.runs.reports import ChainReport
    from usergrowth_dagster.settings import Settings

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
    every_step: Annotated[
        bool,
        typer.Option("--every-step", help="Go through all steps even if nothing has changed."),
    ] = False,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Land the last days, then score, decide and batch the tasks of an execution date."""
    from usergrowth_dagster.cli.pages.chain import show_chain
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.runs.last_run import LastRun

    settings = open_home(home)
    wanted = day_of(day) if day else settings.current_date()
    last = LastRun(settings, wanted, asked=bool(day))
    report = None if rehearse or every_step else last.report()
    if report is None:
        report = _run_date(settings, wanted, last, asked=bool(day), rehearse=rehearse)
    page = Page(as_json)
    page.finish(show_chain(report, page))


def _run_date(
    settings: "Settings", day: date, last: "LastRun", *, asked: bool, rehearse: bool
) -> "ChainReport":
    """Make the run, and keep its report if the same run need not be made again."""
    from usergrowth_dagster.cli.progress import chain_progress
    from usergrowth_dagster.runs.chain import run_date

    warned: list[str] = []

    def note_warning(sentence: str) -> None:
        warned.append(sentence)
        warn(sentence)

    if not rehearse:
        last.begin()
    with chain_progress():
        report = run_date(settings, day, asked=asked, rehearse=rehearse, warn=note_warning)
    if not rehearse and not warned:
        last.keep(report)
    return report


@app.command()
def backfill(
    first: Annotated[str, typer.Option("--from", help="First execution date.")],
    last: Annotated[str, typer.Option("--to", help="Last execution date.")],
    only_ingest: Annotated[
        bool, typer.Option("--only-ingest", help="Land and build facts; decide nothing.")
    ] = False,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Land and compute a range of dates; keep what is up to date, send nothing late."""
    from usergrowth_dagster.cli.pages.chain import show_chain
    from usergrowth_dagster.cli.progress import chain_progress
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.runs.chain import backfill as backfill_range

    settings = open_home(home)
    with chain_progress():
        report = backfill_range(
            settings, day_of(first), day_of(last), only_ingest=only_ingest, warn=warn
        )
    page = Page(as_json)
    page.finish(show_chain(report, page))


@app.command()
def train(
    day: Annotated[str, typer.Option("--date", help="Execution date; default today.")] = "",
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Train the models that campaigns need, on data from before an execution date."""
    from usergrowth_dagster.cli.pages.chain import show_training
    from usergrowth_dagster.cli.progress import chain_progress
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.runs.chain import train_date

    settings = open_home(home)
    with chain_progress():
        report = train_date(settings, day_of(day) if day else settings.current_date())
    page = Page(as_json)
    page.finish(show_training(report, page))


@app.command()
def redecide(
    task: Annotated[str, typer.Argument(help="Task id.")],
    why: Annotated[str, typer.Option("--why", help="The reason, kept in history and audit.")] = "",
    home: Home = None,
) -> None:
    """Discard a send plan of which nothing went out, so that its date decides the task again."""
    from usergrowth_dagster.control.audit import whoami
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.pipeline.decide import redecide as discard_plan
    from usergrowth_dagster.project import Project

    done = discard_plan(Project(open_home(home)), task, whoami(), why)
    people = ", ".join(f"{rows:,} {what}" for what, rows in done.people.items()) or "nobody"
    say(f"task {task!r}: its send plan is thrown away ({people}); nobody was ever texted by it")
    say(f"usergrowth run --date {done.execution_date} decides it again")
    if done.passed:
        say(
            f"{done.execution_date} has passed: to text these people, give the campaign a later "
            "execution_date and apply it first, or its texts expire again"
        )
