"""Commands of a home: make it, check it, show it, try it."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usergrowth_dagster.cli.common import Home, Json, Page, day_of, say
from usergrowth_dagster.cli.common import table as show_table
from usergrowth_dagster.cli.sources import PasswordEnv, PasswordFile, Query, Table

if TYPE_CHECKING:
    from usergrowth_dagster.sources.suggest import Suggestion

app = typer.Typer()


@app.command()
def init(
    home: Home = None,
    timezone: Annotated[str, typer.Option(help="Business time zone.")] = "Asia/Shanghai",
    start_date: Annotated[str, typer.Option(help="First execution date.")] = "",
    example: Annotated[
        bool,
        typer.Option(
            "--example", help="Add a commented campaign file and tiny landing files to try it on."
        ),
    ] = False,
    log: Annotated[
        str,
        typer.Option(
            "--from",
            help="A log (files, or the URL of a database): a sources.yml is proposed for it.",
        ),
    ] = "",
    table: Table = None,
    query: Query = None,
    password_env: PasswordEnv = None,
    password_file: PasswordFile = None,
) -> None:
    """Make a home folder with settings, landing folders and an empty control store."""
    from usergrowth_dagster.homes.home import make_home
    from usergrowth_dagster.views.sources import database_keys, suggest_for

    values: dict[str, Any] = {"timezone": timezone}
    database = database_keys(log, table, query, password_env, password_file)
    if log:
        if example:
            raise typer.BadParameter("--example brings its own data; leave --from out")
        _init_from(home, suggest_for(timezone, log, database), values, start_date)
        return
    if example and start_date:
        raise typer.BadParameter("--example has its own dates; leave --start-date out")
    if example:
        from usergrowth_dagster.examples.datasets import TINY_DAY, TINY_SETTINGS, write_tiny_example
        from usergrowth_dagster.project import Project

        settings = make_home(home, values | TINY_SETTINGS)
        path = write_tiny_example(settings.home, Project(settings))
        file = shlex.quote(str(path))
        say(
            f"Made {settings.home} with example files below {settings.landing_root}. The clock of "
            f"this home stands on {TINY_DAY} (setting today). Read {path}, then:\n\n"
            f"  usergrowth backfill --from {settings.start_date} --to {TINY_DAY} --only-ingest\n"
            f"  usergrowth apply -f {file}\n"
            "  usergrowth review signature Example\n"
            '  usergrowth review template "example text"\n'
            f"  usergrowth run --date {TINY_DAY}\n"
            "  usergrowth preview example"
        )
        return
    if start_date:
        values["start_date"] = day_of(start_date).isoformat()
    settings = make_home(home, values)
    say(
        f"Made {settings.home}. Land files below {settings.landing_root}, apply a campaign with "
        "usergrowth apply -f campaign.yaml, then usergrowth run --date <execution date>."
    )


def _init_from(
    home: Path | None, suggestion: "Suggestion", values: dict[str, Any], start_date: str
) -> None:
    """Make a home whose partitions begin on the log's first day, or on a day that was given."""
    from usergrowth_dagster.homes.home import make_home

    first = day_of(start_date).isoformat() if start_date else "".join(suggestion.span[:1])
    settings = make_home(home, values | ({"start_date": first} if first else {}))
    path = suggestion.write(settings.home)
    counts = ", ".join(f"{number:,} {name}" for name, number in suggestion.counts.items())
    say(f"{suggestion.text}\nMade {settings.home} and {path} ({counts}). Correct it, then:\n")
    if not suggestion.is_whole and not start_date:
        say(
            f"  # start_date in usergrowth.toml is the first day of {suggestion.counted}; set an "
            "earlier one if others are older"
        )
    say("  usergrowth sources land")
    if suggestion.span:
        first, last = suggestion.span
        say(f"  usergrowth backfill --from {first} --to {last} --only-ingest")


@app.command()
def status(as_json: Json = False, home: Home = None) -> None:
    """Show the tables, models, tasks and messages of a home."""
    from usergrowth_dagster.cli.pages.status import show_status
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.status import read_status

    read = read_status(Project(open_home(home)))
    page = Page(as_json)
    show_status(read, page)
    page.finish(read.failures)


@app.command()
def doctor(as_json: Json = False, home: Home = None) -> None:
    """Check the machine, the home and its data, and print what to do about each problem."""
    import os

    from usergrowth_dagster.explain.data_findings import data_findings
    from usergrowth_dagster.homes.doctor import examine
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.settings import load_settings

    settings = load_settings(home)
    os.environ["USERGROWTH_HOME"] = str(settings.home)  # the code location's
    findings = examine(settings)
    page = Page(as_json)
    page.table(
        "Checks",
        ("check", "result", "seen"),
        [(f.name, "ok" if f.well else "FAILS", f.detail) for f in findings],
    )
    if all(f.well for f in findings):
        lines = [(f.name, f.count, f.detail, f.remedy) for f in data_findings(Project(settings))]
        if lines:
            page.say("")
            page.table("Data", ("what will hurt", "count", "seen", "what to do"), lines)
    page.finish([f"{f.name}: {f.detail}" for f in findings if not f.well])


