"""The page of the gateways, from the registered classes."""

from docs_site.markdown import code, table
from usergrowth_dagster.messaging.gateways.protocol import Gateway
from usergrowth_dagster.messaging.gateways.registry import gateways
from usergrowth_dagster.settings.gateways import DRY_RUN

HEAD = """\
# Gateways

Texts are submitted to the gateway that the setting `gateway` names, e-mails to that of
`email_gateway`. A package adds another by an [entry point](../how-to/gateways.md#another-gateway).

"""
_CHANNELS = {"sms": "texts", "email": "e-mails"}
_COLUMNS = (
    "gateway",
    "sends",
    "settings",
    "credentials",
    "extra",
    "can be asked about a message",
    "callbacks",
)


def page() -> str:
    """The gateways in a table: what each sends, needs, answers and is called with."""
    return HEAD + table(_COLUMNS, [_line(gateway) for gateway in gateways().values()])


def _line(gateway: type[Gateway]) -> tuple[str, ...]:
    names = gateway.settings_model.model_fields
    settings = [f"[{code(name)}](settings.md#{name})" for name in names]
    methods = " or ".join(sorted(gateway.methods))
    return (
        code(gateway.name) + (" (dry run)" if gateway.name == DRY_RUN else ""),
        ", ".join(_CHANNELS[channel] for channel in gateway.channels),
        ", ".join(settings),
        ", ".join(map(code, gateway.credentials)),
        code(gateway.extra) if gateway.extra else "",
        gateway.looks_up,
        f"{methods} {code(f'/{gateway.name}/…')}",
    )
