"""Running the service that providers report to."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from usergrowth_dagster.control.store import open_store
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.logs import set_up
from usergrowth_dagster.messaging.gateways.registry import gateways
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.settings import Settings

if TYPE_CHECKING:
    from usergrowth_dagster.monitoring.endpoint import Watched
    from usergrowth_dagster.monitoring.process_figures import ReceiverFigures


def addresses(settings: Settings, port: int) -> list[tuple[str, str]]:
    """What each gateway in use reports to: (what, address), for the provider's console.

    The addresses for replies may hold a secret token. Without ``callback_url`` they are those of
    this machine.

    Raises:
        UserError: a credential or setting of a gateway is missing.
    """
    root = (settings.callback_url or f"http://127.0.0.1:{port}").rstrip("/")
    in_use = sorted({settings.gateway, settings.email_gateway} & gateways().keys())
    return [pair for name in in_use for pair in gateways()[name].callback_addresses(settings, root)]


def listen(
    settings: Settings, host: str, port: int, say: Callable[[str], None], watched: "Watched"
) -> None:
    """Listen until interrupted; what was answered with 200 is stored by then.

    Raises:
        UserError: the home's secret key is not the ledger's, or a port is taken.
    """
    from usergrowth_dagster.monitoring.endpoint import shown
    from usergrowth_dagster.monitoring.process_figures import ReceiverFigures, new_registry

    store = open_store(settings)  # a mistake is one sentence here, and a traceback in the app
    Ledger(store, open_vault(settings.home, settings.default_country))
    set_up(watched.log_format)
    logging.getLogger("uvicorn").setLevel(logging.INFO)
    if watched.log_format == "text":  # what a collector keeps for long must hold no secret token
        _say_addresses(settings, port, say)
    registry = new_registry()
    figures = ReceiverFigures(registry)
    with ExitStack() as stack:
        stack.callback(store.close)
        stack.enter_context(shown(registry, store, settings, watched, say))
        say(f"listening on http://{host}:{port}")
        _serve(settings, host, port, figures)


def _say_addresses(settings: Settings, port: int, say: Callable[[str], None]) -> None:
    try:
        for what, address in addresses(settings, port):
            say(f"{what}: {address}")
    except UserError as error:
        say(f"not ready: {error}")


def _serve(settings: Settings, host: str, port: int, figures: "ReceiverFigures") -> None:
    import uvicorn

    from usergrowth_dagster.serve.app import make_app
    from usergrowth_dagster.serve.connections import Limits, guarded

    # its own access log would show queries, which may hold numbers
    config = uvicorn.Config(
        make_app(settings, figures),
        host=host,
        port=port,
        http=guarded(Limits(most_open=settings.serve_connections), figures.cut),
        access_log=False,
        log_config=None,
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=20,
    )
    uvicorn.Server(config).run()
