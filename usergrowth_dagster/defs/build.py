"""Puts the code location together."""

import warnings

import dagster as dg

from usergrowth_dagster.defs.affinity_assets import (
    affinity_assets,
    affinity_job,
    affinity_sensor,
)
from usergrowth_dagster.defs.dispatching import dispatch_job, dispatch_schedule, stall_sensor
from usergrowth_dagster.defs.effect_assets import effects_asset
from usergrowth_dagster.defs.experiment_assets import experiment_assets
from usergrowth_dagster.defs.export_assets import (
    export_after_decide,
    export_assets,
    export_job,
    exports_of_home,
)
from usergrowth_dagster.defs.interest_assets import interest_assets, interest_job
from usergrowth_dagster.defs.jobs import build_jobs
from usergrowth_dagster.defs.landing_assets import landing_assets
from usergrowth_dagster.defs.learning_assets import learning_assets
from usergrowth_dagster.defs.model_assets import model_assets
from usergrowth_dagster.defs.partitions import daily_partitions
from usergrowth_dagster.defs.resources import ProjectResource
from usergrowth_dagster.defs.schedules import (
    daily_schedule,
    decide_after_ingest,
    measure_schedule,
    weekly_schedule,
)
from usergrowth_dagster.defs.segment_assets import (
    segment_assets,
    segment_job,
    segments_after_decide,
)
from usergrowth_dagster.defs.sensors import failure_sensor, source_sensor, upload_sensor
from usergrowth_dagster.defs.source_assets import land_job, source_assets, sources_of_home
from usergrowth_dagster.defs.tag_assets import catalogue_of_home, tag_assets, tag_job
from usergrowth_dagster.defs.task_assets import messaging_assets, task_assets
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
    exports, _ = exports_of_home(settings.home)
    going_out = [export_job(exports)] if exports else []
    catalogue, unreadable = catalogue_of_home(settings.home)
    tagging = [tag_job()] if catalogue is not None else []
    with_tags = tag_assets(partitions, settings, catalogue, unreadable)
    segments = segment_assets(partitions, settings.home, with_tags)
    keeping = [segment_job()] if segments else []
    with_affinity = affinity_assets(settings)
    affine = [affinity_job()] if with_affinity else []
    ranking = interest_assets(partitions, settings.home)
    interested = [interest_job()] if ranking else []
    jobs = {str(job.name): job for job in build_jobs()}
    return dg.Definitions(
        assets=[
            *from_sources,
            *landing_assets(partitions, upstream),
            *model_assets(graph, partitions, settings),
            *learning_assets(partitions),
            *task_assets(partitions),
            *messaging_assets(partitions),
            effects_asset(partitions, settings),
            *experiment_assets(sources),
            *export_assets(partitions, settings.home),
            *with_tags,
            *segments,
            *with_affinity,
            *ranking,
        ],
        jobs=[
            *jobs.values(),
            *landing,
            *going_out,
            *tagging,
            *keeping,
            *affine,
            *interested,
            dispatch_job(),
        ],
        schedules=[
            daily_schedule(settings, home),
            weekly_schedule(settings, home),
            dispatch_schedule(settings, home),
            measure_schedule(settings, home),
        ],
        sensors=[
            upload_sensor(jobs["decide"]),
            *(source_sensor(job, sources) for job in landing),
            decide_after_ingest(jobs["ingest"], jobs["decide"]),
            *(export_after_decide(jobs["decide"], job, home) for job in going_out),
            *(segments_after_decide(jobs["decide"], job, home) for job in keeping),
            *(affinity_sensor(job) for job in affine),
            failure_sensor(home),
            stall_sensor(home),
        ],
        resources={"project": ProjectResource(home=home)},
    )
