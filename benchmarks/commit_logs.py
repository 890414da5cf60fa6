"""Delta logs of many commits, made in a moment: only the commits are written, no data files."""

import json
import uuid
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

from deltalake import DeltaTable

from usergrowth_dagster.warehouse.tables import Warehouse

_CHECKPOINT_EVERY = 100  # as deltalake does


def older_days(before: date, count: int) -> list[date]:
    """So many days before one, oldest first."""
    return [before - timedelta(days=place) for place in range(count, 0, -1)]


def append_commits(warehouse: Warehouse, table: str, days: Sequence[date]) -> None:
    """Write a commit for each of some days: it replaces the day's file, which nobody can read."""
    opened = DeltaTable(warehouse.uri(table))
    log = Path(warehouse.uri(table)) / "_delta_log"
    others = {key: "old" for key in opened.metadata().partition_columns if key != "ds"}
    present: dict[date, dict[str, object]] = {}
    last = opened.version() + len(days)
    for version, day in enumerate(days, opened.version() + 1):
        meta = {
            "days": [day.isoformat()],
            "scope": others,
            "fingerprints": {day.isoformat(): f"mark {version}"},
            "commit": uuid.uuid4().hex,
        }
        actions: list[dict[str, object]] = [
            {
                "commitInfo": {
                    "timestamp": version,
                    "operation": "WRITE",
                    "operationParameters": {"mode": "Overwrite"},
                    "usergrowth": json.dumps(meta),
                    "operationMetrics": {"num_added_rows": 1},
                }
            }
        ]
        if day in present:
            actions.append({"remove": present[day] | {"deletionTimestamp": version}})
        folders = "/".join(f"{key}={value}" for key, value in others.items())
        present[day] = {
            "path": "/".join(
                part for part in (f"ds={day}", folders, f"{uuid.uuid4()}.parquet") if part
            ),
            "partitionValues": {"ds": day.isoformat()} | others,
            "size": 500,
            "dataChange": True,
        }
        stats = {"stats": '{"numRecords":1}', "modificationTime": version}
        actions.append({"add": present[day] | stats})
        text = "\n".join(json.dumps(action, separators=(",", ":")) for action in actions)
        (log / f"{version:020d}.json").write_text(text, encoding="utf-8")
        # The newest checkpoint alone is read.
        if version % _CHECKPOINT_EVERY == _CHECKPOINT_EVERY - 1 > last - version - 1:
            DeltaTable(warehouse.uri(table)).create_checkpoint()
