"""Running the service that answers exchanges: the server, its snapshot, and a quiet end."""

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from usergrowth_dagster.acquisition.adapters.mapped import FOLDER, read_mapped
from usergrowth_dagster.acquisition.answering import Answering
from usergrowth_dagster.acquisition.build import snapshot_folder
from usergrowth_dagster.acquisition.decide import Decider
from usergrowth_dagster.acquisition.definition import FILE_NAME, read_acquisition
from usergrowth_dagster.acquisition.landing import log_folder, log_key
from usergrowth_dagster.acquisition.log import DecisionLog
from usergrowth_dagster.logs import set_up
from usergrowth_dagster.messaging.schedules.occurrences import business_now
from usergrowth_dagster.monitoring.endpoint import Watched, shown
from usergrowth_dagster.monitoring.process_figures import new_registry
from usergrowth_dagster.monitoring.rta_figures import RtaFigures
from usergrowth_dagster.project import Project
from usergrowth_dagster.serve.embedded import embedded, require_free, serve_until_signal
from usergrowth_dagster.serve.rta.app import ADAPTERS, App, Limits
from usergrowth_dagster.settings import Settings

if TYPE_CHECKING:
    from granian.server.embed import Server


@dataclass(frozen=True)
class Wanted:
    """How the service is run.

    Attributes:
        host, port: where it listens.
        every: seconds between two looks for a snapshot.
        log_every: seconds between two files of the log.
        limits: of requests.
    """

    host: str = "127.0.0.1"
    port: int = 8093
    every: float = 1.0
    log_every: float = 30.0
    limits: Limits = field(default_factory=Limits)


def serve_rta(
    settings: Settings, wanted: Wanted, say: Callable[[str], None], watched: Watched
) -> None:
    """Answer exchanges until interrupted; a request that has begun is answered to its end.

    Raises:
        UserError: acquisition.yml breaks its format, or a port is taken.
    """
    project = Project(settings)
    store = project.store
    set_up(watched.log_format)
    require_free(wanted.host, wanted.port)
    registry = new_registry()
    figures = RtaFigures(registry)
    with ExitStack() as stack:
        stack.callback(store.close)
        stack.enter_context(shown(registry, store, settings, watched, say))
        app, answering, log = build(project, wanted, figures)
        answering.watch(wanted.every)
        stack.callback(answering.close)
        log.watch(wanted.log_every)
        stack.callback(log.close)
        if answering() is None:
            say("there is no snapshot yet; strategies that need one do as on_failure says")
        say(f"listening on http://{wanted.host}:{wanted.port}/rta/…")
        asyncio.run(serve_until_signal(server_of(app, wanted)))


def build(
    project: Project, wanted: Wanted, figures: RtaFigures
) -> tuple[App, Answering, DecisionLog]:
    """The application of a home, the snapshots that it answers by, and its log.

    Raises:
        UserError: acquisition.yml is missing, it or a mapping file breaks its format, or the
            secret is unusable.
    """
    policy = read_acquisition(project.settings.home / FILE_NAME)
    answering = Answering(
        snapshot_folder(project),
        lambda snapshot: figures.holds(snapshot.day, snapshot.rows),
    )
    answering.look()
    log = DecisionLog(
        *(log_folder(project), log_key(project), policy.log.share, project.settings.zone),
        lost=figures.lost,
    )
    mapped = read_mapped(project.settings.home / FOLDER, [one.name for one in ADAPTERS])
    adapters = (*ADAPTERS, *mapped)
    decider, clock = Decider(policy, answering), _clock(project.settings)
    app = App(decider, figures, wanted.limits, log.keep, adapters, clock)
    return app, answering, log


def _clock(settings: Settings) -> Callable[[], float]:
    """Seconds since 1970 on the business clock: a home that is set to a past day lives on it."""
    ahead = business_now(settings).timestamp() - time.time()
    return time.time if abs(ahead) < 1 else lambda: time.time() + ahead


def server_of(app: App, wanted: Wanted) -> "Server":
    """The server, in this process and its loop."""
    return embedded(app, wanted.host, wanted.port, "rsgi", 75)
