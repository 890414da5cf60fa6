"""The asset of a home's segments: snapshots of an execution date, and their checks."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from usergrowth_dagster.defs.after_decide import run_after_decide
from usergrowth_dagster.defs.metadata import OWNER, data_table, picture, table_schema
from usergrowth_dagster.defs.partitions import partition_days
from usergrowth_dagster.defs.resources import ProjectResource, user_errors
from usergrowth_dagster.segments.files import has_segments
from usergrowth_dagster.segments.snapshots import SNAPSHOT_COLUMNS

if TYPE_CHECKING:
    from datetime import date

    from usergrowth_dagster.segments.refresh import RefreshedAll

SEGMENTS = "segments"
"""The asset, and its group."""

REFRESH = "refresh_segments"
"""Job that refreshes all segments of a date. Dagster refuses a job with the name of an asset."""

AFTER_DECIDE = "segments_after_decide"
"""Sensor that runs the job when today's date has been decided."""

FRESH = "no_segment_is_stale"
"""Check that fails where a segment could not be refreshed or is not valid any more."""

STEADY = "no_segment_jumped"
"""Check that warns of sizes that differ much from those of the snapshots before."""

_TAG_TABLES = ("user_tags", "rfm", "aipl")


def segment_assets(
    partitions: dg.PartitionsDefinition[str], home: Path, others: Sequence[dg.AssetsDefinition]
) -> list[dg.AssetsDefinition]:
    """The asset of a home's segments; none where it has no file of one.

    Args:
        partitions: execution dates.
        home: the home folder.
        others: assets of the code location; those of tags run before the segments.
    """
    if not has_segments(home):
        return []
    there = {key.to_user_string() for one in others for key in one.keys}
    deps = ["user_features", *(name for name in _TAG_TABLES if name in there)]

    @dg.asset(
        name=SEGMENTS,
        deps=deps,
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=SEGMENTS,
        kinds={"delta", "duckdb"},
        owners=[OWNER],
        description="Who is in each segment as of the execution date. A segment that is not due, "
        "or whose definition and inputs have not changed, keeps its snapshot.",
        metadata={"dagster/column_schema": table_schema(SNAPSHOT_COLUMNS)},
        check_specs=[
            dg.AssetCheckSpec(FRESH, asset=SEGMENTS, description="Each segment was refreshed."),
            dg.AssetCheckSpec(STEADY, asset=SEGMENTS, description="No size has jumped."),
        ],
    )
    def segments(
        context: dg.AssetExecutionContext, project: ProjectResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        from usergrowth_dagster.control.audit import whoami
        from usergrowth_dagster.segments.refresh import refresh_all

        opened, done = project.open(context), []
        reason = f"run {context.run_id}"
        with user_errors():
            for day in partition_days(context):
                ran = refresh_all(opened, day, actor=whoami(), reason=reason)
                done.append((day, ran))
                for sentence in (*(one.sentence for one in ran.refreshed), *ran.failures):
                    context.log.info(sentence)
            history = _picture(opened)
            checks = _sources(opened, [day for day, _ in done])
        return dg.MaterializeResult(
            metadata={**_metadata(done), **checks, "sizes": history}, check_results=_checks(done)
        )

    return [segments]


def segment_job() -> Any:
    """The job that refreshes the segments of a date, with the tables of the date that they read."""
    return dg.define_asset_job(
        REFRESH,
        selection=dg.AssetSelection.assets(SEGMENTS).upstream(depth=1),
        description="Keep who is in each segment as of an execution date.",
    )


def segments_after_decide(decide: Any, job: Any, home: str) -> dg.SensorDefinition:
    """Refresh the segments of today's date when it has been decided; off until it is turned on."""
    return run_after_decide(
        AFTER_DECIDE, decide, job, home, "Refresh the segments of today when it has been decided."
    )


def _picture(project: Any) -> dg.MarkdownMetadataValue:
    from usergrowth_dagster.segments.pictures import draw_sizes
    from usergrowth_dagster.views.segments import size_histories

    return picture(draw_sizes(size_histories(project)), "sizes of the segments")


def _sources(project: Any, days: "Sequence[date]") -> dict[str, Any]:
    """What became of the rows of the segments that have a source; nothing without one."""
    from usergrowth_dagster.views.segments import segment_checks

    rows = [
        (one.ds, one.segment, one.state, one.rows, one.members, one.left_out, one.problem)
        for day in days
        for one in segment_checks(project, day)
    ]
    header = ("date", "segment", "state", "rows", "members", "rows left out", "problem")
    return {"sources": data_table(header, rows)} if rows else {}


def _metadata(done: "Sequence[tuple[date, RefreshedAll]]") -> dict[str, Any]:
    rows: list[list[Any]] = []
    for day, ran in done:
        for one in ran.refreshed:
            sizes = one.snapshot.sizes if one.snapshot is not None else None
            figures = (sizes.matches, sizes.sendable) if sizes is not None else ("", "")
            rows.append([day, one.segment, one.state, *figures, one.sentence])
        rows += [[day, "", "failed", "", "", sentence] for sentence in ran.failures]
    header = ("date", "segment", "state", "matches", "sendable", "what became of it")
    return {
        "dagster/row_count": sum(int(row[3]) for row in rows if row[2] == "new"),
        "by_date": data_table(header, rows),
        "segments_failed": sum(len(ran.failures) for _, ran in done),
    }


def _checks(done: "Sequence[tuple[date, RefreshedAll]]") -> list[dg.AssetCheckResult]:
    stale = [sentence for _, ran in done for sentence in ran.failures]
    stale += [one.sentence for _, ran in done for one in ran.refreshed if one.state == "expired"]
    jumps = [one.alert for _, ran in done for one in ran.refreshed if one.alert]
    return [
        dg.AssetCheckResult(
            check_name=FRESH, passed=not stale, metadata={"stale": "\n".join(stale)}
        ),
        dg.AssetCheckResult(
            check_name=STEADY,
            passed=not jumps,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"jumps": "\n".join(jumps)},
        ),
    ]
