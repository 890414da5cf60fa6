"""When jobs run by themselves. Both schedules are off until an operator turns them on."""

from typing import Any

import dagster as dg

from usergrowth_dagster.defs.jobs import DAILY, DECIDE, INGEST, TRAIN, ingest_days, range_tags
from usergrowth_dagster.settings import Settings, load_settings

DAILY_AT = "0 6 * * *"
WEEKLY_AT = "0 5 * * 1"


def daily_schedule(settings: Settings, home: str) -> dg.ScheduleDefinition:
    """Every morning: land the last days; the execution date is decided when that succeeded."""

    @dg.schedule(
        name="daily",
        job_name=INGEST,
        cron_schedule=DAILY_AT,
        execution_timezone=settings.timezone,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Land the last days every morning; then the execution date is decided.",
    )
    def daily(_context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        now = load_settings(home or None)
        day = now.current_date()
        days = ingest_days(day, now.catch_up_days, now.start_date)
        return dg.RunRequest(
            run_key=f"ingest:{day}",
            tags={**range_tags(days.first, days.last), DAILY: day.isoformat()},
        )

    return daily


def weekly_schedule(settings: Settings, home: str) -> dg.ScheduleDefinition:
    """Every Monday: train anew."""

    @dg.schedule(
        name="weekly_training",
        job_name=TRAIN,
        cron_schedule=WEEKLY_AT,
        execution_timezone=settings.timezone,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Train the models that campaigns ask for every Monday.",
    )
    def weekly(_context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        day = load_settings(home or None).current_date().isoformat()
        return dg.RunRequest(run_key=f"train:{day}", partition_key=day)

    return weekly


def decide_after_ingest(ingest: Any, decide: Any) -> dg.SensorDefinition:
    """Decide the execution date when the morning's ingest has succeeded."""

    @dg.run_status_sensor(
        name="decide_after_ingest",
        run_status=dg.DagsterRunStatus.SUCCESS,
        monitored_jobs=[ingest],
        request_job=decide,
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=15,
        description="Decide the execution date when the morning's ingest has succeeded.",
    )
    def after(context: dg.RunStatusSensorContext) -> dg.RunRequest | dg.SkipReason:
        day = context.dagster_run.tags.get(DAILY)
        if not day:
            return dg.SkipReason("the ingest was not the morning's")
        return dg.RunRequest(run_key=f"decide:{day}", partition_key=day, job_name=DECIDE)

    return after
