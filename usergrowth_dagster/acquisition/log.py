"""The log of decisions: of a sample of devices, without an id, in files that land as a table.

A device is in the sample or not by its hash, so that all of its requests are there or none. Its id
is written as a keyed hash, by which the report finds the customers that landed later. The service
appends to a queue and a thread writes, so that no request waits for a disk.
"""

import hmac
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any
from uuid import uuid4

from usergrowth_dagster.acquisition.decide import Decision
from usergrowth_dagster.acquisition.devices import Device

LOG = logging.getLogger("usergrowth.rta")
MOST_WAITING = 100_000
"""Decisions that wait to be written; further ones are lost, and counted."""
WRITE_AT = 20_000
"""Decisions that wait when they are written at once."""
_UNFINISHED_SECONDS = 3_600

LOG_COLUMNS: Mapping[str, tuple[str, str]] = {
    "time": ("TIMESTAMP", "when the request was decided (UTC)"),
    "exchange": ("VARCHAR", "shape of the request: tencent, json, openrtb"),
    "experiment": ("VARCHAR", "id of the experiment of acquisition.yml; empty: none"),
    "arm": ("VARCHAR", "treatment or control"),
    "accepted": ("BOOLEAN", "whether the answer was to bid"),
    "strategies": ("VARCHAR", "names of the strategies that accepted, with commas between them"),
    "factor": ("DOUBLE", "by which the bid was to be multiplied; null: not named"),
    "device": ("VARCHAR", "keyed hash of the device's id"),
    "known": ("BOOLEAN", "whether the snapshot knew the device"),
    "active": ("BOOLEAN", "whether its user was active; null: not known"),
    "score": ("DOUBLE", "of its user; null: none"),
    "snapshot": ("VARCHAR", "file of the snapshot; empty: none answered"),
    "share": ("DOUBLE", "share of the devices that the log holds"),
}
"""By name, the DuckDB type and the meaning of the columns of a file."""


def device_hash(key: bytes, device: Device) -> str:
    """The keyed hash of an id: 32 hexadecimal digits of HMAC-SHA256."""
    text = f"{device.kind}:{device.md5}".encode()
    return hmac.digest(key, text, "sha256")[:16].hex()


class DecisionLog:
    """Keeps decisions and writes them to files, a folder a day.

    Args:
        folder: of the log.
        key: of the hashes.
        share: of the devices that are kept, 0 to 1.
        zone: of the business days.
        lost: called with the number of decisions that are lost.
    """

    def __init__(
        self,
        folder: Path,
        key: bytes,
        share: float,
        zone: tzinfo,
        lost: Callable[[int], None] = lambda _rows: None,
    ) -> None:
        self._folder, self._key, self._zone, self._lost = folder, key, zone, lost
        self._share, self._cut = share, share * 2**32
        self._waiting: deque[tuple[Any, ...]] = deque()
        self._ended, self._wake = False, threading.Event()
        self._thread: threading.Thread | None = None

    def keep(self, exchange: str, decision: Decision, now: float) -> None:
        """Take a decision, if its device is of the sample."""
        device, known = decision.device, decision.known
        if device is None or device.key % 2**32 >= self._cut:
            return
        if len(self._waiting) >= MOST_WAITING:
            self._lost(1)
            return
        if len(self._waiting) == WRITE_AT:
            self._wake.set()
        self._waiting.append(
            (
                datetime.fromtimestamp(now, UTC).replace(tzinfo=None),
                exchange,
                decision.experiment,
                decision.arm,
                decision.accept,
                ",".join(one.name for one in decision.hits),
                decision.factor,
                device_hash(self._key, device),
                known is not None,
                None if known is None else known.active,
                None if known is None else known.score,
                decision.snapshot,
                self._share,
            )
        )

    def write(self) -> int:
        """Write what waits, a file for each business day.

        A day that cannot be written is lost and counted; its error is in the log.

        Returns:
            Rows that were written.
        """
        by_day: dict[str, list[tuple[Any, ...]]] = {}
        rows = [self._waiting.popleft() for _ in range(len(self._waiting))]
        for row in rows:
            day = row[0].replace(tzinfo=UTC).astimezone(self._zone)
            by_day.setdefault(f"ds={day:%Y%m%d}", []).append(row)
        written = 0
        for name, of_day in by_day.items():
            try:
                _write_file(self._folder / name, of_day)
                written += len(of_day)
            except Exception as error:  # the next ones may be written again
                self._lost(len(of_day))
                LOG.error("%d decisions not logged: %s", len(of_day), type(error).__name__)
        return written

    def watch(self, every: float) -> None:
        """Write in a thread until :meth:`close`, each so many seconds; sooner when much waits."""

        def run() -> None:
            while not self._ended:
                self._wake.wait(every)
                self._wake.clear()
                self.write()

        self._thread = threading.Thread(target=run, name="decisions", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what waits and end the thread."""
        self._ended = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=30)
        self.write()


def _write_file(folder: Path, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write a file of a day whole, and only then under a name that is landed.

    A process that is killed in between leaves a file with a dot, which :func:`remove_unfinished`
    takes away. Names are random, since processes of several machines may share the folder.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"VARCHAR": pa.string(), "BOOLEAN": pa.bool_(), "DOUBLE": pa.float64()}
    table = pa.table(
        {
            name: pa.array(values, types.get(kind, pa.timestamp("us")))
            for (name, (kind, _)), values in zip(
                LOG_COLUMNS.items(), zip(*rows, strict=True), strict=True
            )
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid4().hex[:12]}.parquet"
    with (folder / f".{name}").open("wb") as handle:
        pq.write_table(table, handle)
        handle.flush()
        os.fsync(handle.fileno())
    (folder / f".{name}").rename(folder / name)


def remove_unfinished(folder: Path) -> None:
    """Remove the files that killed processes left: those with a dot, older than an hour."""
    for path in folder.glob("ds=*/.*.parquet"):
        with suppress(FileNotFoundError):  # its process has finished it just now
            if time.time() - path.stat().st_mtime > _UNFINISHED_SECONDS:
                path.unlink()
