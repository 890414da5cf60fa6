"""Scoring many people beside the champion's bare predict on flat rows, and one over HTTP's door."""

import asyncio
import http.client
import json
import os
import pickle
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import loopback
import numpy as np
import pyarrow as pa
from learned import make_learned
from measured import ROOT, Row, Size, Used, python

from usergrowth_dagster.learning.artifacts import LoadedModel
from usergrowth_dagster.learning.encoding import flat_frame
from usergrowth_dagster.learning.scoring import score
from usergrowth_dagster.learning.store import ModelRef
from usergrowth_dagster.learning.training import train
from usergrowth_dagster.settings import Settings, load_settings
from usergrowth_dagster.training.features import bind_table
from usergrowth_dagster.warehouse.engine import open_engine

WORLDS: dict[Size, tuple[int, int, int]] = {
    "tiny": (300, 120, 3_000),
    "normal": (1_000, 150, 1_000_000),
    "full": (1_000, 150, 10_000_000),
}
"""Users and days that the champion learns from, and people to score."""
ASKED = {"tiny": 50, "normal": 1_000, "full": 1_000}
"""Requests of one row to the scoring service."""
LIMIT = "1GB"
BENCHMARKS = ROOT / "benchmarks"


def measure(size: Size, work: Path) -> Iterator[Row]:
    """Five rows; the scores must be equal."""
    users, days, people = WORLDS[size]
    kind, features = _prepare(work, users, days, people)
    many, few = (_run(work, "score", name) for name in ("many", "few"))
    bare = _run(work, "predict", "many")
    assert isinstance(many.answer, dict) and isinstance(bare.answer, dict)
    mine, theirs = (np.load(work / f"{name}.npy") for name in ("score-many", "predict-many"))
    assert np.array_equal(np.sort(mine), np.sort(theirs)), "the scores are not those of predict"
    what = f"{people:,} people by the champion ({kind}, {features} features)"
    yield Row(
        f"scoring {what}",
        "its bare predict on flat rows in memory",
        many.answer["cpu"],
        bare.answer["cpu"],
        "≤ 1.3×",
        1.3,
        "slower",
        "s CPU",
        note="ours reads columns and maps of features from Parquet, checks and flattens them",
    )
    yield Row(
        f"peak memory of scoring {people:,} people",
        f"scoring {people // 10:,} people",
        many.peak,
        few.peak,
        "≤ 1.3×",
        1.3,
        "slower",
        "MB",
        note=f"memory_limit {LIMIT}, which the fewer people do not fill",
    )
    asked = _run(work, "ask", "few", ASKED[size]).answer
    assert isinstance(asked, dict)
    yield Row(
        f"one row of JSON by the champion ({kind}, {features} features) over the scoring service",
        "–",
        asked["cpu"] * 1000,
        None,
        "≤ 1 ms CPU",
        1.0,
        "amount",
        "ms CPU",
        note="token, JSON, features, score, figures and answer; without the server's own work",
    )
    yield Row(
        "the same over loopback, in the service's whole process",
        "–",
        _over_loopback(work, ASKED[size]) * 1000,
        None,
        "≤ 1 ms CPU",
        1.0,
        "amount",
        "ms CPU",
        note="with HTTP, over one connection that stays open",
    )


