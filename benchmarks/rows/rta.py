"""Decisions of the service that ad exchanges ask, over loopback, while its snapshot is swapped.

Its look-up of a device beside that of SQLite: a file too, whose pages processes share.
"""

import json
import os
import socket
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import loopback
import numpy as np
from measured import ROOT, Row, Size
from numpy.typing import NDArray

from usergrowth_dagster.acquisition.adapters.tencent_pb2 import Request, Response
from usergrowth_dagster.acquisition.devices import Device, hashed
from usergrowth_dagster.acquisition.snapshot import (
    ACTIVE,
    Column,
    Known,
    Snapshot,
    write_snapshot,
)

WORLDS: dict[Size, tuple[int, int]] = {
    "tiny": (5_000, 400),
    "normal": (10_000_000, 40_000),
    "full": (10_000_000, 200_000),
}
"""Keys of the snapshot, and requests."""
CONNECTIONS = 32
ASKED = 1_000
"""Devices that are asked about, in turn; every other one is in the snapshot."""
POLICY = """
salt: bench
ids: {oaid: oaid}
score: {question: winback}
control: {share: 0.0}
log: {share: 0.01}
strategies:
  - {name: active, device: known, active: true, score_at_least: 0.5, factor: 1.5}
  - {name: capped, active: false, score_at_least: 0.1, at_most: {times: 5, seconds: 60}}
"""


def measure(size: Size, work: Path) -> Iterator[Row]:
    """Four rows; each answer must be the right one, before and after the swap."""
    keys, requests = WORLDS[size]
    (work / "acquisition.yml").write_text(POLICY)
    folder = work / "snapshots"
    path = _write(folder, keys, 0.75)
    yield _look_ups(path, keys, work / "devices.sqlite")
    port = loopback.free_port()
    command = [sys.executable, str(Path(__file__)), str(work), str(port)]
    with_path = os.environ | {"PYTHONPATH": str(ROOT / "benchmarks")}
    server = subprocess.Popen(command, env=with_path, cwd=ROOT)
    try:
        loopback.wait_for(port)
        _ask(port, ASKED)  # warms up
        before, started = loopback.cpu(server.pid), time.perf_counter()
        _ask(port, requests)
        wall, cpu = time.perf_counter() - started, loopback.cpu(server.pid) - before
        swapper = subprocess.Popen([*command[:3], "swap", str(keys)], env=with_path, cwd=ROOT)
        _ask(port, requests // 4, swapper)
        assert swapper.wait() == 0
        memory = loopback.memory(server.pid)
    finally:
        server.terminate()
        server.wait(timeout=60)
    what = f"a decision by {keys:,} keys, Tencent's protobuf over loopback"
    yield Row(
        what, "–", cpu / requests * 1e6, None, "≤ 150 µs CPU", 150.0, "amount", "µs CPU",
        note="HTTP, protobuf, look-up, caps, figures and log, in the service's process",
    )  # fmt: skip
    yield Row(
        f"{what}: wall by {CONNECTIONS} connections", "–", wall / requests * 1e6, None,
        "≤ 200 µs (5,000 a second)", 200.0, "amount", "µs",
        note="the client shares the machine; the target is that of an idle one",
    )  # fmt: skip
    yield Row(
        f"memory of the service with {keys:,} keys beyond one snapshot "
        f"({path.stat().st_size / 2**20:,.0f} MB), after a swap",
        "–", memory - path.stat().st_size / 2**20, None, "≤ 200 MB", 200.0, "amount", "MB",
    )  # fmt: skip


def _look_ups(path: Path, keys: int, database: Path) -> Row:
    """Look all devices up in both; what is known of each must be the same."""
    snapshot = Snapshot(path)
    devices = [Device("oaid", hashed("oaid", str(n))) for n in range(ASKED)]
    with closing(sqlite3.connect(database)) as connection:
        _fill(connection, keys)
        query = "select active, score from devices where key = ?"
        mine, ours = _timed(lambda: [snapshot.find(one) for one in devices])
        rivals, theirs = _timed(
            lambda: [connection.execute(query, (one.key - 2**63,)).fetchone() for one in devices]
        )
    assert mine == [one and Known(bool(one[0]), one[1]) for one in rivals], "others are known"
    return Row(
        f"look-up of a device among {keys:,}", "SQLite, integer primary key, warm",
        ours / ASKED * 1e6, theirs / ASKED * 1e6, "≥ 2× faster", 2.0, "faster", "µs CPU",
        note="half of the devices are known; both read a file whose pages processes share",
    )  # fmt: skip


def _fill(connection: sqlite3.Connection, keys: int) -> None:
    """The rows of a snapshot as a table; SQLite's integers are signed."""
    connection.execute("pragma journal_mode = off")
    connection.execute("create table devices (key integer primary key, active, score)")
    numbers = (_keys(keys) ^ np.uint64(1 << 63)).view(np.int64)
    rows = ((int(number), 1, 0.75) for number in numbers)
    connection.executemany("insert into devices values (?, ?, ?)", rows)
    connection.commit()


def _timed(work: Callable[[], list[Any]], times: int = 5) -> tuple[list[Any], float]:
    """What a call returns, and the median of its CPU seconds after one that warms up."""
    returned, taken = work(), []
    for _ in range(times):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return returned, statistics.median(taken)


def _write(folder: Path, keys: int, score: float) -> Path:
    """A snapshot of many keys, all with one score and active."""
    every = _keys(keys)
    scores = np.full(len(every), score, np.float32)
    flags = np.full(len(every), ACTIVE, np.uint8)
    return write_snapshot(folder, datetime.now(UTC).date(), {"oaid": Column(every, scores, flags)})


def _keys(keys: int) -> "NDArray[np.uint64]":
    """So many keys, rising; half of the devices that are asked about are among them."""
    known = np.array([int(hashed("oaid", str(n))[:16], 16) for n in range(0, ASKED, 2)], np.uint64)
    others = np.random.default_rng(7).integers(0, 2**64, keys - len(known), np.uint64)
    return np.unique(np.concatenate([known, others]))


def _ask(port: int, requests: int, swapper: "subprocess.Popen[bytes] | None" = None) -> None:
    """Ask over several connections; goes on until a swap has ended, and a second after it."""
    wrong: list[str] = []

    def run(first: int) -> None:
        try:
            with socket.create_connection(("127.0.0.1", port), 60) as connection:
                sent, end = first, None
                while sent < requests or end is None or time.monotonic() < end:
                    if sent >= requests and (swapper is None or swapper.poll() is not None):
                        end = end or time.monotonic() + (1.0 if swapper else 0.0)
                    accepted = _answer(connection, _MESSAGES[sent % ASKED])
                    if accepted != (sent % ASKED % 2 == 0):
                        wrong.append(f"request {sent}")
                    sent += CONNECTIONS
        except Exception as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(CONNECTIONS)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not wrong, f"{len(wrong)} answers are wrong, the first: {wrong[0]}"


def _message(number: int) -> bytes:
    device = Request.Device(oaid_md5sum=hashed("oaid", str(number)))
    body = Request(id=f"r{number}", device=device).SerializeToString()
    head = f"POST /rta/tencent HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + bytes(body)


_MESSAGES = [_message(number) for number in range(ASKED)]


def _answer(connection: socket.socket, message: bytes) -> bool:
    """Send a request; whether its answer accepts by the strategy of active users alone."""
    connection.sendall(message)
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0], head[:60]
    length = int(head.lower().split(b"content-length:")[1].split()[0])
    while len(body) < length:
        body += _more(connection)
    response = Response.FromString(body)
    assert list(response.out_target_id) == (["active"] if response.code == 0 else [])
    return bool(response.code == 0)


