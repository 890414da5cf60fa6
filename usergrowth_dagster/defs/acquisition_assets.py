"""Assets of a home with an acquisition.yml: the snapshot that answers, and the log of answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from usergrowth_dagster.acquisition.build import ACTIVITY, RAW
from usergrowth_dagster.acquisition.definition import FILE_NAME, read_acquisition
from usergrowth_dagster.acquisition.landing import TABLE, TABLE_COLUMNS
from usergrowth_dagster.defs.after_decide import run_after_decide
from usergrowth_dagster.defs.identity_assets import LOOKBACK_DAYS, has_identity
from usergrowth_dagster.defs.metadata import OWNER, data_table, table_schema
from usergrowth_dagster.defs.partitions import day_mapping, partition_days
from usergrowth_dagster.defs.resources import ProjectResource, user_errors
from usergrowth_dagster.defs.segment_assets import SEGMENTS
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.pipeline.score import SCORES
from usergrowth_dagster.segments.files import has_segments

if TYPE_CHECKING:
    from usergrowth_dagster.acquisition.build import Built

ACQUISITION = "acquisition"
"""Job that writes the snapshot of an execution date and lands the log; also the assets' group."""

SNAPSHOT = "rta_snapshot"
AFTER_DECIDE = "acquisition_after_decide"
"""Sensor that runs the job when today's date has been decided."""

_DEFAULT_DAYS = 30


def acquisition_assets(
    partitions: dg.PartitionsDefinition[str], home: Path
) -> list[dg.AssetsDefinition]:
    """The assets of a home with an acquisition.yml; none without it."""
    path = home / FILE_NAME
    if not path.exists():
        return []
    try:
        policy = read_acquisition(path)
        active_days, scored = policy.active_days, policy.score is not None
        by_segment = policy.active_segment is not None
    except UserError:  # the asset says what is wrong
        active_days, scored, by_segment = _DEFAULT_DAYS, False, False
    deps = [dg.AssetDep(ACTIVITY, partition_mapping=day_mapping(-active_days, -1))]
    if has_identity(home):
        deps.append(dg.AssetDep(RAW, partition_mapping=day_mapping(-LOOKBACK_DAYS, -1)))
    if by_segment and has_segments(home):
        deps.append(dg.AssetDep(SEGMENTS))
    if scored:
        deps.append(dg.AssetDep(SCORES))
    return [_snapshot_asset(partitions, deps), _log_asset(partitions)]


def acquisition_job() -> Any:
    """The job that writes the snapshot of an execution date and lands the log before it."""
    return dg.define_asset_job(
        ACQUISITION,
        selection=dg.AssetSelection.groups(ACQUISITION),
        description="Write the snapshot that exchanges are answered by, and land the log.",
    )


def acquisition_after_decide(decide: Any, job: Any, home: str) -> dg.SensorDefinition:
    """Write the snapshot of today's date when it has been decided; off until it is turned on."""
    description = "Write the snapshot of devices of today when it has been decided."
    return run_after_decide(AFTER_DECIDE, decide, job, home, description)


def _snapshot_asset(
    partitions: dg.PartitionsDefinition[str], deps: Sequence[dg.AssetDep]
) -> dg.AssetsDefinition:
    @dg.asset(
        name=SNAPSHOT,
        deps=deps,
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=ACQUISITION,
        kinds={"duckdb", "file"},
        owners=[OWNER],
        description="Devices of the users that landed before the execution date, whether these are "
        f"active, and their scores, as {FILE_NAME} says. The newest date answers exchanges.",
    )
    def rta_snapshot(
        context: dg.AssetExecutionContext, project: ProjectResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        from usergrowth_dagster.acquisition.build import build_snapshot

        opened, done = project.open(context), []
        with user_errors():
            for day in partition_days(context):
                done.append(build_snapshot(opened, day))
                context.log.info(done[-1].sentence)
        return dg.MaterializeResult(metadata=_metadata(done))

    return rta_snapshot


def _log_asset(partitions: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    @dg.asset(
        name=TABLE,
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=ACQUISITION,
        kinds={"duckdb", "deltalake"},
        owners=[OWNER],
        description="Decisions on a sample of devices, on all days before the execution date whose "
        "files have changed. No row holds an id.",
        metadata={"dagster/column_schema": table_schema(TABLE_COLUMNS)},
    )
    def rta_log(
        context: dg.AssetExecutionContext, project: ProjectResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        from usergrowth_dagster.acquisition.landing import land_log

        with user_errors():
            landed = land_log(project.open(context), max(partition_days(context)))
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": sum(landed.values()),
                "by_date": data_table(("date", "rows"), list(landed.items())),
            }
        )

    return rta_log


def _metadata(done: "Sequence[Built]") -> dict[str, Any]:
    header = ("date", "ids", "of active users", "with a score", "file")
    rows = [
        (one.execution_date, sum(one.devices.values()), one.active, one.scored, one.name)
        for one in done
    ]
    return {
        "dagster/row_count": sum(row[1] for row in rows),
        "by_date": data_table(header, rows),
        "by_kind": data_table(("kind", "ids"), list(done[-1].devices.items())),
    }
