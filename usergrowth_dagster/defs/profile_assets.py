"""The asset of the profiles of a home's segments: what is telling, overlap, and retention."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from usergrowth_dagster.defs.after_decide import run_after_decide
from usergrowth_dagster.defs.metadata import OWNER, data_table, picture, table_schema
from usergrowth_dagster.defs.partitions import day_mapping, partition_days
from usergrowth_dagster.defs.resources import ProjectResource, user_errors
from usergrowth_dagster.defs.segment_assets import SEGMENTS
from usergrowth_dagster.defs.tag_assets import TAGS
from usergrowth_dagster.profiles.segment_retention import WEEKS
from usergrowth_dagster.profiles.segment_tables import PROFILE_COLUMNS
from usergrowth_dagster.profiles.segment_tables import PROFILES as TABLE
from usergrowth_dagster.tags.freshness import TABLE as USER_TAGS

if TYPE_CHECKING:
    from usergrowth_dagster.profiles.of_segments import SegmentProfile, SegmentProfiles

PROFILES = "profiles"
"""Job that profiles the segments of an execution date; also the asset's group."""

AFTER_DECIDE = "profiles_after_decide"
"""Sensor that runs the job when today's date has been decided."""

COMPARED = "every_segment_is_compared"
"""Check that warns of segments without a snapshot."""

PICTURES = 10
"""Segments with a picture in the metadata, the largest ones; the tables have all."""


def profile_assets(partitions: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """The asset of a home that has tags and segments."""

    @dg.asset(
        name=TABLE,
        deps=[
            SEGMENTS,
            USER_TAGS,
            dg.AssetDep("user_day", partition_mapping=day_mapping(-7 * (WEEKS + 1), -1)),
        ],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=PROFILES,
        kinds={"delta", "duckdb"},
        owners=[OWNER],
        description="How the tags of each segment differ from those of everyone on the date, how "
        "the segments overlap, and who came back. What has not changed is not worked out again.",
        metadata={"dagster/column_schema": table_schema(PROFILE_COLUMNS)},
        check_specs=[
            dg.AssetCheckSpec(COMPARED, asset=TABLE, description="Each segment has a snapshot.")
        ],
    )
    def profiled(
        context: dg.AssetExecutionContext, project: ProjectResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        from usergrowth_dagster.profiles.of_segments import profile_segments

        opened = project.open(context)
        with user_errors():
            made = [profile_segments(opened, day) for day in partition_days(context)]
        return _result(made)

    return [profiled]


def profile_job() -> Any:
    """The job that works out tags, segments and profiles of an execution date."""
    selection = dg.AssetSelection.assets(TABLE, SEGMENTS, "user_features")
    return dg.define_asset_job(
        PROFILES,
        selection=selection | dg.AssetSelection.groups(TAGS),
        description="Work out what is telling of each segment on an execution date.",
    )


def profiles_after_decide(decide: Any, job: Any, home: str) -> dg.SensorDefinition:
    """Profile the segments of today when it has been decided; off until it is turned on."""
    description = (
        "Work out tags, segments and profiles of today when it has been decided. With this one on, "
        "those of tags and segments are not needed."
    )
    return run_after_decide(AFTER_DECIDE, decide, job, home, description)


def _result(made: "list[SegmentProfiles]") -> dg.MaterializeResult:  # type: ignore[type-arg]
    newest = made[-1]
    missing = ", ".join(newest.missing)
    metadata: dict[str, Any] = {
        "dagster/row_count": sum(one.rows for one in made),
        "delta_version": newest.version,
        "days_built": sum(not one.unchanged for one in made),
        "days_unchanged": sum(one.unchanged for one in made),
        "segments": data_table(
            ("segment", "snapshot", "people", "not known", "what is telling"),
            [(p.segment, p.snapshot, p.group, p.unknown, p.sentence) for p in newest.profiles],
        ),
        "most telling values": _values(newest.profiles),
        **_pictures(newest),
    }
    return dg.MaterializeResult(
        metadata=metadata,
        check_results=[
            dg.AssetCheckResult(
                check_name=COMPARED,
                passed=not missing,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"sentence": f"without a snapshot: {missing or 'none'}"},
            )
        ],
    )


def _values(profiles: "tuple[SegmentProfile, ...]") -> dg.TableMetadataValue:
    header = ("segment", "tag", "value", "people", "share", "share of base", "TGI", "interval")
    rows = [
        (
            *(p.segment, key, v.value, v.group, round(v.group_share, 4), round(v.base_share, 4)),
            *(round(v.tgi, 1), f"{v.low:.0f} to {v.high:.0f}"),
        )
        for p in profiles
        for key, v in p.telling
    ]
    return data_table(header, rows)


def _pictures(made: "SegmentProfiles") -> dict[str, Any]:
    """The picture of each of the largest segments, and that of their overlap with its counts."""
    from usergrowth_dagster.profiles.pictures import (
        overlap_picture,
        retention_picture,
        telling_picture,
    )

    metadata: dict[str, Any] = {}
    for one in made.profiles[:PICTURES]:
        drawn = telling_picture(one.telling)
        if drawn is not None:
            metadata[f"picture: {one.segment}"] = picture(drawn.png(), drawn.alt)
    if made.overlap is not None:
        sets = [(" + ".join(one.groups), one.people) for one in made.overlap.intersections]
        metadata["overlap"] = data_table(("segments", "people"), sets)
        drawn = overlap_picture(made.overlap)
        metadata["overlap picture"] = picture(drawn.png(), drawn.alt)
    metadata["retention"] = _retention(made)
    for name, cohorts in made.retention.items():
        drawn = retention_picture(cohorts)
        metadata[f"retention picture: {name}"] = picture(drawn.png(), drawn.alt)
    if made.not_overlapped:
        metadata["not in overlap and retention"] = ", ".join(made.not_overlapped)
    if len(made.profiles) > PICTURES:
        metadata["without a picture"] = ", ".join(p.segment for p in made.profiles[PICTURES:])
    return metadata


def _retention(made: "SegmentProfiles") -> dg.TableMetadataValue:
    """A line for each weekly cohort of the largest segments, with its shares."""
    rows = [
        (
            *(name, one.week, one.people),
            *(None if share is None else round(share, 4) for share in one.shares),
        )
        for name, cohorts in made.retention.items()
        for one in cohorts
    ]
    return data_table(("segment", "week", "people", *(f"week {n}" for n in range(WEEKS))), rows)
