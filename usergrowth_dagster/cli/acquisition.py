"""Commands of acquisition: serve-rta, and the snapshot that it answers by."""

from typing import Annotated

import typer

from usergrowth_dagster.cli.common import (
    Home,
    Json,
    LogFormat,
    MetricsHost,
    MetricsPort,
    Page,
    day_of,
    logged,
    say,
)

app = typer.Typer()
rta = typer.Typer(help="Answer ad exchanges that ask whether to bid.", no_args_is_help=True)
app.add_typer(rta, name="rta")


@app.command()
def serve_rta(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8093,
    every: Annotated[
        float, typer.Option(min=0.1, help="Seconds between two looks for a new snapshot.")
    ] = 1.0,
    budget_ms: Annotated[
        float, typer.Option(min=1, help="Milliseconds after which a request is rejected unread.")
    ] = 20.0,
    most_open: Annotated[
        int, typer.Option(min=1, help="Requests at once; further ones are rejected unread.")
    ] = 256,
    most_per_second: Annotated[
        float, typer.Option(min=0, help="Requests a second of an exchange; 0: no limit.")
    ] = 0.0,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
    log_format: LogFormat = "text",
    home: Home = None,
) -> None:
    """Answer ad exchanges that ask whether to bid for a device, until interrupted."""
    from usergrowth_dagster.homes.home import require_home
    from usergrowth_dagster.monitoring.endpoint import Watched
    from usergrowth_dagster.serve.rta.app import Limits
    from usergrowth_dagster.serve.rta.running import Wanted
    from usergrowth_dagster.serve.rta.running import serve_rta as run
    from usergrowth_dagster.settings import load_settings

    settings = load_settings(home)
    require_home(settings)
    limits = Limits(budget_seconds=budget_ms / 1000, open=most_open, per_second=most_per_second)
    speak = say if log_format == "text" else logged("usergrowth.rta")
    watched = Watched(log_format, metrics_host, metrics_port)
    run(settings, Wanted(host, port, every, limits), speak, watched)


@rta.command()
def snapshot(
    day: Annotated[str, typer.Option("--date", help="Execution date; default: today.")] = "",
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Land identity/ and write the snapshot of devices of a date; a running service swaps to it."""
    from usergrowth_dagster.acquisition.build import build_snapshot
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project

    page, project = Page(as_json), Project(open_home(home))
    built = build_snapshot(project, day_of(day) if day else project.settings.current_date())
    page.say(f"{built.sentence}.")
    page.document(built)
    page.finish()
