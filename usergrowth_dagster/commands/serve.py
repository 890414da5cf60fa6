"""Running the service that providers report to."""

import logging
from collections.abc import Callable

from usergrowth_dagster.control.store import open_store
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.settings import Settings


def addresses(settings: Settings, port: int) -> list[tuple[str, str]]:
    """What each gateway in use reports to: (what, address), for the provider's console.

    The addresses for replies may hold a secret mark. Without ``callback_url`` they are those of
    this machine.

    Raises:
        UserError: a credential or setting of a gateway is missing.
    """
    root = (settings.callback_url or f"http://127.0.0.1:{port}").rstrip("/")
    places: list[tuple[str, str]] = []
    for name in sorted({settings.gateway, settings.email_gateway}):
        if name == "aliyun":
            from usergrowth_dagster.messaging.gateways.aliyun_reports import reply_url

            places.append(("Aliyun SmsReport", f"{root}/aliyun/report"))
            if settings.callback_url:
                places.append(("Aliyun SmsUp", reply_url(settings)))
        elif name == "kannel":
            from usergrowth_dagster.messaging.gateways import kannel

            places.append(("Kannel get-url of replies", kannel.reply_url(settings)))
        elif name == "twilio":
            places.append(("Twilio, a message comes in", f"{root}/twilio/mo"))
        elif name == "webhook":
            places.append(("webhook receipts", f"{root}/webhook/dlr"))
            places.append(("webhook replies", f"{root}/webhook/mo"))
        else:
            places.append((f"{name} receipts", f"{root}/{name}/<callback_token>/dlr"))
            places.append((f"{name} replies", f"{root}/{name}/<callback_token>/mo"))
    return places


def serve(settings: Settings, host: str, port: int, say: Callable[[str], None]) -> None:
    """Listen until interrupted; what was answered with 200 is stored by then.

    Raises:
        UserError: there is no such home, or its secret key is not the ledger's.
    """
    import uvicorn

    from usergrowth_dagster.serve.app import make_app
    from usergrowth_dagster.serve.connections import Limits, guarded

    if not settings.home.is_dir():
        raise UserError(
            f"{settings.home}: no home folder; make one with usergrowth init", code="home.missing"
        )
    store = open_store(settings)  # a mistake is one sentence here, and a traceback in the app
    Ledger(store, open_vault(settings.home, settings.default_country))
    store.close()
    try:
        for what, address in addresses(settings, port):
            say(f"{what}: {address}")
    except UserError as error:
        say(f"not ready: {error}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # its own access log would show queries, which may hold numbers
    config = uvicorn.Config(
        make_app(settings),
        host=host,
        port=port,
        http=guarded(Limits(most_open=settings.serve_connections)),
        access_log=False,
        log_config=None,
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=20,
    )
    logging.getLogger("uvicorn").setLevel(logging.INFO)
    say(f"listening on http://{host}:{port}")
    uvicorn.Server(config).run()
