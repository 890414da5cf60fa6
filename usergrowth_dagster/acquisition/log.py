"""The log of decisions: of a sample of devices, without an id, in files that land as a table.

A device is in the sample or not by its hash, so that all of its requests are there or none. Its id
is written as a keyed hash, by which the report finds the customers that landed later. A thread
writes the rows, as :class:`RowLog` says.
"""

import hmac
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from pathlib import Path

from usergrowth_dagster.acquisition.decide import Decision
from usergrowth_dagster.acquisition.devices import Device
from usergrowth_dagster.data.row_log import Columns, RowLog

LOG_COLUMNS: Columns = {
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
    """Keeps decisions of a sample of devices.

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
        self._key, self._share, self._cut = key, share, share * 2**32
        self._rows = RowLog(folder, LOG_COLUMNS, zone, lost)
        self.write, self.watch, self.close = self._rows.write, self._rows.watch, self._rows.close

    def keep(self, exchange: str, decision: Decision, now: float) -> None:
        """Take a decision, if its device is of the sample."""
        device, known = decision.device, decision.known
        if device is None or device.key % 2**32 >= self._cut:
            return
        self._rows.keep(
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
