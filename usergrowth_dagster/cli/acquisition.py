"""Commands of acquisition: serve-rta, and the snapshot that it answers by."""

from typing import Annotated

import typer

from usergrowth_dagster.cli.common import (
    Home,
    Json,
    LogFormat,
    MetricsHost,
    MetricsPort,
    Output,
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
    log_every: Annotated[
        float, typer.Option(min=0.1, help="Seconds between two files of the log of decisions.")
    ] = 30.0,
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
    run(settings, Wanted(host, port, every, log_every, limits), speak, watched)


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


@rta.command()
def report(
    first: Annotated[str, typer.Option("--from", help="First day of the requests.")],
    last: Annotated[str, typer.Option("--to", help="Last day of the requests.")],
    days: Annotated[
        int, typer.Option(min=0, max=365, help="Days after a request in which a customer counts.")
    ] = 7,
    cost: Annotated[
        float | None, typer.Option(min=0, help="What the exchange billed for treated devices.")
    ] = None,
    control_cost: Annotated[
        float, typer.Option(min=0, help="What it billed for control devices.")
    ] = 0.0,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Land the log of decisions and compare new customers of treated and control devices."""
    from usergrowth_dagster.acquisition.lift import measure_lift
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project

    page = Page(as_json)
    lift = measure_lift(
        Project(open_home(home)),
        day_of(first),
        day_of(last),
        window_days=days,
        cost=cost,
        control_cost=control_cost,
    )
    header = ("arm", "devices", "accepted", "new customers")
    rows = [(name, one.devices, one.accepted, one.customers) for name, one in lift.arms.items()]
    page.table("Devices in the log", header, rows)
    figures = [
        ("new customers a 1,000 devices, beyond control", lift.difference, 1000.0),
        ("incremental new customers", lift.incremental, 1.0),
        ("cost of an incremental new customer", lift.cost_per_incremental, 1.0),
    ]
    page.table(
        "Lift, with 95 % intervals",
        ("figure", "estimate", "from", "to"),
        [
            (what, *(round(part * by, 2) for part in (one.value, one.low, one.high)))
            for what, one, by in figures
            if one is not None and one.low is not None and one.high is not None
        ],
    )
    if lift.mixed:
        page.say(f"{lift.mixed:,} devices were in both arms and are left out.")
    if cost is not None and lift.cost_per_incremental is None:
        page.say("The interval of incremental customers spans zero, so one of them has no cost.")
    page.document(lift)
    page.finish()


@rta.command()
def schema(output: Output = None) -> None:
    """Write the JSON schema of acquisition.yml, so that editors complete and check its keys."""
    from usergrowth_dagster.acquisition.definition import FILE_NAME, Acquisition
    from usergrowth_dagster.cli.common import write_schema
    from usergrowth_dagster.yaml_file import schema_of

    write_schema(schema_of(Acquisition, f"usergrowth {FILE_NAME}"), output)
