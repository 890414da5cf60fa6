"""Snapshots made by hand, and a service in this process that answers by them."""

import asyncio
import http.client
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from support.patience import PATIENCE
from support.scoring_service import free_port
from usergrowth_dagster.acquisition.answering import Answering
from usergrowth_dagster.acquisition.decide import Decider
from usergrowth_dagster.acquisition.definition import Acquisition
from usergrowth_dagster.acquisition.devices import Device, Kind
from usergrowth_dagster.acquisition.snapshot import ACTIVE, Column, Known, write_snapshot
from usergrowth_dagster.monitoring.process_figures import new_registry
from usergrowth_dagster.monitoring.rta_figures import RtaFigures
from usergrowth_dagster.serve.rta.app import App, Limits
from usergrowth_dagster.serve.rta.running import Wanted, server_of


def policy(**keys: Any) -> Acquisition:
    """A policy with one strategy for new devices, and other keys as given."""
    base: dict[str, Any] = {
        "salt": "s",
        "ids": {"oaid": "oaid"},
        "score": {"question": "winback"},
        "strategies": [{"name": "new", "device": "unknown"}],
    }
    return Acquisition.model_validate(base | keys)


def today() -> date:
    """The day of a fresh snapshot."""
    return datetime.now(UTC).date()


def write(folder: Path, known: Mapping[Device, Known], day: date | None = None) -> Path:
    """A snapshot of these devices."""
    import numpy as np

    columns: dict[Kind, Column] = {}
    for kind in dict.fromkeys(device.kind for device in known):
        rows = sorted((one.key, known[one]) for one in known if one.kind == kind)
        scores = [float("nan") if one.score is None else one.score for _, one in rows]
        columns[kind] = Column(
            np.array([key for key, _ in rows], np.uint64),
            np.array(scores, np.float32),
            np.array([ACTIVE if one.active else 0 for _, one in rows], np.uint8),
        )
    return write_snapshot(folder, day or today(), columns)


@dataclass
class Service:
    """A running service and how to call it."""

    port: int
    answering: Answering
    registry: Any
    app: App

    def post(self, path: str, body: bytes, **headers: str) -> tuple[int, bytes]:
        """Status and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def figure(self, outcome: str, exchange: str = "tencent") -> float:
        """Answers of an outcome."""
        labels = {"exchange": exchange, "outcome": outcome}
        return float(self.registry.get_sample_value("usergrowth_rta_answers_total", labels) or 0)


@contextmanager
def running(
    folder: Path, rules: Acquisition, limits: Limits | None = None, keep: Any = None
) -> Iterator[Service]:
    """A service of a folder of snapshots; a machine under load is given seconds for an answer."""
    registry, answering = new_registry(), Answering(folder)
    answering.look()
    port = free_port()
    app = App(
        Decider(rules, answering),
        RtaFigures(registry),
        limits or Limits(budget_seconds=30),
        keep,
    )
    loop, server = asyncio.new_event_loop(), server_of(app, Wanted(port=port))

    def serve() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(server.serve())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    service = Service(port, answering, registry, app)
    try:
        _until_listening(service)
        yield service
    finally:
        answering.close()
        loop.call_soon_threadsafe(server.stop)
        thread.join(timeout=30)


def _until_listening(service: Service) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            service.post("/health", b"")
            return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError("the service does not listen")
