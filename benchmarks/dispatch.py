"""Ledgered dispatch against a bare client loop, on one local gateway; memory by campaign size.

Run: .venv/bin/python benchmarks/dispatch.py [--sizes 10000,50000] [--million] [--latency 0,30]

The gateway is the crash test's provider process, without its faults: each call of 100 messages is
written to its file before it is answered. The bare loop renders each text and posts the batches,
with nothing written down; the dispatcher claims, writes ahead, submits and records each message in
a ledger (SQLite with full synchronization by default). Both run in a process of their own on one
core, the gateway on the other where there is one. Sizes are recipients. ``--latency`` is what a
call takes at least, in milliseconds: none, and what a provider in the same country takes. While a
call is out, the dispatcher writes the next one ahead, so the ledger's work hides behind it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CRASH = Path(__file__).parents[1] / "tests" / "crash"
sys.path.insert(0, str(CRASH))

BATCH = 100
TIMEOUT = 30.0


def peak_mebibytes() -> float:
    """Largest resident set of this process so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


def bare(port: int, size: int) -> int:
    """Render and post everything, with nothing written down."""
    from datetime import UTC, datetime

    from gateway_client import HttpGateway
    from worlds import CONTENT

    from usergrowth_dagster.messaging.gateways.protocol import Answer, OutBatch, OutMessage
    from usergrowth_dagster.messaging.texts.content import render

    gateway = HttpGateway(port, "bare", BATCH, TIMEOUT)
    accepted = 0
    for start in range(0, size, BATCH):
        messages = []
        for number in range(start, min(start + BATCH, size)):
            params = {"name": f"客{number}"}
            text = render(CONTENT, params, "示例商店") or ""
            messages.append(
                OutMessage(str(number), f"u{number}", f"+999{number:010d}", text, params)
            )
        results = gateway.submit(
            OutBatch(
                *(str(start), "s", "o", "sms", "示例商店", "T", "promotion"),
                datetime.now(UTC),
                messages,
            )
        )
        accepted += sum(result.answer is Answer.ACCEPTED for result in results)
    return accepted


def ledgered(port: int, home: Path, url: str) -> int:
    """Dispatch the world that lies in a database."""
    from gateway_client import HttpGateway
    from worlds import NOON

    from usergrowth_dagster.control.store import ControlStore
    from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
    from usergrowth_dagster.settings import load_settings

    settings = load_settings(home, database_url=url)
    store = ControlStore(url)
    return dispatch(store, settings, HttpGateway(port, "ledger", BATCH, TIMEOUT), NOON).accepted


def worker(arguments: list[str]) -> None:
    """One measured process on one core; prints what it saw."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    kind, port, size, home, url = arguments
    began = time.perf_counter()
    done = bare(int(port), int(size)) if kind == "bare" else ledgered(int(port), Path(home), url)
    seconds = time.perf_counter() - began
    used = os.times()
    print(
        json.dumps(
            {
                "accepted": done,
                "seconds": seconds,
                "cpu": used.user + used.system,
                "peak": peak_mebibytes(),
            }
        )
    )


def measured(kind: str, port: int, size: int, home: Path, url: str) -> dict[str, float]:
    """Run a worker; everything must have been accepted."""
    command = [sys.executable, __file__, "--worker", kind, str(port), str(size), str(home), url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout)
    assert found["accepted"] == size, found
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", default="10000,50000")
    parser.add_argument("--million", action="store_true", help="a million recipients as well")
    parser.add_argument("--latency", default="0,30", help="milliseconds a call, comma-separated")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")] + [1_000_000] * options.million
    print(
        f"{'recipients':>10} {'ms':>4} {'bare/s':>9} {'ledger/s':>9} {'ratio':>6} {'peak MiB':>9}"
    )
    for size in sizes:
        for latency in options.latency.split(","):
            with tempfile.TemporaryDirectory(prefix="ugbench-") as folder:
                found = compare(Path(folder), size, float(latency))
            speeds = size / found.bare, size / found.ledger
            print(
                f"{size:>10,} {float(latency):>4.0f} {speeds[0]:>9,.0f} {speeds[1]:>9,.0f} "
                f"{speeds[1] / speeds[0]:>6.2f} {found.peak:>9.1f}",
                flush=True,
            )


@dataclass(frozen=True)
class Compared:
    """Seconds of the bare loop and of the ledger, and the most MiB that the ledger took."""

    bare: float
    ledger: float
    peak: float


@contextmanager
def gateway(folder: Path, latency: float) -> Iterator[int]:
    """The gateway's process, whose calls take at least so many milliseconds; its port."""
    script = [sys.executable, str(CRASH / "gateway_process.py")]
    process = subprocess.Popen(
        [*script, str(folder / "accepted.txt"), "0", "0", str(latency / 1000)],
        stdout=subprocess.PIPE,
        text=True,
    )
    os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def compare(folder: Path, size: int, latency: float, times: int = 1) -> Compared:
    """The bare loop and the ledger on one gateway; they take turns, and the median counts."""
    from worlds import make_world

    found: dict[str, list[dict[str, float]]] = {"bare": [], "ledger": []}
    with gateway(folder, latency) as port:
        for turn in range(times):
            home = folder / f"home-{turn}"
            home.mkdir()
            url = f"sqlite:///{home / 'control.db'}"
            make_world(f"w{size}", "plain", url, home, size, campaigns=1)
            for kind, taken in found.items():
                taken.append(measured(kind, port, size, home, url))
    bare, ledger = (statistics.median(one["seconds"] for one in taken) for taken in found.values())
    return Compared(bare, ledger, max(one["peak"] for one in found["ledger"]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2:])
    else:
        main()
