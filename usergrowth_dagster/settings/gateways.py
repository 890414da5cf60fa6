"""Settings that gateways bring along, and the name of the one that everything starts with."""

from collections.abc import Iterator
from typing import Any, Self, cast

from pydantic import BaseModel, ConfigDict

from usergrowth_dagster.plugins import loaded

GROUP = "usergrowth.gateways"
"""The group of entry points that gateways are registered in."""
DRY_RUN = "file"
"""The gateway that writes messages down and sends nothing: the default of every channel."""


class GatewaySettings(BaseModel):
    """The settings of one gateway.

    A gateway subclasses it. Its fields become settings of the product under their own names: the
    field ``pigeon_url`` is a line ``pigeon_url = …`` of the settings file and the variable
    ``USERGROWTH_PIGEON_URL``.
    """

    model_config = ConfigDict(frozen=True)

    @classmethod
    def of(cls, settings: BaseModel) -> Self:
        """The gateway's part of a home's settings, which were validated when they were read."""
        values: dict[str, Any] = {
            name: getattr(settings, name) for name in cls.model_fields if hasattr(settings, name)
        }
        return cast(Self, cls.model_construct(**values))


def gateway_settings() -> Iterator[tuple[str, type[GatewaySettings]]]:
    """The registered gateways' names and settings.

    Raises:
        SetUpError: a gateway cannot be loaded.
    """
    for name, gateway in loaded(GROUP).items():
        yield name, gateway.settings_model
