"""A sensor that runs a job of today's date when it has been decided."""

from typing import Any

import dagster as dg

from usergrowth_dagster.defs.jobs import RANGE_END, RANGE_START
from usergrowth_dagster.settings import load_settings

PARTITION = "dagster/partition"


def run_after_decide(
    name: str, decide: Any, job: Any, home: str, description: str
) -> dg.SensorDefinition:
    """Run a job of today's date when it has been decided; off until it is turned on.

    Args:
        name: of the sensor.
        decide: the job that decides a date.
        job: the job to run.
        home: the home folder; empty: that of the environment.
        description: for the UI.
    """

    @dg.run_status_sensor(
        name=name,
        run_status=dg.DagsterRunStatus.SUCCESS,
        monitored_jobs=[decide],
        request_job=job,
        default_status=dg.DefaultSensorStatus.STOPPED,
        minimum_interval_seconds=15,
        description=description,
    )
    def after(context: dg.RunStatusSensorContext) -> dg.RunRequest | dg.SkipReason:
        today = load_settings(home or None).current_date()
        tags = context.dagster_run.tags
        days = (
            tags.get(PARTITION) or tags.get(RANGE_START),
            tags.get(PARTITION) or tags.get(RANGE_END),
        )
        if days != (str(today), str(today)):
            return dg.SkipReason(f"the run did not decide {today}")
        return dg.RunRequest(
            run_key=f"{job.name}:{context.dagster_run.run_id}",
            partition_key=str(today),
            job_name=str(job.name),
        )

    return after
