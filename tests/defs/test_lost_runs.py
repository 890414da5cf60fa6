"""Runs of uploads that died outside their steps."""

from datetime import timedelta

import dagster as dg
import pytest
from dagster._core.events import RunFailureReason
from dagster._core.storage.tags import RUN_FAILURE_REASON_TAG
from dagster._core.utils import make_new_run_id

from usergrowth_dagster.defs import lost_runs as module
from usergrowth_dagster.defs.lost_runs import MOST, UPLOADS_TAG, lost_runs

FAILED = dg.DagsterRunStatus.FAILURE
LOST = RunFailureReason.RUN_EXCEPTION
DAY = "2017-05-04"


def ran(
    instance: dg.DagsterInstance,
    status: dg.DagsterRunStatus = FAILED,
    reason: RunFailureReason | None = LOST,
    uploads: str = "fresh",
) -> str:
    """A run for uploads that ended in a way; returns its id."""
    tags = {UPLOADS_TAG: uploads, "dagster/partition": DAY}
    tags |= {} if reason is None else {RUN_FAILURE_REASON_TAG: reason.value}
    run = dg.DagsterRun("decide", make_new_run_id(), status=status, tags=tags)
    instance.add_run(run)
    return run.run_id


def test_only_lost_runs_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against an upload that nobody decides since the code location was away for a moment,
    and against runs without end for one that has to be mended or is just being decided."""
    with dg.DagsterInstance.ephemeral() as instance:
        first = ran(instance)
        assert lost_runs(instance, "decide") == [], "Dagster retries by itself"
        monkeypatch.setattr(module, "_SETTLED", timedelta(0))
        (request,) = lost_runs(instance, "decide")
        assert (request.partition_key, request.tags[UPLOADS_TAG]) == (DAY, "fresh")
        assert request.run_key == f"fresh:{first}"
        ran(instance, reason=RunFailureReason.STEP_FAILURE, uploads="bad")
        ran(instance, dg.DagsterRunStatus.CANCELED, None, uploads="cancelled")
        ran(instance, dg.DagsterRunStatus.STARTED, None)
        assert lost_runs(instance, "decide") == [], "one is at work"
        again = ran(instance)
        assert [one.run_key for one in lost_runs(instance, "decide")] == [f"fresh:{again}"]
        ran(instance, dg.DagsterRunStatus.SUCCESS, None)
        assert lost_runs(instance, "decide") == []
        for _ in range(MOST):
            ran(instance, uploads="never")
        assert lost_runs(instance, "decide") == [], "a person has to look"
