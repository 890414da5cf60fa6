"""When jobs run by themselves. All schedules are off until an operator turns them on."""

from typing import Any

import dagster as dg

from usergrowth_dagster.defs.jobs import (
    DAILY,
    DECIDE,
    INGEST,
    MEASURE,
    TRAIN,
    ingest_days,
    range_tags,
)
from usergrowth_dagster.defs.resources import ProjectResource
from usergrowth_dagster.settings import Settings, load_settings

DAILY_AT = "0 6 * * *"
WEEKLY_AT = "0 5 * * 1"
MEASURE_AT = "0 8 * * *"


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


def measure_schedule(settings: Settings, home: str) -> dg.ScheduleDefinition:
    """Every morning, after the days have landed: measure the tasks whose windows gained days."""

    @dg.schedule(
        name="measure",
        job_name=MEASURE,
        cron_schedule=MEASURE_AT,
        execution_timezone=settings.timezone,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Measure anew what the texts brought back, every morning: the tasks whose "
        "windows are open, or have closed since.",
    )
    def measure(_context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        from usergrowth_dagster.measure.report import reports_due

        opened = ProjectResource(home=home).open()
        if not opened.settings.home.is_dir():
            return dg.SkipReason("there is no home folder yet")
        days = [task.execution_date for task in reports_due(opened)]
        if not days:
            return dg.SkipReason("no window has gained a day")
        return dg.RunRequest(
            run_key=f"measure:{opened.settings.current_date()}",
            tags=range_tags(min(days), max(days)),
        )

    return measure


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
