"""Dagster's stock SQLite event log against the batching one: the same events, side by side.

Run: .venv/bin/python benchmarks/event_log.py [days]
"""

import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

import dagster as dg

ASSETS = 12
COLUMNS = 40


def definitions(days: int) -> dg.Definitions:
    """A dozen daily assets with the metadata that a table has, and a job over them."""
    start = "2020-01-01"
    partitions = dg.DailyPartitionsDefinition(start_date=start)
    schema = dg.TableSchema([dg.TableColumn(f"c{i}", "DOUBLE") for i in range(COLUMNS)])

    def asset(number: int) -> dg.AssetsDefinition:
        @dg.asset(
            name=f"table_{number}",
            partitions_def=partitions,
            backfill_policy=dg.BackfillPolicy.single_run(),
        )
        def table() -> dg.MaterializeResult:  # type: ignore[type-arg]
            return dg.MaterializeResult(
                metadata={"dagster/row_count": 1, "dagster/column_schema": schema}
            )

        return table

    assets = [asset(number) for number in range(ASSETS)]
    return dg.Definitions(assets=assets, jobs=[dg.define_asset_job("all", selection="*")])


def seconds(home: Path, days: int, *, batching: bool) -> float:
    """Wall time of one run over a range of days with either log."""
    home.mkdir()
    log = (
        "event_log_storage:\n"
        "  module: usergrowth_dagster.defs.event_log\n"
        "  class: BatchingSqliteEventLogStorage\n"
        f"  config: {{base_dir: {home / 'history' / 'runs'}}}\n"
    )
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n" + (log if batching else ""))
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ["DAGSTER_EVENT_BATCH_SIZE"] = "500" if batching else "0"
    last = dg.DailyPartitionsDefinition(start_date="2020-01-01").get_partition_keys()[days - 1]
    job = definitions(days).resolve_job_def("all")
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with dg.DagsterInstance.get() as instance:
        began = time.perf_counter()
        result = job.execute_in_process(
            instance=instance,
            run_config=quiet,
            tags={
                "dagster/asset_partition_range_start": "2020-01-01",
                "dagster/asset_partition_range_end": last,
            },
        )
        took = time.perf_counter() - began
        key = dg.AssetKey("table_0")
        assert result.success
        assert len(instance.get_materialized_partitions(key)) == days
    return took


def main() -> None:
    """Print both times and their ratio."""
    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    days = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as folder:
        stock = seconds(Path(folder) / "stock", days, batching=False)
        batched = seconds(Path(folder) / "batching", days, batching=True)
    print(f"{ASSETS} assets, {days} days: stock {stock:.1f} s, batching {batched:.1f} s, ")
    print(f"ratio {stock / batched:.1f}")


if __name__ == "__main__":
    main()
