"""A scoring service in this process, and versions of a model to swap between."""

import asyncio
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from usergrowth_dagster.control.model_digests import keep_digest
from usergrowth_dagster.control.service_tokens import add_token
from usergrowth_dagster.learning.artifacts import folder_digest
from usergrowth_dagster.learning.store import DIGEST, ModelRef, add_version, client
from usergrowth_dagster.learning.trusted import MODEL_FILE, load_trusted
from usergrowth_dagster.monitoring.process_figures import new_registry
from usergrowth_dagster.monitoring.scoring_figures import ScoringFigures
from usergrowth_dagster.project import Project
from usergrowth_dagster.serve.scoring.app import App
from usergrowth_dagster.serve.scoring.running import Wanted, Watch, build, server_of
from usergrowth_dagster.settings import load_settings


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Service:
    """A running service and how to call it."""

    project: Project
    port: int
    tokens: dict[str, str]
    app: App
    watch: Watch
    registry: Any

    def call(
        self, path: str, document: Any = None, token: str | None = "churn", **headers: str
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, document and headers of the answer to a request."""
        body = (
            document
            if isinstance(document, bytes) or document is None
            else json.dumps(document).encode()
        )
        sent = {"Content-Type": "application/json", **headers}
        if token is not None:
            sent["Authorization"] = self.tokens.get(token, token)
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, sent)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read()), answer.headers
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read()), error.headers

    def figure(self, name: str, **labels: str) -> float:
        """A figure as Prometheus reads it."""
        return float(self.registry.get_sample_value(name, labels) or 0.0)


@contextmanager
def running(home: Path, **wanted: Any) -> Iterator[Service]:
    """A service of a home; it looks at the registry when ``watch.look`` is called, and at first."""
    project, port = Project(load_settings(home)), free_port()
    tokens = {
        name: add_token(project.store, name, "test", "test")
        for name in ("churn", "winback", "recommend")
    }
    asked, registry = Wanted(port=port, every=3600.0, **wanted), new_registry()
    with ExitStack() as stack:
        stack.callback(project.store.close)
        app, watch = build(project, asked, ScoringFigures(registry), stack)
        stack.callback(watch.close)
        loop, server = asyncio.new_event_loop(), server_of(app, asked)

        def serve() -> None:
            asyncio.set_event_loop(loop)
            loop.run_until_complete(server.serve())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        service = Service(project, port, tokens, app, watch, registry)
        try:
            until_ready(service)
            yield service
        finally:
            loop.call_soon_threadsafe(server.stop)
            thread.join(timeout=30)


def until_ready(service: Service, seconds: float = 600.0) -> None:
    """Wait until a version of every service that was asked for is loaded and warm."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if service.call("/v2/health/ready", token=None)[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise TimeoutError("the service is not ready")


def add_shifted(
    project: Project, ref: ModelRef, shift: float, status: str = "approved"
) -> ModelRef:
    """Register a copy of a version that learned a week more, with its log-odds shifted."""
    import numpy as np
    import skops.io

    made = client(project.settings)
    with TemporaryDirectory() as folder:
        path = Path(made.download_artifacts(ref.run_id, "model", folder))
        model = load_trusted(path, "copy")
        model.knots = (np.array([-14.0, 14.0]), np.array([-14.0, 14.0]) + shift)
        skops.io.dump(model, path / MODEL_FILE)
        run = made.create_run(made.get_run(ref.run_id).info.experiment_id)
        made.log_artifacts(run.info.run_id, str(path), "model")
        digest = folder_digest(path)
    keep_digest(project.store, run.info.run_id, digest)
    learned = ref.last_label_day + timedelta(days=1)
    tags = {name: str(getattr(ref, name)) for name in ("config_hash", "champion", "gates")}
    tags |= {"last_label_day": str(learned), "fit_last_label_day": str(learned), DIGEST: digest}
    tags |= {"execution_date": str(ref.execution_date), "status": status}
    tags |= {"fingerprint": f"{ref.fingerprint}{shift}"}
    return replace(
        add_version(made, project.settings, ref.name, run.info.run_id, tags), digest=digest
    )
