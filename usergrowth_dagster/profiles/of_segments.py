"""The profiles of all segments of a home on an execution date, their overlap and their retention.

They are kept in Delta tables, so that a command, a job and a query show the same. A date is worked
out again only where a snapshot, the tags of the date or the compared tags have changed.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from usergrowth_dagster.profiles.journeys import Cohort
from usergrowth_dagster.profiles.overlap import MOST, Overlap, overlap_from, overlap_of
from usergrowth_dagster.profiles.page import summary
from usergrowth_dagster.profiles.people import SEGMENT, bind_people
from usergrowth_dagster.profiles.profile import Profile, ValueShare, profile_of
from usergrowth_dagster.profiles.segment_retention import (
    read_retention,
    retention_inputs,
    write_retention,
)
from usergrowth_dagster.profiles.segment_tables import (
    OVERLAP_COLUMNS,
    OVERLAPS,
    PROFILE_COLUMNS,
    PROFILES,
    RETENTION,
    replace_rows,
)
from usergrowth_dagster.profiles.telling import telling_values
from usergrowth_dagster.project import Project
from usergrowth_dagster.segments.files import segment_files
from usergrowth_dagster.segments.snapshots import Snapshot, good, read_snapshots
from usergrowth_dagster.tags.definition import TagType
from usergrowth_dagster.tags.run import tags_with_values
from usergrowth_dagster.tags.user_tags import bind_user_tags
from usergrowth_dagster.warehouse.columns import types_of
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.relation import bind_days

VERSION = "2"
"""Raised when the same snapshots and tags would give other rows."""

_TABLES = (PROFILES, OVERLAPS, RETENTION)


@dataclass(frozen=True)
class SegmentProfile:
    """The profile of one segment in short.

    Attributes:
        segment: its name.
        snapshot: the snapshot that is compared.
        group: people of it who are known on the date.
        base: people known on the date.
        unknown: people of it who are not known.
        sentence: what the profile says.
        telling: the most telling value of each of the most different tags, with the tag's key.
    """

    segment: str
    snapshot: str
    group: int
    base: int
    unknown: int
    sentence: str
    telling: tuple[tuple[str, ValueShare], ...]


@dataclass(frozen=True)
class SegmentProfiles:
    """The profiles of a date as they stand after a run.

    Attributes:
        day: the execution date.
        profiles: the segments, the largest first.
        missing: segments without a snapshot up to the date; they are not compared.
        overlap: of the largest segments; None where there are fewer than two.
        retention: weekly cohorts of the largest segments.
        not_overlapped: segments beside the largest ones; overlap and retention leave them out.
        rows: of the table of profiles.
        version: its Delta version.
        unchanged: whether all stood already.
    """

    day: date
    profiles: tuple[SegmentProfile, ...]
    missing: tuple[str, ...]
    overlap: Overlap | None
    retention: Mapping[str, Sequence[Cohort]]
    not_overlapped: tuple[str, ...]
    rows: int
    version: int | None
    unchanged: bool


def profile_segments(project: Project, day: date) -> SegmentProfiles:
    """Compare every segment of a home with everyone, unless that stands already.

    Personal and sensitive tags are not compared, since the tables hold values.

    Args:
        project: the home.
        day: the execution date.

    Raises:
        UserError: no tags of the date have been worked out.
    """
    types = [(tag.key, kind) for tag, kind in tags_with_values(project) if not tag.is_hidden()]
    chosen = _chosen(project, day)
    missing = tuple(sorted(segment_files(project.settings.home).keys() - chosen.keys()))
    with open_engine(project.settings) as engine:
        known = bind_user_tags(engine, project, day)
        facts = retention_inputs(engine, project, day)
    parts = [
        VERSION,
        known.fingerprint,
        facts,
        types,
        [(one.segment, one.snapshot, one.fingerprint) for one in chosen.values()],
    ]
    mark = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    warehouse = project.warehouse
    unchanged = all(warehouse.fingerprint(table, day) == mark for table in _TABLES)
    if not unchanged:
        made = {name: _profile(project, types, name, day) for name in chosen}
        largest = _largest(made)
        _write_overlap(project, largest, day, mark)
        write_retention(project, largest[:MOST], day, mark)
        _write_profiles(project, made, chosen, day, mark)
    return _read(project, day, missing, unchanged=unchanged)


def _chosen(project: Project, day: date) -> dict[str, Snapshot]:
    """By segment, its newest snapshot up to the date."""
    chosen = {}
    with open_engine(project.settings) as engine:
        for name in sorted(segment_files(project.settings.home)):
            if candidates := good(read_snapshots(engine, project.warehouse, name), until=day):
                chosen[name] = candidates[-1]
    return chosen


def _profile(
    project: Project, types: Sequence[tuple[str, TagType]], name: str, day: date
) -> Profile:
    """One at a time in an engine of its own, since each keeps a copy of the tags."""
    with open_engine(project.settings) as engine:
        people = bind_people(engine, project, f"{SEGMENT}:{name}", day)
        return profile_of(engine, bind_user_tags(engine, project, day), types, people)


def _largest(made: Mapping[str, Profile]) -> list[str]:
    """Segments by size, the largest first."""
    return sorted(made, key=lambda name: (-made[name].group - made[name].unknown, name))


def _write_overlap(project: Project, names: Sequence[str], day: date, mark: str) -> None:
    rows: list[dict[str, Any]] = []
    if len(names) >= 2:
        with open_engine(project.settings) as engine:
            groups = {
                name: bind_people(engine, project, f"{SEGMENT}:{name}", day)
                for name in names[:MOST]
            }
            overlap = overlap_of(engine, groups)
        rows = [
            {"ds": day, "segments": list(one.groups), "people": one.people}
            for one in overlap.intersections
        ]
    replace_rows(project, OVERLAPS, OVERLAP_COLUMNS, rows, day, mark)


def _write_profiles(
    project: Project,
    made: Mapping[str, Profile],
    chosen: Mapping[str, Snapshot],
    day: date,
    mark: str,
) -> None:
    rows = [row for name, profile in made.items() for row in _rows(name, profile, day)]
    note = {
        "segments": {
            name: {
                "snapshot": chosen[name].snapshot,
                "group": profile.group,
                "base": profile.base,
                "unknown": profile.unknown,
                "sentence": summary(profile),
            }
            for name, profile in made.items()
        }
    }
    replace_rows(project, PROFILES, PROFILE_COLUMNS, rows, day, mark, note)


def _rows(name: str, profile: Profile, day: date) -> list[dict[str, Any]]:
    most = {(key, one.value) for key, one in telling_values(profile)}
    return [
        {
            "ds": day,
            "segment": name,
            "place": place,
            "tag": tag.key,
            "cramers_v": tag.cramers_v,
            "p_value": tag.p_value,
            "value": one.value,
            "people": one.group,
            "people_of_base": one.base,
            "share": one.group_share,
            "share_of_base": one.base_share,
            "tgi": one.tgi,
            "low": one.low,
            "high": one.high,
            "is_telling": one.is_telling,
            "is_most_telling": (tag.key, one.value) in most,
        }
        for place, tag in enumerate(profile.tags, 1)
        for one in tag.values
    ]


def _read(
    project: Project, day: date, missing: tuple[str, ...], *, unchanged: bool
) -> SegmentProfiles:
    """The date as its tables have it."""
    warehouse = project.warehouse
    note = warehouse.notes(PROFILES, first=day, last=day).get(day, {}).get("segments", {})
    with open_engine(project.settings) as engine:
        table = bind_days(engine, warehouse, PROFILES, [day], types_of(PROFILE_COLUMNS))
        shares = ("people", "people_of_base", "share", "share_of_base", "tgi", "low", "high")
        telling: dict[str, list[tuple[str, ValueShare]]] = {name: [] for name in note}
        for segment, tag, *values in engine.rows(
            f"select segment, tag, value, {', '.join(shares)} from {table} "
            "where is_most_telling order by segment, place"
        ):
            telling[segment].append((tag, ValueShare(*values)))
        sets = bind_days(engine, warehouse, OVERLAPS, [day], types_of(OVERLAP_COLUMNS))
        intersections = engine.rows(
            f"select segments, people from {sets} order by people desc, segments"
        )
    profiles = [
        SegmentProfile(segment=name, telling=tuple(telling[name]), **of_segment)
        for name, of_segment in note.items()
    ]
    profiles.sort(key=lambda one: (-one.group - one.unknown, one.segment))
    names_by_size = [one.segment for one in profiles]
    compared = names_by_size[:MOST] if len(profiles) >= 2 else []
    retention = read_retention(project, day)
    return SegmentProfiles(
        day=day,
        profiles=tuple(profiles),
        missing=missing,
        overlap=overlap_from(compared, intersections) if compared else None,
        retention={name: retention[name] for name in names_by_size if name in retention},
        not_overlapped=tuple(names_by_size[MOST:]),
        rows=warehouse.row_counts(PROFILES, first=day, last=day).get(day, 0),
        version=warehouse.version(PROFILES),
        unchanged=unchanged,
    )
