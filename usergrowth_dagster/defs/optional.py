"""What the files of a home add to the code location: a part for each capability that it uses.

A capability that a home may have or not is one function here, and is named in :data:`PARTS`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from usergrowth_dagster.data.contracts import IDENTITY
from usergrowth_dagster.defs.acquisition_assets import (
    acquisition_after_decide,
    acquisition_assets,
    acquisition_job,
)
from usergrowth_dagster.defs.affinity_assets import (
    affinity_assets,
    affinity_job,
    affinity_sensor,
)
from usergrowth_dagster.defs.after_decide import run_after_decide
from usergrowth_dagster.defs.experiment_assets import experiment_assets
from usergrowth_dagster.defs.export_assets import (
    export_after_decide,
    export_assets,
    export_job,
    exports_of_home,
)
from usergrowth_dagster.defs.identity_assets import identity_assets, identity_job
from usergrowth_dagster.defs.interest_assets import interest_assets, interest_job
from usergrowth_dagster.defs.profile_assets import (
    profile_assets,
    profile_job,
    profiles_after_decide,
)
from usergrowth_dagster.defs.recommend_assets import recommend_assets, recommend_job
from usergrowth_dagster.defs.segment_assets import (
    segment_assets,
    segment_job,
    segments_after_decide,
)
from usergrowth_dagster.defs.source_assets import sources_of_home
from usergrowth_dagster.defs.tag_assets import catalogue_of_home, tag_assets, tag_job
from usergrowth_dagster.settings import Settings

TAGS_AFTER_DECIDE = "tags_after_decide"
"""Sensor that works out the tags of today's date when it has been decided."""


@dataclass(frozen=True)
class Base:
    """What every part is built upon.

    Attributes:
        settings: the home's settings.
        partitions: execution dates.
        decide: the job that decides a date.
        home: the home folder as it was given; empty: that of the environment.
        upstream: by landing table, the assets of the sources that fill it.
    """

    settings: Settings
    partitions: dg.PartitionsDefinition[str]
    decide: Any
    home: str
    upstream: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Part:
    """Assets with the jobs that make them and the sensors that run the jobs; empty: not in use."""

    assets: Sequence[dg.AssetsDefinition] = ()
    jobs: Sequence[Any] = ()
    sensors: Sequence[dg.SensorDefinition] = ()


def _experiments(base: Base) -> Part:
    return Part(experiment_assets(sources_of_home(base.settings.home)[0]))


def _exports(base: Base) -> Part:
    exports, _ = exports_of_home(base.settings.home)
    assets = export_assets(base.partitions, base.settings.home)
    if not exports:
        return Part(assets)
    job = export_job(exports)
    return Part(assets, [job], [export_after_decide(base.decide, job, base.home)])


def _tags_segments_and_profiles(base: Base) -> Part:
    """One part, since segments read tags, and profiles both."""
    catalogue, unreadable = catalogue_of_home(base.settings.home)
    tags = tag_assets(base.partitions, base.settings, catalogue, unreadable)
    segments = segment_assets(base.partitions, base.settings.home, tags)
    jobs, sensors = [], []
    if catalogue is not None:
        jobs.append(tag_job())
        description = (
            "Work out the tags of today when it has been decided, so that scores are those of "
            "today. A home with segments needs this one not: their job works out tags too."
        )
        sensors.append(
            run_after_decide(TAGS_AFTER_DECIDE, base.decide, jobs[-1], base.home, description)
        )
    if segments:
        jobs.append(segment_job())
        sensors.append(segments_after_decide(base.decide, jobs[-1], base.home))
    if not segments or catalogue is None or not catalogue.tags:
        return Part([*tags, *segments], jobs, sensors)
    profiles = profile_assets(base.partitions)
    jobs.append(profile_job())
    sensors.append(profiles_after_decide(base.decide, jobs[-1], base.home))
    return Part([*tags, *segments, *profiles], jobs, sensors)


def _affinity(base: Base) -> Part:
    assets = affinity_assets(base.settings)
    if not assets:
        return Part()
    job = affinity_job()
    return Part(assets, [job], [affinity_sensor(job)])


def _identity(base: Base) -> Part:
    waits_for = base.upstream.get(IDENTITY, ())
    assets = identity_assets(base.partitions, base.settings.home, waits_for)
    return Part(assets, [identity_job()]) if assets else Part()


def _interest(base: Base) -> Part:
    assets = interest_assets(base.partitions, base.settings.home)
    return Part(assets, [interest_job()]) if assets else Part()


def _recommend(base: Base) -> Part:
    assets = recommend_assets(base.partitions, base.settings.home)
    return Part(assets, [recommend_job()]) if assets else Part()


def _acquisition(base: Base) -> Part:
    assets = acquisition_assets(base.partitions, base.settings.home)
    if not assets:
        return Part()
    job = acquisition_job()
    return Part(assets, [job], [acquisition_after_decide(base.decide, job, base.home)])


PARTS: Sequence[Callable[[Base], Part]] = (
    _experiments,
    _exports,
    _tags_segments_and_profiles,
    _affinity,
    _identity,
    _interest,
    _recommend,
    _acquisition,
)
"""Every part that a home may have."""
