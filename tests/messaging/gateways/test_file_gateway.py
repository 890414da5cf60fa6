"""The dry-run file under the suite of all gateways."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from conformance import Case, Conformance, Mood

from usergrowth_dagster.messaging.gateways.file import FileGateway
from usergrowth_dagster.messaging.gateways.protocol import Callback, OutBatch, Result
from usergrowth_dagster.messaging.gateways.registry import make_gateway
from usergrowth_dagster.settings import Settings


class FileCase(Case):
    def __init__(self, settings: Settings) -> None:
        self.lacks = {mood: "a file only takes" for mood in Mood if mood is not Mood.TAKE}
        self.settings = settings
        gateway = make_gateway(settings)
        assert isinstance(gateway, FileGateway)
        self.gateway: FileGateway = gateway

    def patient(self) -> FileGateway:
        return self.gateway

    def lines(self) -> list[dict[str, Any]]:
        return [
            json.loads(line)
            for path in self.gateway.outbox.rglob("*.jsonl")
            for line in path.read_text("utf-8").splitlines()
        ]

    def set_mood(self, mood: Mood, address: str | None = None) -> None:
        assert mood is Mood.TAKE

    def taken(self) -> Sequence[str]:
        return [line["phone"] for line in self.lines()]

    attempts = taken

    def contents(self) -> Mapping[str, str]:
        return {line["phone"]: line["text"] for line in self.lines()}

    def facts(self) -> Mapping[str, Mapping[str, Any]]:
        names = ("template_code", "subject", "params")
        return {line["phone"]: {name: line[name] for name in names} for line in self.lines()}

    def unreachable(self) -> None:
        return None

    def report(
        self, batch: OutBatch, results: Sequence[Result], delivered: Mapping[str, bool]
    ) -> Sequence[Callback]:
        entries = [
            {"out_id": out_id, "success": good, "err_code": "" if good else "X"}
            for out_id, good in delivered.items()
        ]
        return [Callback(json.dumps(entries).encode())]

    def garbage(self) -> Sequence[Callback]:
        return [Callback(b'[{"success": true}]'), Callback(b'[{"out_id": "1", "success": 1}]')]


@pytest.fixture
def case(settings: Settings) -> Case:
    return FileCase(settings)


class TestFile(Conformance):
    """The suite of all gateways; the fixture ``case`` is this module's."""
