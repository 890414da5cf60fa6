"""The registered gateways: which one a channel's messages go to, made on demand.

They are entry points of the group ``usergrowth.gateways``: those of this package in its
``pyproject.toml``, others in the metadata of the packages that bring them.
"""

from collections.abc import Mapping
from functools import cache, lru_cache

from usergrowth_dagster.errors import SetUpError, UserError
from usergrowth_dagster.messaging.gateways.protocol import Gateway
from usergrowth_dagster.plugins import loaded
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.settings.gateways import DRY_RUN, GROUP

CHANNELS: Mapping[str, str] = {"sms": "gateway", "email": "email_gateway"}
"""By channel: the setting that names its gateway."""


@cache
def gateways() -> Mapping[str, type[Gateway]]:
    """The classes of all registered gateways, by name; the dry run first.

    Raises:
        SetUpError: one cannot be loaded, or is not what it is registered as.
    """
    classes: dict[str, type[Gateway]] = dict(loaded(GROUP))
    for name, gateway in classes.items():
        if not (isinstance(gateway, type) and issubclass(gateway, Gateway)):
            raise SetUpError(f"{GROUP}: {name!r} is no gateway class", code="plugin.unusable")
        if gateway.name != name:
            raise SetUpError(
                f"{GROUP}: {name!r} is registered, but its class is named {gateway.name!r}",
                code="plugin.unusable",
            )
        if strange := set(gateway.channels) - set(CHANNELS):
            raise SetUpError(
                f"gateway {name!r}: channel {min(strange)!r} is not known; known are: "
                f"{', '.join(CHANNELS)}",
                code="plugin.unusable",
            )
    return {
        name: classes[name] for name in sorted(classes, key=lambda name: (name != DRY_RUN, name))
    }


def gateway_setting(channel: str) -> str:
    """The setting that names a channel's gateway.

    Raises:
        UserError: the channel is not known.
    """
    if channel not in CHANNELS:
        raise UserError(
            f"channel {channel!r} is not known; known are: {', '.join(CHANNELS)}",
            code="gateway.unknown",
        )
    return CHANNELS[channel]


def make_gateway(settings: Settings, channel: str = "sms") -> Gateway:
    """The gateway that a channel's messages are submitted to.

    Raises:
        UserError: the channel or its gateway is not known, or a setting, a credential or the
            provider's SDK is missing.
    """
    setting = gateway_setting(channel)
    names = [name for name, gateway in gateways().items() if channel in gateway.channels]
    name = getattr(settings, setting)
    if name not in names:
        raise UserError(
            f"setting {setting!r}: {name!r} is not known; known are: {', '.join(names)}",
            code="gateway.unknown",
        )
    return gateways()[name].make(settings)


def gateway_named(settings: Settings, name: str) -> Gateway:
    """A gateway by its own name, such as for the callbacks of a provider that was used before.

    Raises:
        UserError: as :func:`make_gateway`.
    """
    if name not in gateways():
        raise UserError(
            f"gateway {name!r} is not known; known are: {', '.join(gateways())}",
            code="gateway.unknown",
        )
    return gateways()[name].make(settings)


def sends_only_mail(name: str) -> bool:
    """Whether a gateway sends e-mails and nothing else; False for one that is not installed."""
    gateway = gateways().get(name)
    return gateway is not None and gateway.channels == ("email",)


@lru_cache(maxsize=4096)
def is_personal(code: str) -> bool:
    """Whether a provider's code belongs to one person: their number, or their refusal.

    >>> is_personal("21610"), is_personal("550 5.1.1"), is_personal("30034")
    (True, True, False)
    """
    return any(gateway.is_personal(code) for gateway in gateways().values())
