"""What an exchange's request says, and the interface of what reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from usergrowth_dagster.acquisition.decide import Decision
from usergrowth_dagster.acquisition.devices import Device


class MalformedError(ValueError):
    """A request that is none of the exchange's; the text is for a log and holds nothing of it."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request.

    Attributes:
        id: the exchange's, to be repeated.
        devices: ids of the device.
        experiments: ids of the exchange's experiments.
        ping: whether it only asks for a sign of life.
        targets: ids of the strategies that are asked about; None: all.
    """

    id: str
    devices: Sequence[Device]
    experiments: Sequence[str] = ()
    ping: bool = False
    targets: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer."""

    status: int
    content: bytes


class Adapter(Protocol):
    """The shape of one exchange's requests and answers.

    Attributes:
        name: in figures and logs.
        content_type: of the answers.
        shed: the rejection of a request that is not read, since there are too many.
    """

    name: str
    content_type: str
    shed: Reply

    def read(self, content: bytes) -> Ask:
        """What a body asks.

        Raises:
            MalformedError: it is none of this shape.
        """
        ...

    def pong(self, ask: Ask) -> Reply:
        """The answer to a ping."""
        ...

    def write(self, ask: Ask, decision: Decision, milliseconds: int) -> Reply:
        """The answer.

        Args:
            ask: the request.
            decision: on it.
            milliseconds: that it took.
        """
        ...


def text(values: Mapping[str, Any], name: str) -> str:
    """A text of a JSON object; empty where it is missing.

    Raises:
        MalformedError: it is something else.
    """
    value = values.get(name, "")
    if not isinstance(value, str):
        raise MalformedError(f"{name} is no text")
    return value
