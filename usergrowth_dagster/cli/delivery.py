"""Commands of delivery: dispatch, pause, resume, cancel, delivery, reconcile."""

from dataclasses import astuple
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from usergrowth_dagster.control.store import ControlStore
    from usergrowth_dagster.messaging.operations.controls import Controlled
    from usergrowth_dagster.messaging.operations.doubts import Settlement
    from usergrowth_dagster.monitoring.endpoint import Watched
    from usergrowth_dagster.settings import Settings

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
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
    log_format: LogFormat = "text",
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Send the messages that are due; several dispatchers may run at once."""
    from usergrowth_dagster.homes.stores import control_store
    from usergrowth_dagster.messaging.dispatching import watching
    from usergrowth_dagster.monitoring.endpoint import Watched
    from usergrowth_dagster.pipeline.freshness import held_by_segments

    if once and watch:
        raise typer.BadParameter("--once and --watch exclude each other; give one of them")
    if watch and as_json:
        raise typer.BadParameter("--json goes with --once: --watch has no end to report at")
    if not watch and (metrics_port is not None or log_format != "text"):
        raise typer.BadParameter("--metrics-port and --log-format go with --watch")
    with control_store(home) as (store, settings):
        if watch:
            watched = Watched(log_format, metrics_host, metrics_port)
            _watch(store, settings, interval, watched)
            return
        counts = watching.dispatch_once(store, settings, held_by_segments(store, settings))
    page = Page(as_json)
    failures = [*counts.stopped, *counts.held, *counts.failed]
    done = watching.counts_line(counts) or ("" if failures else "Nothing is due.")
    if done:
        page.say(done)
    page.finish(failures)


def _watch(
    store: "ControlStore", settings: "Settings", interval: float, watched: "Watched"
) -> None:
    """Dispatch until interrupted, with a log and figures as wanted."""
    from datetime import datetime

    from usergrowth_dagster.control.wall_clock import shown_moment
    from usergrowth_dagster.logs import set_up
    from usergrowth_dagster.messaging.dispatching import watching
    from usergrowth_dagster.monitoring.endpoint import shown
    from usergrowth_dagster.monitoring.process_figures import DispatchFigures, new_registry
    from usergrowth_dagster.pipeline.freshness import held_by_segments

    def with_clock(text: str) -> None:
        say(f"{shown_moment(datetime.now(settings.zone))} {text}")

    if watched.log_format == "json":
        set_up("json")
    speak = with_clock if watched.log_format == "text" else logged("usergrowth.dispatch")
    registry = new_registry()
    figures = DispatchFigures(registry)
    with shown(registry, store, settings, watched, speak):
        held = held_by_segments(store, settings)
        watching.dispatch_forever(store, settings, interval, speak, held, figures.after_round)


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
    from usergrowth_dagster.control.audit import whoami
    from usergrowth_dagster.homes.stores import control_store
    from usergrowth_dagster.messaging.operations import controls

    do = {"pause": controls.pause, "resume": controls.resume, "cancel": controls.cancel}[action]
    with control_store(home) as (store, _):
        controlled = do(store, name, whoami())
    for one in controlled:
        say(_sentence(action, one))


def _sentence(action: str, one: "Controlled") -> str:
    name = f"schedule {one.schedule!r}"
    if not one.changed:
        already = {"pause": "was paused already", "resume": "was neither paused nor stopped"}
        return f"{name}: {already.get(action, 'has nothing left to cancel')}"
    if action == "pause":
        return f"{name}: paused; go on with usergrowth resume"
    if action == "resume":
        more = f", {one.occurrences} stopped occurrences reopened" if one.occurrences else ""
        return f"{name}: resumed{more}"
    flight = f"; up to {one.in_flight} are with the provider and finish" if one.in_flight else ""
    later = "; it is paused, so nothing later goes out" if one.repeats else ""
    return (
        f"{name}: {one.occurrences} occurrences cancelled, {one.messages} messages not sent"
        f"{flight}{later}"
    )


@app.command()
def delivery(
    name: Annotated[
        str | None, typer.Argument(help="Only a schedule, campaign or task of this name.")
    ] = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Show what is under way: occurrences with their window, people by state and reason."""
    from usergrowth_dagster.cli.pages.status import show_deliveries
    from usergrowth_dagster.homes.stores import control_store
    from usergrowth_dagster.views.deliveries import read_deliveries

    with control_store(home) as (store, settings):
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
    from usergrowth_dagster.control.audit import whoami
    from usergrowth_dagster.homes.stores import open_ledger
    from usergrowth_dagster.messaging.operations.doubts import settle_doubts
    from usergrowth_dagster.views.deliveries import read_doubts

    with open_ledger(home) as (ledger, settings):
        settlement = settle_doubts(
            ledger,
            settings,
            look_up=look_up,
            to_release=release or [],
            to_close=close or [],
            actor=whoami(),
            why=why,
        )
        doubts = read_doubts(ledger, settings)
    page = Page(as_json)
    done = _done(settlement)
    for sentence in done:
        page.say(sentence)
    if as_json or listed or doubts or not done:
        header = ("id", "schedule", "occurrence", "user", "address", "gateway", "reason", "at")
        page.table("In doubt", header, [astuple(doubt) for doubt in doubts])
    page.finish(settlement.failed)


def _done(settlement: "Settlement") -> list[str]:
    """Sentences about what became of messages in doubt."""
    sentences = [
        f"gateway {name}: {counts.settled} settled, {counts.unknown} not known to it"
        for name, counts in settlement.looked_up.items()
    ]
    for outcome, word in ((settlement.released, "released"), (settlement.closed, "closed")):
        if outcome is None:
            continue
        sentences.append(f"{outcome.changed} messages {word}")
        if outcome.left:
            sentences.append(f"{outcome.left} are not in doubt (any more)")
        if outcome.cancelled:
            sentences.append(
                f"{outcome.cancelled} belong to a cancelled occurrence: close them instead"
            )
    return sentences
