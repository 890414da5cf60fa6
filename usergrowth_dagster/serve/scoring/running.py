"""Running the scoring service: the server, the watch over the registry, and a quiet end."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from usergrowth_dagster.control.service_tokens import read_tokens
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.logs import set_up
from usergrowth_dagster.messaging.schedules.occurrences import business_now
from usergrowth_dagster.monitoring.endpoint import Watched, shown
from usergrowth_dagster.monitoring.process_figures import new_registry
from usergrowth_dagster.monitoring.scoring_figures import ScoringFigures
from usergrowth_dagster.project import Project
from usergrowth_dagster.recommend.answer_log import AnswerLog
from usergrowth_dagster.recommend.definition import FILE_NAME
from usergrowth_dagster.recommend.definition import SERVICE as RECOMMEND
from usergrowth_dagster.serve.embedded import embedded, require_free, serve_until_signal
from usergrowth_dagster.serve.scoring import eas
from usergrowth_dagster.serve.scoring.app import App, Limits
from usergrowth_dagster.serve.scoring.callers import Pace, Tokens
from usergrowth_dagster.serve.scoring.recommending import DEADLINE, Recommending
from usergrowth_dagster.serve.scoring.services import Pair, Services
from usergrowth_dagster.serve.scoring.shadow import Shadow
from usergrowth_dagster.serve.scoring.stored import StoredFeatures
from usergrowth_dagster.settings import Settings

if TYPE_CHECKING:
    from granian.server.embed import Server

LOG = logging.getLogger("usergrowth.scoring")

_LOG_SECONDS = 30.0
"""Seconds between two files of the log of recommendations."""


@dataclass(frozen=True)
class Wanted:
    """How the service is run.

    Attributes:
        host, port: where it listens.
        names: only these services; empty: every question with an approved version, and
            recommendations where the home has a recommend.yml.
        every: seconds between two looks at the registry, the recommendations and the tokens.
        shadow: share of the requests that a challenger scores as well; 0: none is loaded.
        pace: requests a second that a service takes; 0: no limit.
        limits: of one request.
        outputs: names of the outputs at the door of EAS.
        deadline: seconds after which recommendations are the popular items.
    """

    host: str = "127.0.0.1"
    port: int = 8092
    names: Sequence[str] = ()
    every: float = 5.0
    shadow: float = 0.0
    pace: float = 500.0
    limits: Limits = field(default_factory=Limits)
    outputs: tuple[str, str, str] = eas.NAMES
    deadline: float = DEADLINE


class Watch:
    """A thread that brings services and tokens up to date again and again.

    Args:
        project: the home.
        parts: what brings each service up to date.
        tokens: of their callers.
        every: seconds between two looks.
    """

    def __init__(
        self, project: Project, parts: Sequence[Callable[[], None]], tokens: Tokens, every: float
    ) -> None:
        self._project, self._parts, self._tokens = project, parts, tokens
        self._every, self._ended = every, threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join(timeout=30)

    def look(self) -> None:
        """Look once; what cannot be read stays as it is, with a line in the log."""
        for part in (self._read_tokens, *self._parts):
            try:
                part()
            except UserError as error:
                LOG.error("%s", error)
            except Exception as error:
                LOG.error("the watch failed with %s", type(error).__name__)

    def _read_tokens(self) -> None:
        self._tokens.replace(read_tokens(self._project.store))

    def _run(self) -> None:
        while not self._ended.is_set():
            self.look()
            self._ended.wait(self._every)


def serve_models(
    settings: Settings, wanted: Wanted, say: Callable[[str], None], watched: Watched
) -> None:
    """Answer with scores until interrupted; a request that has begun is answered to its end.

    Raises:
        UserError: the control store cannot be opened, or a port is taken.
    """
    project = Project(settings)
    store = project.store  # a mistake is one sentence here, and a traceback in a thread
    set_up(watched.log_format)
    require_free(wanted.host, wanted.port)
    registry = new_registry()
    figures = ScoringFigures(registry)
    with ExitStack() as stack:
        stack.callback(store.close)
        stack.enter_context(shown(registry, store, settings, watched, say))
        app, watch = build(project, wanted, figures, stack)
        stack.callback(watch.close)
        say(f"listening on http://{wanted.host}:{wanted.port}")
        asyncio.run(serve_until_signal(server_of(app, wanted)))


def build(
    project: Project, wanted: Wanted, figures: ScoringFigures, stack: ExitStack
) -> tuple[App, Watch]:
    """The application of a home, and the watch that gives it its versions."""

    def changed(name: str, pair: Pair | None) -> None:
        shadow = pair.shadow if pair else None
        figures.holds(name, pair.served.version if pair else 0, shadow.version if shadow else 0)

    def today() -> date:
        return business_now(project.settings).astimezone(project.settings.zone).date()

    questions = [name for name in wanted.names if name != RECOMMEND] if wanted.names else None
    services = Services(project, questions, shadows=wanted.shadow > 0, changed=changed)
    parts = [services.refresh]
    recommending = None
    known = (project.settings.home / FILE_NAME).exists()
    if RECOMMEND in wanted.names or (known and not wanted.names):
        recommending = _recommending(project, wanted, figures, today, stack)
        parts.append(recommending.refresh)
    tokens, shadow = Tokens(), Shadow(wanted.shadow, figures)
    stack.callback(shadow.close)
    stored = StoredFeatures(project, stack)
    app = App(
        *(services, tokens, stored, shadow, figures, Pace(wanted.pace), today, recommending),
        limits=wanted.limits,
        names=wanted.outputs,
    )
    return app, Watch(project, parts, tokens, wanted.every)


def _recommending(
    project: Project,
    wanted: Wanted,
    figures: ScoringFigures,
    today: Callable[[], date],
    stack: ExitStack,
) -> Recommending:
    """Recommendations that answer, and their log, which is written until the stack ends."""
    log = AnswerLog(project, figures.lost)
    log.watch(_LOG_SECONDS)
    stack.callback(log.close)
    made = Recommending(
        *(project, today, log, figures.fell_back),
        holds=lambda day: figures.holds(RECOMMEND, int(f"{day:%Y%m%d}"), 0),
        deadline=wanted.deadline,
    )
    stack.callback(made.close)
    return made


def server_of(app: App, wanted: Wanted) -> "Server":
    """The server, in this process and its loop."""
    return embedded(app, wanted.host, wanted.port, "asginl", 10)
