"""Sensors: new population uploads, new files of sources, and failed runs."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from usergrowth_dagster.defs.jobs import range_tags
from usergrowth_dagster.defs.lost_runs import UPLOADS_TAG, lost_runs
from usergrowth_dagster.defs.resources import ProjectResource
from usergrowth_dagster.defs.source_assets import asset_name
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.sources.definition import Source


def upload_sensor(decide: Any) -> dg.SensorDefinition:
    """New population folders become tasks, and their dates are decided."""

    @dg.sensor(
        name="population_uploads",
        job=decide,
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Watches population/<task>/. An upload is complete with a _SUCCESS file, or "
        "when two looks found it the same; then its task is registered and its date decided. A run "
        "that died outside its steps is asked for again.",
    )
    def uploads(context: dg.SensorEvaluationContext, project: ProjectResource) -> dg.SensorResult:
        from usergrowth_dagster.intake.uploads import Cursor, look_at_uploads

        look = look_at_uploads(project.open(), Cursor.load(context.cursor))
        for note in look.notes:
            context.log.warning(note)
        requests = [
            dg.RunRequest(
                run_key=request.run_key,
                partition_key=request.execution_date,
                tags={UPLOADS_TAG: ",".join(request.tasks)},
            )
            for request in look.requests
        ]
        requests += lost_runs(context.instance, decide.name)
        skip = None if requests else dg.SkipReason("; ".join(look.notes) or "no new upload")
        return dg.SensorResult(run_requests=requests, skip_reason=skip, cursor=look.cursor.dump())

    return uploads


def source_sensor(land: Any, sources: Sequence[Source]) -> dg.SensorDefinition:
    """New files of sources land, once an operator turns this on."""

    @dg.sensor(
        name="source_files",
        job=land,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Lands the sources whose files, or whose tables of a lake, are new or changed "
        "and were the same on two looks. Databases land by the daily schedule.",
    )
    def files(context: dg.SensorEvaluationContext, project: ProjectResource) -> dg.SensorResult:
        from usergrowth_dagster.sources.changes import Cursor, look_at_sources

        settings = project.open().settings
        look = look_at_sources(sources, settings.home, Cursor.load(context.cursor))
        for note in look.notes:
            context.log.warning(note)
        last = max(settings.start_date, settings.current_date() - timedelta(days=1))
        requests = [
            dg.RunRequest(
                run_key=f"sources:{look.cursor.requests}",
                asset_selection=[dg.AssetKey(asset_name(name)) for name in look.changed],
                tags=range_tags(settings.start_date, last),
            )
        ]
        skip = None if look.changed else dg.SkipReason("; ".join(look.notes) or "no new file")
        return dg.SensorResult(
            run_requests=requests if look.changed else [],
            skip_reason=skip,
            cursor=look.cursor.dump(),
        )

    return files


def failure_sensor(home: str) -> dg.SensorDefinition:
    """Report failed runs to a webhook, when one is set."""

    @dg.run_failure_sensor(
        name="tell_of_failures",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Posts a failed run as JSON to the URL of the setting failure_webhook.",
    )
    def post_failure(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
        url = load_settings(home or None).failure_webhook
        if not url:
            return dg.SkipReason("no failure_webhook is set")
        import httpx

        run = context.dagster_run
        steps = {
            event.step_key: event.step_failure_data.error.message.strip()
            for event in context.get_step_failure_events()
            if event.step_failure_data.error
        }
        body = {
            "event": "run_failed",
            "job": run.job_name,
            "run_id": run.run_id,
            "partition": run.tags.get("dagster/partition"),
            "message": context.failure_event.message,
            "steps": steps,
        }
        httpx.post(url, json=body, timeout=10).raise_for_status()
        return None

    return post_failure