@app.command()
def tables(
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Derive the kept state from the logs again.")
    ] = False,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Check the kept state of each table against its log; change nothing without --rebuild."""
    from usergrowth_dagster.homes.doctor import rebuild_states, state_faults
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.settings import load_settings
    from usergrowth_dagster.settings.places import keep_private

    keep_private()
    project = Project(load_settings(home))
    page = Page(as_json)
    if rebuild:
        page.table("Derived again", ("table", "version", "days"), rebuild_states(project))
    faults = state_faults(project)
    if not faults:
        page.say("What is kept of the tables is what their logs say.")
    page.finish([f"what is kept of table {name} {fault}" for name, fault in faults.items()])


@app.command()
def maintain(
    keep_days: Annotated[
        int | None,
        typer.Option(min=1, help="Days that files of earlier versions stay; default keep_days."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed.")] = False,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Remove files of the tables that nothing needs, and shorten the reading of their logs."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.pipeline.maintenance import maintain as maintained
    from usergrowth_dagster.project import Project

    page = Page(as_json)
    done = maintained(Project(open_home(home)), keep_days, dry_run=dry_run)
    page.table(
        "Would be removed" if dry_run else "Removed",
        (
            *("table", "version", "files", "most of one day", "checkpoint"),
            *("removed", "MB freed", "kept for replays"),
        ),
        [
            (
                *(one.table, one.version, one.files, one.most_files, one.checkpoint),
                *(one.removed, f"{one.freed_bytes / 1e6:.1f}", one.for_replays),
            )
            for one in done
        ],
    )
    files, freed = sum(one.removed for one in done), sum(one.freed_bytes for one in done) / 1e6
    if not files:
        page.say("Nothing to remove: no file of an earlier version is old enough.")
    elif dry_run:
        page.say(f"{files:,} files of {freed:,.1f} MB would be removed; nothing was.")
    else:
        page.say(f"Removed {files:,} files of {freed:,.1f} MB.")
    page.finish()


@app.command()
def dev(
    port: Annotated[int, typer.Option(help="Port of the Dagster UI.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(help="Port of the MLflow UI.")] = 5000,
    home: Home = None,
) -> None:
    """Run the Dagster UI, its sensors and schedules, and the MLflow UI."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.runs.uis import serve_uis

    serve_uis(open_home(home), port, mlflow_port, say)


@app.command()
def demo(
    dataset: Annotated[str, typer.Option(help="completejourney or synthetic")] = "completejourney",
    users: Annotated[
        int | None,
        typer.Option(help="Users of the synthetic world; default 2000, with --campaigns 4000."),
    ] = None,
    campaigns: Annotated[
        int | None,
        typer.Option(
            help="synthetic only: so many campaign rounds, each decided by what the earlier ones "
            "measured, beside a fixed threshold policy."
        ),
    ] = None,
    gateway: Annotated[
        str, typer.Option(help="kannel: send through a Kannel on this machine; default by setting.")
    ] = "",
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="completejourney only: train every question too, and print one table of what was "
            "measured, by stage of AARRR.",
        ),
    ] = False,
    home: Home = None,
) -> None:
    """Run the whole chain on an example data set and show the result."""
    from usergrowth_dagster.cli.progress import chain_progress
    from usergrowth_dagster.errors import UserError
    from usergrowth_dagster.examples.demo import DEFAULT_USERS, run_demo
    from usergrowth_dagster.examples.screen import Screen

    screen = Screen(say, show_table, chain_progress)
    if everything:
        from usergrowth_dagster.examples.aarrr.run import run_every_stage

        if users is not None or campaigns is not None:
            raise UserError(
                "--all: the data set has its own users and campaigns; leave --users and "
                "--campaigns out",
                code="command.invalid",
            )
        run_every_stage(home, dataset, screen, gateway)
        return
    if campaigns is None:
        run_demo(home, dataset, DEFAULT_USERS if users is None else users, screen, gateway)
        return
    from usergrowth_dagster.examples.rounds.loop import run_rounds
    from usergrowth_dagster.settings.gateways import DRY_RUN

    if dataset != "synthetic" or gateway not in ("", DRY_RUN):
        raise UserError(
            "--campaigns: only the synthetic world can answer texts, and nothing is really sent to "
            "it; add --dataset synthetic, and leave --gateway out",
            code="command.invalid",
        )
    run_rounds(home, users, campaigns, screen)
