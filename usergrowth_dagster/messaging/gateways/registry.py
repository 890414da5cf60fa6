"""Gateways by name: which one a channel's messages go to, made on demand."""

from collections.abc import Callable, Mapping

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.gateways.protocol import Gateway
from usergrowth_dagster.settings import Settings


def _file(settings: Settings) -> Gateway:
    from usergrowth_dagster.messaging.gateways.file import FileGateway

    return FileGateway(settings.home)


def _aliyun(settings: Settings) -> Gateway:
    from usergrowth_dagster.messaging.gateways.aliyun import AliyunGateway

    return AliyunGateway(settings)


def _twilio(settings: Settings) -> Gateway:
    from usergrowth_dagster.messaging.gateways.twilio import TwilioGateway

    return TwilioGateway(settings)


def _kannel(settings: Settings) -> Gateway:
    from usergrowth_dagster.messaging.gateways.kannel import KannelGateway

    return KannelGateway(settings)


def _smtp(settings: Settings) -> Gateway:
    from usergrowth_dagster.messaging.gateways.smtp import SmtpGateway

    return SmtpGateway(settings)


def _webhook(settings: Settings) -> Gateway:
    from usergrowth_dagster.messaging.gateways.webhook import WebhookGateway

    return WebhookGateway(settings)


_MAKERS: Mapping[str, Callable[[Settings], Gateway]] = {
    "file": _file,
    "aliyun": _aliyun,
    "twilio": _twilio,
    "kannel": _kannel,
    "smtp": _smtp,
    "webhook": _webhook,
}
CHANNELS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "sms": ("gateway", ("file", "aliyun", "twilio", "kannel", "webhook")),
    "email": ("email_gateway", ("file", "smtp", "webhook")),
}
"""By channel: the setting that names its gateway, and the gateways that it may name."""


def make_gateway(settings: Settings, channel: str = "sms") -> Gateway:
    """The gateway that a channel's messages are submitted to.

    Raises:
        UserError: the channel or its gateway is not known, or a setting, a credential or the
            provider's SDK is missing.
    """
    if channel not in CHANNELS:
        raise UserError(
            f"channel {channel!r} is not known; known are: {', '.join(CHANNELS)}",
            code="channel.unknown",
        )
    setting, names = CHANNELS[channel]
    name = getattr(settings, setting)
    if name not in names:
        raise UserError(
            f"setting {setting!r}: {name!r} is not known; known are: {', '.join(names)}",
            code="gateway.unknown",
        )
    return _MAKERS[name](settings)


def gateway_named(settings: Settings, name: str) -> Gateway:
    """A gateway by its own name, such as for the callbacks of a provider that was used before.

    Raises:
        UserError: as :func:`make_gateway`.
    """
    if name not in _MAKERS:
        raise UserError(
            f"gateway {name!r} is not known; known are: {', '.join(_MAKERS)}",
            code="gateway.unknown",
        )
    return _MAKERS[name](settings)