def _prepare(work: Path, users: int, days: int, people: int) -> tuple[str, int]:
    """Train a champion, and write the features of many people; kind and number of features."""
    world = make_learned(work / "home", users, days)
    with open_engine(world.settings) as engine:
        bind_table(engine, world.project, "churn_training", world.days)
        job = (engine, "churn_training", world.config, world.execution_date, world.settings)
        found = train(*job)
        fitted = found.models["lightgbm"]
        (work / "model.pickle").write_bytes(pickle.dumps((fitted.model, found.spec)))
        bind_table(engine, world.project, "user_features", world.days)
        known = int(engine.value("select count(*) from user_features"))
        engine.run(
            "create table numbered as select *, row_number() over () - 1 as n from user_features"
        )
        for name, rows in (("many", people), ("few", people // 10)):
            engine.run(
                f'copy (select r.i as "row", f.* exclude (n, user_id), concat(f.user_id, r.i) '
                f"as user_id from range({rows}) as r(i) inner join numbered as f "
                f"on f.n = r.i % {known}) to '{work / name}.parquet' (row_group_size 20480)"
            )
    return fitted.kind, len(found.spec.features)


def _run(work: Path, what: str, name: str, rows: int = 0) -> Used:
    """Score, predict or ask in a process of its own."""
    return python(Path(__file__), str(work), what, name, str(rows), PYTHONPATH=str(BENCHMARKS))


def _ask(work: Path, name: str, rows: int) -> None:
    """Ask the scoring service for one row at a time; prints the CPU seconds of a request."""
    with ExitStack() as stack:
        app, token, settings = _service(work, stack)
        bodies = _bodies(work, name, rows)
        cpu, scores = asyncio.run(_asked(app, token, bodies))
        model, spec = pickle.loads((work / "model.pickle").read_bytes())
        engine = stack.enter_context(open_engine(settings))
        engine.run(f"create view asked as select * from '{work / name}.parquet' limit {rows}")
        loaded = LoadedModel(reference(), model, spec)
        right = score(engine, loaded, "asked").sort_by("row").column("score").to_pylist()
    mine = [score for _, score in sorted(scores)]
    assert np.allclose(mine, right, rtol=0, atol=1e-9), "the service's scores are others"
    np.save(work / "asked.npy", np.array([score for _, score in scores]))
    print(json.dumps({"cpu": cpu}))


def _over_loopback(work: Path, rows: int) -> float:
    """CPU seconds of a request in a process that serves; the scores are those of :func:`_ask`."""
    port = loopback.free_port()
    command = [sys.executable, str(Path(__file__)), str(work), "serve", "few", str(port)]
    server = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(BENCHMARKS)}, cwd=ROOT)
    try:
        loopback.wait_for(port)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        headers = {
            "Authorization": (work / "token").read_text(),
            "Content-Type": "application/json",
        }
        bodies, scores = _bodies(work, "few", rows), []
        for number, (_, body) in enumerate([*bodies[:20], *bodies]):
            if number == 20:  # it is warm
                before = loopback.cpu(server.pid)
            connection.request("POST", "/api/predict/churn", body, headers)
            answer = connection.getresponse()
            said = json.loads(answer.read())
            assert answer.status == 200, said
            scores.append(said[0]["p_1"])
        taken = loopback.cpu(server.pid) - before
        connection.close()
    finally:
        server.terminate()
        server.wait(timeout=60)
    right = np.load(work / "asked.npy")
    assert np.allclose(scores[20:], right, rtol=0, atol=1e-12), "scores over loopback are others"
    return taken / rows


def _serve(work: Path, port: int) -> None:
    """Serve until a signal to end; the file ``token`` has the token."""
    from usergrowth_dagster.serve.scoring.running import Wanted, server_of

    async def run(app: Any) -> None:
        server = server_of(app, Wanted(port=port))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stop)
        await server.serve()

    with ExitStack() as stack:
        app, token, _ = _service(work, stack)
        (work / "token").write_text(token)
        asyncio.run(run(app))


