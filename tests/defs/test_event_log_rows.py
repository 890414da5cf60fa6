"""A run over a range leaves the rows that it leaves in Dagster's stock log."""

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.utils import make_new_run_id

from usergrowth_dagster.defs.event_log import BatchingSqliteEventLogStorage
from usergrowth_dagster.homes.home import DAGSTER_YAML

PARTITIONS = dg.DailyPartitionsDefinition("2017-03-01", end_date="2017-04-01")
RANGE = {
    "dagster/asset_partition_range_start": "2017-03-02",
    "dagster/asset_partition_range_end": "2017-03-24",
}
TABLES = ("event_logs", "asset_keys", "asset_event_tags", "asset_check_executions")
WHOLE_RANGE = dg.BackfillPolicy.single_run()


@dg.asset(
    partitions_def=PARTITIONS,
    backfill_policy=WHOLE_RANGE,
    code_version="1",
    check_specs=[
        dg.AssetCheckSpec("has_rows", asset="landed", blocking=True),
        dg.AssetCheckSpec("no_rejects", asset="landed"),
    ],
)
def landed() -> dg.MaterializeResult:  # type: ignore[type-arg]
    """An asset with metadata, and with checks that pass and fail."""
    return dg.MaterializeResult(
        metadata={"dagster/row_count": 7, "by_kind": dg.MetadataValue.json({"buy": 4})},
        check_results=[
            dg.AssetCheckResult(check_name="has_rows", passed=True, metadata={"rows": 7}),
            dg.AssetCheckResult(
                check_name="no_rejects", passed=False, severity=dg.AssetCheckSeverity.WARN
            ),
        ],
    )


@dg.multi_asset(
    specs=[dg.AssetSpec(name, deps=[landed], code_version="1") for name in ("users", "items")],
    partitions_def=PARTITIONS,
    backfill_policy=WHOLE_RANGE,
)
def facts(
    context: dg.AssetExecutionContext,
) -> Iterator[dg.MaterializeResult | dg.AssetObservation]:  # type: ignore[type-arg]
    """Two assets of one step, one of them observed as well."""
    for day in context.partition_keys:
        yield dg.AssetObservation("users", partition=day, tags={"dagster/data_version": day})
    yield dg.MaterializeResult("users", metadata={"rows": 3})
    yield dg.MaterializeResult("items")


@dg.asset(
    partitions_def=PARTITIONS,
    backfill_policy=WHOLE_RANGE,
    deps=["users"],
    code_version="1",
    check_specs=[dg.AssetCheckSpec("never_run", asset="broken")],
)
def broken() -> dg.MaterializeResult:  # type: ignore[type-arg]
    """An asset that fails: what was planned of it stays planned."""
    raise dg.Failure("no such file")


@dg.asset(deps=[landed], code_version="1")
def without_days() -> None:
    """An asset without partitions."""


def test_rows_of_a_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch loses an event, a tag or a planned check, or an asset points at an older event."""
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "10")
    runs = {make_new_run_id(): job for job in ("days", "days", "whole")}
    rows = {}
    for kind, config in (("stock", ""), ("batching", DAGSTER_YAML)):
        home = tmp_path / kind
        home.mkdir()
        (home / "dagster.yaml").write_text(config, encoding="utf-8")
        monkeypatch.setenv("DAGSTER_HOME", str(home))
        _run(home, runs)
        rows[kind] = _rows(home, runs)
    assert rows["batching"] == rows["stock"]
    counts = {table: len(rows["stock"]["index", table]) for table in TABLES}
    days, planned, made, observed, checks = 23, 4, 3, 1, 3
    assert counts["asset_keys"] == planned + 1
    assert counts["event_logs"] > 2 * days * (planned + made + observed)
    assert counts["asset_event_tags"] >= 2 * days * (made + observed)
    assert counts["asset_check_executions"] >= 2 * days * checks


def _run(home: Path, runs: Mapping[str, str]) -> None:
    """Run jobs as the home's instance records them, those of days over a range."""
    days = dg.AssetSelection.all() - dg.AssetSelection.assets("without_days")
    definitions = dg.Definitions(
        assets=[landed, facts, broken, without_days],
        jobs=[
            dg.define_asset_job("days", days),
            dg.define_asset_job("whole", dg.AssetSelection.assets("without_days")),
        ],
    )
    with dg.DagsterInstance.from_config(str(home)) as instance:
        ours = isinstance(instance.event_log_storage, BatchingSqliteEventLogStorage)
        assert ours == (home.name == "batching")
        assert isinstance(instance.event_log_storage, SqliteEventLogStorage)
        for run_id, name in runs.items():
            result = definitions.resolve_job_def(name).execute_in_process(
                instance=instance,
                tags=RANGE if name == "days" else None,
                run_id=run_id,
                raise_on_error=False,
            )
            assert result.success == (name == "whole")


def _rows(home: Path, runs: Iterable[str]) -> dict[tuple[str, str], list[tuple[Any, ...]]]:
    """All rows of the tables of all databases, ids included, without times."""
    rows = {}
    for shard in ("index", *runs):
        (path,) = home.rglob(f"{shard}.db")
        with sqlite3.connect(path) as connection:
            for table in TABLES if shard == "index" else TABLES[:1]:
                selected = connection.execute(f"select * from {table} order by id")
                names = [column[0] for column in selected.description]
                kept = [place for place, name in enumerate(names) if "timestamp" not in name]
                rows[shard, table] = [tuple(_timeless(row[i]) for i in kept) for row in selected]
    return rows


def _timeless(value: Any) -> Any:
    """A value without what differs by run: moments, durations, folders, and a random log key."""
    if not isinstance(value, str):
        return value
    text = re.sub(r'("\w*(?:time|timestamp|_ms)": )[\d.]+', r"\1-", value)
    text = re.sub(r"[\d.]+ ?m?s\b", "-", text)
    text = re.sub(r'("(?:log|file)_key": ")\w+', r"\1-", text)
    return re.sub(r'/[^" ]*/(?:stock|batching)\b', "home", text)
