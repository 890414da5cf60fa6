"""The address that Prometheus reads a process's figures from.

It is a port of its own, on this machine alone unless another address is named. The receiver's
port is open to the world, and what a business sends, and how much of it fails, is not for the
world; a path of that port could be opened by one line too many in a proxy's configuration.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, start_http_server

from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.logs import Form
from usergrowth_dagster.messaging.operations.backlog import read_backlog
from usergrowth_dagster.messaging.schedules.occurrences import business_now
from usergrowth_dagster.monitoring.backlog_gauges import BacklogGauges
from usergrowth_dagster.settings import Settings


@dataclass(frozen=True)
class Watched:
    """How a process is watched: the form of its log, and where its figures are shown."""

    log_format: Form = "text"
    host: str = "127.0.0.1"
    port: int | None = None
    """None: nowhere."""


@contextmanager
def shown(
    registry: CollectorRegistry,
    store: ControlStore,
    settings: Settings,
    watched: Watched,
    say: Callable[[str], None],
) -> Iterator[None]:
    """Show a registry's figures and the store's backlog at ``/metrics`` of a port meanwhile.

    Args:
        registry: the process's own figures.
        store: whose backlog it is.
        settings: the business clock.
        watched: the port; without one nothing is shown.
        say: takes a sentence about where it is.

    Raises:
        UserError: nothing can listen there.
    """
    if watched.port is None:
        yield
        return
    host, port = watched.host, watched.port
    registry.register(BacklogGauges(lambda: read_backlog(store, business_now(settings))))
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise UserError(
            f"the figures cannot be shown at {host}:{port}: {error.strerror}; name another place "
            "with --metrics-host and --metrics-port",
            code="machine.port_taken",
        ) from None
    say(f"figures at http://{host}:{port}/metrics")
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