def _more(connection: socket.socket) -> bytes:
    received = connection.recv(65_536)
    assert received, "the service has closed the connection"
    return received


def _serve(work: Path, port: int) -> None:
    """Run the service until it is ended; nothing is late, since a busy machine is slow."""
    import asyncio
    import signal

    from usergrowth_dagster.acquisition.answering import Answering
    from usergrowth_dagster.acquisition.decide import Decider
    from usergrowth_dagster.acquisition.definition import read_acquisition
    from usergrowth_dagster.acquisition.log import DecisionLog
    from usergrowth_dagster.monitoring.process_figures import new_registry
    from usergrowth_dagster.monitoring.rta_figures import RtaFigures
    from usergrowth_dagster.serve.rta.app import App, Limits
    from usergrowth_dagster.serve.rta.running import Wanted, server_of

    policy = read_acquisition(work / "acquisition.yml")
    answering = Answering(work / "snapshots")
    answering.look()
    answering.watch(0.1)
    log = DecisionLog(work / "log", b"k" * 32, policy.log.share, UTC)
    log.watch(1.0)
    figures, limits = RtaFigures(new_registry()), Limits(budget_seconds=60, body_seconds=60)
    app = App(Decider(policy, answering), figures, limits, log.keep)

    async def run() -> None:
        server = server_of(app, Wanted(port=port))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stop)
        await server.serve()

    asyncio.run(run())
    log.close()
    written = sum(1 for _ in (work / "log").rglob("*.parquet"))
    print(json.dumps({"log_files": written}))


if __name__ == "__main__":
    if sys.argv[2] == "swap":
        _write(Path(sys.argv[1]) / "snapshots", int(sys.argv[3]), 0.875)
    else:
        _serve(Path(sys.argv[1]), int(sys.argv[2]))
