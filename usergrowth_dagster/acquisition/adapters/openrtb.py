"""The little of OpenRTB 2.6 that a yes or no needs: the device's ids in, a bid's factor or 204 out.

Ids are ``device.ifa`` (plain; the IDFA of iOS, else the OAID), ``device.didmd5`` (IMEI) and
``device.dpidmd5`` (Android id). ``lmt`` of 1 says that the person limits tracking: no id is read
then. A request with ``test`` of 1 is answered like any other. An acceptance is a ``BidResponse``
without seats whose ``ext.rta`` has the strategies; a rejection is 204 without a body.
"""

import json
from typing import Any

from usergrowth_dagster.acquisition.adapters.base import Ask, MalformedError, Reply, text
from usergrowth_dagster.acquisition.decide import Decision
from usergrowth_dagster.acquisition.devices import Device, device, hashed

_REJECTED = Reply(204, b"")


class OpenRtb:
    """The adapter."""

    name = "openrtb"
    content_type = "application/json"
    shed = _REJECTED

    def read(self, content: bytes) -> Ask:
        """What a body asks.

        Raises:
            MalformedError: it is no ``BidRequest``.
        """
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            raise MalformedError("the body is no JSON") from None
        if not isinstance(document, dict) or not isinstance(document.get("id"), str):
            raise MalformedError("the body is no BidRequest with an id")
        sent = document.get("device", {})
        if not isinstance(sent, dict):
            raise MalformedError("device is no object")
        return Ask(document["id"], _devices(sent))

    def pong(self, ask: Ask) -> Reply:
        """OpenRTB has no ping."""
        return _REJECTED

    def write(self, ask: Ask, decision: Decision, milliseconds: int) -> Reply:
        """The answer."""
        if not decision.accept:
            return _REJECTED
        said: dict[str, Any] = {"strategies": [one.id for one in decision.hits]}
        if decision.factor is not None:
            said["factor"] = decision.factor
        said["cache_seconds"] = decision.cache_seconds
        document = {"id": ask.id, "ext": {"rta": said}}
        return Reply(200, json.dumps(document, separators=(",", ":")).encode())


def _devices(sent: dict[str, Any]) -> list[Device]:
    if sent.get("lmt") == 1:
        return []
    read: list[Device | None] = []
    if advertising := text(sent, "ifa"):
        kind: Any = "idfa" if text(sent, "os").lower() in ("ios", "ipados") else "oaid"
        read.append(device(kind, hashed(kind, advertising)))
    read.append(device("imei", text(sent, "didmd5")))
    read.append(device("android_id", text(sent, "dpidmd5")))
    return [one for one in read if one is not None]