def _service(work: Path, stack: ExitStack) -> tuple[Any, str, Settings]:
    """The application with the champion, and a token of it."""
    from usergrowth_dagster.control.service_tokens import add_token, read_tokens
    from usergrowth_dagster.monitoring.process_figures import new_registry
    from usergrowth_dagster.monitoring.scoring_figures import ScoringFigures
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.serve.scoring.app import App
    from usergrowth_dagster.serve.scoring.callers import Pace, Tokens
    from usergrowth_dagster.serve.scoring.row_scores import RowScorer
    from usergrowth_dagster.serve.scoring.services import Pair, Served, Services
    from usergrowth_dagster.serve.scoring.shadow import Shadow
    from usergrowth_dagster.serve.scoring.stored import StoredFeatures

    model, spec = pickle.loads((work / "model.pickle").read_bytes())
    loaded = LoadedModel(reference(), model, spec)
    project = Project(load_settings(work / "home", memory_limit=LIMIT))
    services, tokens = Services(project), Tokens()
    services.hold("churn", Pair(Served("churn", 1, RowScorer(loaded), "binary", False)))
    token = add_token(project.store, "churn", f"bench-{os.getpid()}", "benchmark")
    tokens.replace(read_tokens(project.store))
    figures = ScoringFigures(new_registry())
    shadow, stored = Shadow(0, figures), StoredFeatures(project, stack)
    app = App(services, tokens, stored, shadow, figures, Pace(0), date.today)
    return app, token, project.settings


def _bodies(work: Path, name: str, rows: int) -> list[tuple[int, bytes]]:
    """The number of a row and the request for it."""
    with duckdb.connect() as connection:
        read = connection.sql(f"select * from '{work / name}.parquet' limit {rows}")
        people = [dict(zip(read.columns, values, strict=True)) for values in read.fetchall()]
    return [(one["row"], json.dumps([one], default=str).encode()) for one in people]


async def _asked(
    app: Callable[..., Any], token: str, bodies: list[tuple[int, bytes]]
) -> tuple[float, list[tuple[int, float]]]:
    """Median CPU seconds of a request, and the score of each row."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/predict/churn",
        "headers": [(b"authorization", token.encode()), (b"content-type", b"application/json")],
    }
    taken, scores = [], []
    for row, body in bodies:
        sent: list[Any] = []

        async def receive(body: bytes = body) -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(part: dict[str, Any], sent: list[Any] = sent) -> None:
            sent.append(part)

        began = time.process_time()
        await app(scope, receive, send)
        taken.append(time.process_time() - began)
        assert sent[0]["status"] == 200, sent[1]["body"]
        scores.append((row, json.loads(sent[1]["body"])[0]["p_1"]))
    return statistics.median(taken), scores


def _child(work: Path, what: str, name: str) -> None:
    """Score or predict, in a process of its own; prints the CPU seconds of the work."""
    model, spec = pickle.loads((work / "model.pickle").read_bytes())
    settings = load_settings(work / "home", memory_limit=LIMIT)
    with open_engine(settings) as engine:
        engine.run(f"create view people as select * from '{work / name}.parquet'")
        if what == "score":
            loaded = LoadedModel(reference(), model, spec)
            began = time.process_time()
            scores = score(engine, loaded, "people").column("score").to_numpy()
            taken = time.process_time() - began
        else:
            types = engine.describe("select * from people")
            parts, taken = [], 0.0
            for batch in engine.stream(f"select {spec.projection(types)} from people", 50_000):
                frame = flat_frame(pa.Table.from_batches([batch]), spec)
                began = time.process_time()
                parts.append(model.predict_proba(frame)[:, 1])
                taken += time.process_time() - began
            scores = np.concatenate(parts)
    np.save(work / f"{what}-{name}.npy", scores)
    print(json.dumps({"cpu": taken}))


def reference() -> ModelRef:
    """A version that no registry holds."""
    day = date(2024, 1, 1)
    tags = ("lightgbm", "approved", "", "")
    return ModelRef("churn", 1, "", "", day, day, day, *tags)


if __name__ == "__main__":
    if sys.argv[2] == "ask":
        _ask(Path(sys.argv[1]), sys.argv[3], int(sys.argv[4]))
    elif sys.argv[2] == "serve":
        _serve(Path(sys.argv[1]), int(sys.argv[4]))
    else:
        _child(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
