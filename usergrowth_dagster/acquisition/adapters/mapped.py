"""An exchange's JSON by a mapping file, ``<home>/rta/<name>.yml``; its address is ``/rta/<name>``.

    request:
      id: req.id
      experiments: req.exps
      ping: {path: req.type, equals: ping}
      devices:
        - {path: device.oaid_md5, kind: oaid, hashed: true}
        - {path: device.idfa, kind: idfa}
    response:
      accept: {id: $id, code: 0, strategies: $strategies, ttl: $cache_seconds}
      reject: {id: $id, code: 1, ttl: $cache_seconds}
      pong: {id: $id, code: 0}

A path names keys from the outside in. In an answer ``$id``, ``$strategies`` (their ids),
``$factor`` (null where none is named), ``$cache_seconds`` and ``$milliseconds`` stand for their
values; anything else is sent as it stands. Numbers where texts are wanted are taken as texts.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from usergrowth_dagster.acquisition.adapters.base import Ask, MalformedError, Reply
from usergrowth_dagster.acquisition.decide import Decision
from usergrowth_dagster.acquisition.definition import Keys
from usergrowth_dagster.acquisition.devices import Device, Kind, device, hashed
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.yaml_file import explain, read_mapping, read_text

FOLDER = "rta"
"""Folder of a home with its mapping files."""

VALUES = ("$id", "$strategies", "$factor", "$cache_seconds", "$milliseconds")
_PATH = r"^[^.\s]+(\.[^.\s]+)*$"


class MappedId(Keys):
    """Where one id of the device is."""

    path: str = Field(pattern=_PATH)
    kind: Kind
    hashed: bool = Field(False, description="whether it is an MD5 already")


class MappedPing(Keys):
    """What makes a request a ping."""

    path: str = Field(pattern=_PATH)
    equals: str | int | bool


class MappedRequest(Keys):
    """Where the parts of a request are."""

    id: str | None = Field(None, pattern=_PATH)
    experiments: str | None = Field(None, pattern=_PATH, description="of one, or a list of them")
    ping: MappedPing | None = None
    devices: tuple[MappedId, ...] = Field(min_length=1)


class MappedResponse(Keys):
    """The answers."""

    accept: Mapping[str, Any]
    reject: Mapping[str, Any]
    pong: Mapping[str, Any] = Field(default_factory=dict)

    @field_validator("accept", "reject", "pong")
    @classmethod
    def _values_are_known(cls, template: Mapping[str, Any]) -> Mapping[str, Any]:
        for one in _texts_of(template):
            if one.startswith("$") and one not in VALUES:
                raise ValueError(f"{one} stands for nothing; there are {', '.join(VALUES)}")
        return template


class Exchange(Keys):
    """A mapping file of an exchange."""

    request: MappedRequest
    response: MappedResponse


class Mapped:
    """The adapter of a mapping file.

    Args:
        name: of the exchange.
        mapping: the file.
    """

    content_type = "application/json"

    def __init__(self, name: str, mapping: Exchange) -> None:
        self.name, self._mapping = name, mapping
        self.shed = self._reply(mapping.response.reject, Ask("", ()), None, 0)

    def read(self, content: bytes) -> Ask:
        """What a body asks.

        Raises:
            MalformedError: it is no JSON object, or a part of it is no text.
        """
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            raise MalformedError("the body is no JSON") from None
        if not isinstance(document, dict):
            raise MalformedError("the body is no JSON object")
        request = self._mapping.request
        listed = _at(document, request.experiments)
        experiments = listed if isinstance(listed, list) else [listed]
        ping = request.ping
        return Ask(
            _text(_at(document, request.id)),
            self._devices(document),
            [_text(one) for one in experiments if one is not None],
            ping is not None and _at(document, ping.path) == ping.equals,
        )

    def pong(self, ask: Ask) -> Reply:
        """The answer to a ping."""
        return self._reply(self._mapping.response.pong, ask, None, 0)

    def write(self, ask: Ask, decision: Decision, milliseconds: int) -> Reply:
        """The answer."""
        response = self._mapping.response
        template = response.accept if decision.accept else response.reject
        return self._reply(template, ask, decision, milliseconds)

    def _devices(self, document: Mapping[str, Any]) -> Sequence[Device]:
        read = []
        for one in self._mapping.request.devices:
            if value := _text(_at(document, one.path)):
                read.append(device(one.kind, value if one.hashed else hashed(one.kind, value)))
        return [one for one in read if one is not None]

    def _reply(
        self, template: Mapping[str, Any], ask: Ask, decision: Decision | None, milliseconds: int
    ) -> Reply:
        values = {
            "$id": ask.id,
            "$strategies": [one.id for one in decision.hits] if decision else [],
            "$factor": decision.factor if decision else None,
            "$cache_seconds": decision.cache_seconds if decision else 0,
            "$milliseconds": milliseconds,
        }
        return Reply(200, json.dumps(_filled(template, values), separators=(",", ":")).encode())


def read_mapped(folder: Path, taken: Sequence[str]) -> list[Mapped]:
    """The adapters of a folder's mapping files; none where there is no folder.

    Args:
        folder: of the files.
        taken: names that are given already.

    Raises:
        UserError: a file breaks its format, or has the name of another adapter.
    """
    return [_read_one(path, taken) for path in sorted(folder.glob("*.yml"))]


def _read_one(path: Path, taken: Sequence[str]) -> Mapped:
    if path.stem in taken:
        raise UserError(
            f"{path}: {path.stem} is read without a file; give this one another name",
            code="acquisition.invalid",
        )
    try:
        mapping = Exchange.model_validate(read_mapping(read_text(path), str(path)))
    except ValidationError as error:
        raise UserError(
            str(explain(error, Exchange, str(path))), code="acquisition.invalid"
        ) from None
    return Mapped(path.stem, mapping)


def _at(document: Any, path: str | None) -> Any:
    """The value at a path; None where there is none."""
    if path is None:
        return None
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _text(value: Any) -> str:
    """A value as a text; empty for none.

    Raises:
        MalformedError: it is an object, a list or a truth value.
    """
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise MalformedError("a part of the body is no text")
    return str(value)


def _filled(template: Any, values: Mapping[str, Any]) -> Any:
    """A template with values for what stands for them."""
    if isinstance(template, Mapping):
        return {name: _filled(one, values) for name, one in template.items()}
    if isinstance(template, list):
        return [_filled(one, values) for one in template]
    return values.get(template, template) if isinstance(template, str) else template


def _texts_of(template: Any) -> list[str]:
    """Every text of a template, keys apart."""
    if isinstance(template, str):
        return [template]
    if isinstance(template, Mapping):
        template = list(template.values())
    return (
        [text for part in template for text in _texts_of(part)]
        if isinstance(template, list)
        else []
    )
