"""Runs that a sensor asked for and that died outside their steps: they are asked for once more.

Dagster retries such a run once, and not at all where the code location cannot be reached at that
moment. The sensor's cursor has passed the upload by then, so nobody would ever decide it. A run
whose step failed is another thing: the upload or the campaign has to be mended first.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.events import RunFailureReason
from dagster._core.storage.tags import RUN_FAILURE_REASON_TAG

UPLOADS_TAG = "usergrowth/uploads"
"""Tag of a run that uploads asked for: their names."""

MOST = 5
"""Runs of the same uploads, after which a person has to look."""

_LOOKED_AT = timedelta(days=2)
_SETTLED = timedelta(seconds=30)
"""Dagster's own retry comes within this time."""


def lost_runs(instance: dg.DagsterInstance, job: str) -> list[dg.RunRequest]:
    """Requests for runs of a job that were lost in the last two days, each at most :data:`MOST`.

    Args:
        instance: has the runs.
        job: its name.
    """
    now = datetime.now(UTC)
    records = instance.get_run_records(
        dg.RunsFilter(job_name=job, created_after=now - _LOOKED_AT), order_by="id", ascending=False
    )
    alike: dict[tuple[str, str], list[dg.RunRecord]] = {}
    for record in records:
        tags = record.dagster_run.tags
        if UPLOADS_TAG in tags:
            asked = (tags[UPLOADS_TAG], tags.get("dagster/partition", ""))
            alike.setdefault(asked, []).append(record)
    return [
        dg.RunRequest(
            run_key=f"{uploads}:{runs[0].dagster_run.run_id}",
            partition_key=date,
            tags={UPLOADS_TAG: uploads},
        )
        for (uploads, date), runs in alike.items()
        if _is_lost(runs, now)
    ]


def _is_lost(runs: Sequence[dg.RunRecord], now: datetime) -> bool:
    """Whether the newest of some runs of the same uploads ended without a verdict on them."""
    newest = runs[0].dagster_run
    reason = newest.tags.get(RUN_FAILURE_REASON_TAG)
    return (
        newest.status is dg.DagsterRunStatus.FAILURE
        and reason != RunFailureReason.STEP_FAILURE.value
        and len(runs) < MOST
        and now - runs[0].update_timestamp.replace(tzinfo=UTC) > _SETTLED
    )
