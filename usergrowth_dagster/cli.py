"""The `usergrowth` command: everything that the UI does, without a UI."""

import sys
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from usergrowth_dagster.errors import UserError

app = typer.Typer(
    name="usergrowth",
    help="Decide every day whom to text, send the texts safely, and prove what they brought back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Home = Annotated[
    Path | None,
    typer.Option("--home", help="Home folder; default USERGROWTH_HOME, else ./.usergrowth."),
]


def _day(text: str) -> date:
    for form in ("%Y-%m-%d", "%Y%m%d"):
        try:
            return datetime.strptime(text, form).date()
        except ValueError:
            continue
    raise typer.BadParameter(f"{text!r} is no date such as 2017-12-28")


def _say(text: str) -> None:
    from rich.console import Console

    Console(soft_wrap=True, highlight=False).print(text, markup=False)


def _table(title: str, header: tuple[str, ...], lines: list[tuple[Any, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, title=title, title_justify="left", box=None, pad_edge=False)
    for line in lines:
        table.add_row(*("" if cell is None else str(cell) for cell in line))
    console = Console()
    # A log file has no width; a table cut to 80 columns cannot be read.
    Console(width=max(console.width, 150) if not console.is_terminal else None).print(table)


@app.command()
def init(
    home: Home = None,
    timezone: Annotated[str, typer.Option(help="Business time zone.")] = "Asia/Shanghai",
    start_date: Annotated[str, typer.Option(help="First execution date.")] = "",
) -> None:
    """Make a home folder with settings, landing folders and an empty control store."""
    from usergrowth_dagster.commands.home import make_home

    values: dict[str, Any] = {"timezone": timezone}
    if start_date:
        values["start_date"] = _day(start_date).isoformat()
    settings = make_home(home, values)
    _say(
        f"Made {settings.home}. Land files below {settings.landing_root}, apply a campaign with "
        "usergrowth apply -f campaign.yaml, then usergrowth run --date <execution date>."
    )


@app.command()
def apply(
    files: Annotated[
        list[Path], typer.Option("--file", "-f", help="Campaign YAML; may be given repeatedly.")
    ],
    home: Home = None,
) -> None:
    """Create or update campaigns from their YAML files; the same file twice changes nothing."""
    from usergrowth_dagster.commands.campaigns import apply_files

    for line in apply_files(home, files):
        _say(line)


@app.command()
def review(
    kind: Annotated[str, typer.Argument(help="signature or template")],
    name: Annotated[str, typer.Argument(help="its name")],
    approve: Annotated[bool, typer.Option("--approve/--reject")] = True,
    reason: Annotated[str | None, typer.Option(help="why, kept in its history")] = None,
    home: Home = None,
) -> None:
    """Approve or reject a signature or a template; only approved ones are sent."""
    from usergrowth_dagster.commands.campaigns import review_record

    _say(review_record(home, kind, name, approve, reason))


@app.command()
def run(
    day: Annotated[str, typer.Option("--date", help="Execution date; default today.")] = "",
    home: Home = None,
) -> None:
    """Land the last days, then score, decide and batch the tasks of an execution date."""
    from usergrowth_dagster.commands.chain import run_date
    from usergrowth_dagster.commands.home import open_home
    from usergrowth_dagster.commands.show import chain_progress, show_chain

    settings = open_home(home)
    with chain_progress():
        report = run_date(settings, _day(day) if day else settings.current_date())
    _finish(show_chain(report, _say, _table))


@app.command()
def backfill(
    first: Annotated[str, typer.Option("--from", help="First execution date.")],
    last: Annotated[str, typer.Option("--to", help="Last execution date.")],
    only_ingest: Annotated[
        bool, typer.Option("--only-ingest", help="Land and make facts, decide nothing.")
    ] = False,
    home: Home = None,
) -> None:
    """Land and compute a range of dates; what is up to date is left alone, nothing is sent late."""
    from usergrowth_dagster.commands.chain import backfill as backfill_range
    from usergrowth_dagster.commands.home import open_home
    from usergrowth_dagster.commands.show import chain_progress, show_chain

    settings = open_home(home)
    with chain_progress():
        report = backfill_range(settings, _day(first), _day(last), only_ingest=only_ingest)
    _finish(show_chain(report, _say, _table))


@app.command()
def train(
    day: Annotated[str, typer.Option("--date", help="Execution date; default today.")] = "",
    home: Home = None,
) -> None:
    """Train the models that campaigns ask for, on what was known before an execution date."""
    from usergrowth_dagster.commands.chain import train_date
    from usergrowth_dagster.commands.home import open_home
    from usergrowth_dagster.commands.show import chain_progress, show_training

    settings = open_home(home)
    with chain_progress():
        report = train_date(settings, _day(day) if day else settings.current_date())
    _finish(show_training(report, _say))


@app.command()
def status(home: Home = None) -> None:
    """Tables, models, tasks and messages of a home."""
    from usergrowth_dagster.commands.home import open_home
    from usergrowth_dagster.commands.status import read_status
    from usergrowth_dagster.tasks.project import Project

    for title, header, lines in read_status(Project(open_home(home))).sections:
        _table(title, header, lines)
        _say("")


@app.command()
def doctor(home: Home = None) -> None:
    """Check the machine and the home, and say what to do about what is not well."""
    from usergrowth_dagster.commands.doctor import examine
    from usergrowth_dagster.commands.home import prepare_dagster
    from usergrowth_dagster.settings import load_settings

    settings = load_settings(home)
    if settings.home.is_dir():
        prepare_dagster(settings.home)
    findings = examine(settings)
    _table(
        "",
        ("check", "", "seen"),
        [(f.name, "ok" if f.well else "FAILS", f.detail) for f in findings],
    )
    _finish([f"{f.name}: {f.detail}" for f in findings if not f.well])


@app.command()
def dev(
    port: Annotated[int, typer.Option(help="Port of the Dagster UI.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(help="Port of the MLflow UI.")] = 5000,
    home: Home = None,
) -> None:
    """Run the Dagster UI, its sensors and schedules, and the MLflow UI."""
    from usergrowth_dagster.commands.dev import serve_uis
    from usergrowth_dagster.commands.home import open_home

    serve_uis(open_home(home), port, mlflow_port, _say)


@app.command()
def demo(
    dataset: Annotated[str, typer.Option(help="completejourney or synthetic")] = "completejourney",
    users: Annotated[int, typer.Option(help="Users of the synthetic world.")] = 2_000,
    home: Home = None,
) -> None:
    """Run the whole chain on an example data set and show what came out."""
    from usergrowth_dagster.commands.demo import run_demo

    run_demo(home, dataset, users, _say, _table)


def _finish(failures: list[str]) -> None:
    """Exit with 2 when something failed, each in its own sentence."""
    for sentence in failures:
        typer.echo(f"error: {sentence}", err=True)
    if failures:
        raise typer.Exit(2)


def main() -> None:
    """Run the command; a user's mistake is one sentence and the exit code 2."""
    try:
        app()
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on where this one stopped", err=True)
        sys.exit(130)
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        typer.echo(f"error: {error.strerror or error}{place}", err=True)
        sys.exit(2)
    except Exception as error:
        # SQLAlchemy is loaded by then, if it is the one that complains.
        origin = getattr(error, "orig", None)
        if origin is None:
            raise
        typer.echo(f"error: the control store cannot be used: {origin}", err=True)
        sys.exit(2)
