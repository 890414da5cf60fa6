"""The generic JSON shape: ids with their type and hashing, answered with the accepting strategies.

    {"reqId": "r1", "rtaIds": ["lapsed"], "expIds": ["101"],
     "dids": [{"type": "OAID", "secure": "MD5", "did": "5d41402abc4b2a76b9719d911017c592"}]}

It is that of several exchanges. ``rtaIds`` and ``expIds`` may be missing, and ``secure`` says that
an id is hashed; without it the id is plain. ``factor`` is there where a strategy has one.
"""

import json
from typing import Any

from usergrowth_dagster.acquisition.adapters.base import Ask, MalformedError, Reply, text
from usergrowth_dagster.acquisition.decide import Decision
from usergrowth_dagster.acquisition.devices import KINDS, Device, Kind, device, hashed

MOST_IDS = 10
"""Ids of one request."""
_KINDS: dict[str, Kind] = {kind: kind for kind in KINDS} | {"androidid": "android_id"}


class Generic:
    """The adapter."""

    name = "json"
    content_type = "application/json"
    shed = Reply(200, b'{"result":{"success":true,"data":[]}}')

    def read(self, content: bytes) -> Ask:
        """What a body asks.

        Raises:
            MalformedError: it is no such JSON.
        """
        document = _object(content)
        targets, sent = _texts(document, "rtaIds"), document.get("dids", [])
        if not isinstance(sent, list) or len(sent) > MOST_IDS:
            raise MalformedError(f"dids is no list of at most {MOST_IDS} ids")
        return Ask(
            text(document, "reqId"),
            [one for one in map(_device, sent) if one is not None],
            _texts(document, "expIds"),
            document.get("ping") is True,
            frozenset(targets) if "rtaIds" in document else None,
        )

    def pong(self, ask: Ask) -> Reply:
        """A sign of life."""
        return _reply({"reqId": ask.id, "result": {"success": True, "data": []}})

    def write(self, ask: Ask, decision: Decision, milliseconds: int) -> Reply:
        """The answer; a rejection has no strategy."""
        data: list[dict[str, Any]] = []
        for one in decision.hits:
            named = decision.factor is not None and one.factor is not None
            data.append({"rtaId": one.id, **({"factor": one.factor} if named else {})})
        result = {"success": True, "data": data, "cacheSeconds": decision.cache_seconds}
        return _reply({"reqId": ask.id, "result": result})


def _reply(document: Any) -> Reply:
    return Reply(200, json.dumps(document, separators=(",", ":")).encode())


def _object(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise MalformedError("the body is no JSON") from None
    if not isinstance(document, dict):
        raise MalformedError("the body is no JSON object")
    return document


def _texts(document: dict[str, Any], name: str) -> list[str]:
    values = document.get(name, [])
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise MalformedError(f"{name} is no list of texts")
    return values


def _device(sent: Any) -> Device | None:
    """An id; None of a kind that is not known here, or without a value."""
    if not isinstance(sent, dict):
        raise MalformedError("one of dids is no object")
    kind = _KINDS.get(text(sent, "type").lower())
    value, secure = text(sent, "did"), text(sent, "secure").upper()
    if kind is None or not value:
        return None
    if secure not in ("", "MD5"):
        return None
    return device(kind, value if secure else hashed(kind, value))
