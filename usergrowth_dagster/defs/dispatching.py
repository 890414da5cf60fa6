"""Dispatch by Dagster: a job a minute that sends what is due, and a watch for stalls."""

from datetime import timedelta
from typing import Any

import dagster as dg

from usergrowth_dagster.defs.resources import ProjectResource, user_errors
from usergrowth_dagster.settings import Settings

DISPATCH = "dispatch"
DISPATCH_AT = "* * * * *"
_ROUND = timedelta(seconds=50)
"""Of one run; the next minute's goes on where it stopped."""


def dispatch_job() -> dg.JobDefinition:
    """A job that does what `usergrowth dispatch --once` does, for at most a minute."""

    @dg.op(
        name="dispatch_due_messages",
        description="Submits what the ledger holds and is due, within the rate limits. Any number "
        "of dispatchers may work at once.",
        out=dg.Out(dg.Nothing),
    )
    def send(context: dg.OpExecutionContext, project: ProjectResource) -> None:
        from usergrowth_dagster.pipeline.send import dispatch_due

        with user_errors():
            counts = dispatch_due(project.open(), patience=_ROUND)
        figures = counts.as_dict()
        failures = [*figures.pop("stopped"), *figures.pop("failed")]
        for sentence in figures.pop("held"):  # a failure each minute would bury the others
            context.log.warning(sentence)
        context.log.info(", ".join(f"{key} {value}" for key, value in figures.items() if value))
        if failures:
            raise dg.Failure("; ".join(failures), metadata=figures, allow_retries=False)

    @dg.job(name=DISPATCH, description="Submit the messages that are due.")
    def job() -> None:
        send()

    return job


def dispatch_schedule(settings: Settings, home: str) -> dg.ScheduleDefinition:
    """Every minute, when there is something to do."""

    @dg.schedule(
        name="dispatch",
        job_name=DISPATCH,
        cron_schedule=DISPATCH_AT,
        execution_timezone=settings.timezone,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Submit the messages that are due, every minute: instead of "
        "`usergrowth dispatch --watch`, or beside it.",
    )
    def every_minute(_context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        from usergrowth_dagster.messaging.dispatching.due import work_waits
        from usergrowth_dagster.messaging.schedules.occurrences import business_now

        opened = ProjectResource(home=home).open()
        if not opened.settings.home.is_dir():
            return dg.SkipReason("there is no home folder yet")
        if not work_waits(opened.store, opened.settings, business_now(opened.settings)):
            return dg.SkipReason("nothing is due")
        return dg.RunRequest()

    return every_minute


def stall_sensor(home: str) -> dg.SensorDefinition:
    """Report deliveries that should move and do not."""

    @dg.sensor(
        name="stalled_deliveries",
        minimum_interval_seconds=120,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks for due messages that nobody sends, and posts each stall once to the "
        "URL of the setting failure_webhook.",
    )
    def watch(context: dg.SensorEvaluationContext) -> Any:
        from usergrowth_dagster.messaging.operations.deliveries import report_stalls, stalls
        from usergrowth_dagster.messaging.schedules.occurrences import business_now

        opened = ProjectResource(home=home).open()
        if not opened.settings.home.is_dir():
            return dg.SkipReason("there is no home folder yet")
        now = business_now(opened.settings)
        for stall in report_stalls(opened.store, opened.settings, now):
            context.log.warning(str(stall))
        still = [str(stall) for stall in stalls(opened.store, opened.settings, now)]
        return dg.SkipReason("; ".join(still) or "nothing is stalled")

    return watch
