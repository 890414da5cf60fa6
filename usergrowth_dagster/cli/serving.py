"""Commands of the scoring service: serve-models, and the tokens of its callers."""

from typing import Annotated

import typer

from usergrowth_dagster.cli.common import (
    Home,
    Json,
    LogFormat,
    MetricsHost,
    MetricsPort,
    Page,
    logged,
    say,
)
from usergrowth_dagster.learning.problems import problems
from usergrowth_dagster.recommend.definition import SERVICE as RECOMMEND

app = typer.Typer()
tokens = typer.Typer(help="Manage the tokens that callers of a service show.", no_args_is_help=True)
app.add_typer(tokens, name="service-token")

SERVICES = (*problems(), RECOMMEND)
Service = Annotated[str, typer.Argument(help=", ".join(SERVICES))]
Name = Annotated[str, typer.Argument(help="Name of the token, to revoke it by.")]


@app.command()
def serve_models(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8092,
    service: Annotated[
        list[str] | None,
        typer.Option(help="Only this service; may be given repeatedly. Default: all."),
    ] = None,
    every: Annotated[
        float, typer.Option(min=0.1, help="Seconds between two looks at the registry.")
    ] = 5.0,
    shadow: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of requests that a challenger scores as well."),
    ] = 0.0,
    most_per_second: Annotated[
        float, typer.Option(min=0, help="Requests a second that a service takes; 0: no limit.")
    ] = 500.0,
    most_rows: Annotated[int, typer.Option(min=1, help="Rows of one request.")] = 1_000,
    outputs: Annotated[
        str, typer.Option(help="Names of the probabilities of 0 and 1, and of the label, for EAS.")
    ] = "p_0,p_1,prediction",
    budget_ms: Annotated[
        float,
        typer.Option(min=1, help="Milliseconds after which everybody's items are recommended."),
    ] = 50.0,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
    log_format: LogFormat = "text",
    home: Home = None,
) -> None:
    """Answer with scores and recommendations over HTTP, until interrupted."""
    from usergrowth_dagster.homes.home import require_home
    from usergrowth_dagster.monitoring.endpoint import Watched
    from usergrowth_dagster.serve.scoring.app import Limits
    from usergrowth_dagster.serve.scoring.running import Wanted
    from usergrowth_dagster.serve.scoring.running import serve_models as run
    from usergrowth_dagster.settings import load_settings

    settings = load_settings(home)
    require_home(settings)
    for one in service or ():
        _require_service(one)
    wanted = Wanted(
        *(host, port, tuple(service or ()), every, shadow, most_per_second),
        limits=Limits(rows=most_rows),
        outputs=_three(outputs),
        deadline=budget_ms / 1000,
    )
    speak = say if log_format == "text" else logged("usergrowth.scoring")
    run(settings, wanted, speak, Watched(log_format, metrics_host, metrics_port))


@tokens.command()
def add(service: Service, name: Name, home: Home = None) -> None:
    """Make a token of a service and print it, this once."""
    from usergrowth_dagster.control.audit import whoami
    from usergrowth_dagster.control.service_tokens import add_token
    from usergrowth_dagster.homes.stores import control_store

    _require_service(service)
    with control_store(home) as (store, _):
        typer.echo(add_token(store, service, name, whoami()))


@tokens.command("list")
def list_(as_json: Json = False, home: Home = None) -> None:
    """List the tokens that are valid, without their text."""
    from usergrowth_dagster.control.service_tokens import read_tokens
    from usergrowth_dagster.homes.stores import control_store

    with control_store(home) as (store, settings):
        lines = [
            (one.service, one.name, one.created.astimezone(settings.zone), one.actor)
            for one in read_tokens(store)
        ]
    page = Page(as_json)
    page.table("Tokens", ("service", "name", "made", "by"), lines)
    page.finish()


@tokens.command()
def revoke(service: Service, name: Name, home: Home = None) -> None:
    """Let a token be valid no more; running services notice within seconds."""
    from usergrowth_dagster.control.audit import whoami
    from usergrowth_dagster.control.service_tokens import revoke_token
    from usergrowth_dagster.homes.stores import control_store

    with control_store(home) as (store, _):
        revoke_token(store, service, name, whoami())
    say(f"The token {name} of {service} is revoked.")


def _require_service(name: str) -> None:
    from usergrowth_dagster.errors import UserError

    if name not in SERVICES:
        raise UserError(
            f"no service is called {name!r}; there are {', '.join(SERVICES)}",
            code="question.unknown",
        )


def _three(outputs: str) -> tuple[str, str, str]:
    names = [name.strip() for name in outputs.split(",")]
    if len(names) != 3 or not all(names) or len({*names}) < 3:
        raise typer.BadParameter(
            "three different names with commas between them", param_hint="--outputs"
        )
    return names[0], names[1], names[2]
