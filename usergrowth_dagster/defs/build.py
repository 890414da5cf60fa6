"""Puts the code location together."""

import warnings

import dagster as dg

from usergrowth_dagster.defs.dispatching import dispatch_job, dispatch_schedule, stall_sensor
from usergrowth_dagster.defs.effect_assets import effects_asset
from usergrowth_dagster.defs.executors import executor
from usergrowth_dagster.defs.identity_assets import has_identity
from usergrowth_dagster.defs.jobs import build_jobs
from usergrowth_dagster.defs.landing_assets import landing_assets
from usergrowth_dagster.defs.learning_assets import learning_assets
from usergrowth_dagster.defs.maintenance import maintenance_job, maintenance_schedule
from usergrowth_dagster.defs.model_assets import model_assets
from usergrowth_dagster.defs.optional import PARTS, Base
from usergrowth_dagster.defs.partitions import daily_partitions
from usergrowth_dagster.defs.resources import ProjectResource
from usergrowth_dagster.defs.schedules import (
    daily_schedule,
    decide_after_ingest,
    measure_schedule,
    weekly_schedule,
)
from usergrowth_dagster.defs.sensors import failure_sensor, source_sensor, upload_sensor
from usergrowth_dagster.defs.source_assets import land_job, source_assets, sources_of_home
from usergrowth_dagster.defs.task_assets import messaging_assets, task_assets
from usergrowth_dagster.identity.tables import ONE_ID
from usergrowth_dagster.segments.files import has_segments
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.models import load_graph


def build_definitions(home: str = "") -> dg.Definitions:
    """The definitions for a home folder; empty: that of the environment."""
    # Backfill policies and asset checks are marked beta; the pinned version is tested with them.
    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    # The models of the job "decide" run one date at a time; the job then does so as well.
    warnings.filterwarnings(
        "ignore", message="Asset job (decide|choose) materializes assets with varying"
    )
    settings = load_settings(home or None)
    graph = load_graph()
    partitions = daily_partitions(settings)
    from_sources, upstream = source_assets(partitions, settings.home)
    sources, _ = sources_of_home(settings.home)
    landing = [land_job(sources)] if sources else []
    jobs = {str(job.name): job for job in build_jobs(settings)}
    base = Base(settings, partitions, jobs["decide"], home, upstream)
    parts = [part(base) for part in PARTS]
    return dg.Definitions(
        assets=[
            *from_sources,
            *landing_assets(partitions, upstream),
            *model_assets(graph, partitions, settings),
            *learning_assets(partitions),
            *task_assets(
                partitions,
                [ONE_ID] if has_identity(settings.home) else [],
                segments=has_segments(settings.home),
            ),
            *messaging_assets(partitions),
            effects_asset(partitions, settings),
            *(asset for part in parts for asset in part.assets),
        ],
        jobs=[
            *jobs.values(),
            *landing,
            *(job for part in parts for job in part.jobs),
            dispatch_job(),
            maintenance_job(),
        ],
        schedules=[
            daily_schedule(settings, home),
            weekly_schedule(settings, home),
            dispatch_schedule(settings, home),
            measure_schedule(settings, home),
            maintenance_schedule(settings),
        ],
        sensors=[
            upload_sensor(jobs["decide"]),
            *(source_sensor(job, sources) for job in landing),
            decide_after_ingest(jobs["ingest"], jobs["decide"]),
            *(sensor for part in parts for sensor in part.sensors),
            failure_sensor(home),
            stall_sensor(home),
        ],
        resources={"project": ProjectResource(home=home)},
        executor=executor(settings),
    )
