"""Profiles, overlaps, funnels and retention of groups, as people look at them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.profiles.cohorts import Began, CohortTable, cohorts_of
from usergrowth_dagster.profiles.journeys import Cohort, Funnel, funnel_of, retention_of
from usergrowth_dagster.profiles.of_segments import SegmentProfiles, profile_segments
from usergrowth_dagster.profiles.overlap import Overlap, overlap_of
from usergrowth_dagster.profiles.page import (
    render_cohorts,
    render_overlap,
    render_profile,
    summary,
)
from usergrowth_dagster.profiles.people import EVERYONE, bind_people
from usergrowth_dagster.profiles.profile import Profile, profile_of
from usergrowth_dagster.project import Project
from usergrowth_dagster.tags.flows import written_days
from usergrowth_dagster.tags.freshness import TABLE, stale_tags
from usergrowth_dagster.tags.run import tags_with_values
from usergrowth_dagster.tags.user_tags import bind_user_tags
from usergrowth_dagster.warehouse.engine import open_engine


@dataclass(frozen=True)
class ProfileView:
    """A profile, what it says, and its page.

    Attributes:
        group, base: names of the two.
        day: the execution date.
        sentence: what it says.
        profile: all of it.
        hidden: keys of personal and sensitive tags, whose values are not shown.
        stale: a sentence for each compared tag whose values are too old.
        page: the file.
    """

    group: str
    base: str
    day: date
    sentence: str
    profile: Profile
    hidden: tuple[str, ...]
    stale: tuple[str, ...]
    page: Path


def newest_day(project: Project) -> date:
    """The newest date of which tags have been worked out.

    Raises:
        UserError: there is none.
    """
    days = written_days(project, TABLE)
    if not days:
        raise UserError(
            "no tags have been worked out; `usergrowth tags run --date DATE` does it",
            code="tag.not_ready",
        )
    return days[-1]


def view_profile(
    project: Project,
    group: str,
    base: str = EVERYONE,
    day: date | None = None,
    steps: Sequence[str] = (),
    *,
    personal: bool = False,
) -> ProfileView:
    """Compare a group with a base and write the page.

    Args:
        project: the home.
        group, base: names as :func:`bind_people` takes them.
        day: the execution date; None: the newest with tags.
        steps: behaviors of a funnel; none: no funnel.
        personal: whether personal tags are compared; sensitive ones never are.

    Raises:
        UserError: a group is not there, or no tags of the date are.
    """
    day = day or newest_day(project)
    tags = tags_with_values(project)
    hidden = tuple(tag.key for tag, _ in tags if tag.is_hidden(personal=personal))
    # Values of personal and sensitive tags stay off the page, so they are not compared.
    compared = [(tag, kind) for tag, kind in tags if tag.key not in hidden]
    stale = tuple(stale_tags(project, [tag for tag, _ in compared], day))
    with open_engine(project.settings) as engine:
        people = bind_people(engine, project, group, day)
        beside = None if base == EVERYONE else bind_people(engine, project, base, day)
        known = bind_user_tags(engine, project, day)
        types = [(tag.key, kind) for tag, kind in compared]
        profile = profile_of(engine, known, types, people, beside)
        funnel = funnel_of(engine, project, people, steps, day=day) if steps else None
        cohorts = retention_of(engine, project, people, day=day)
    html = render_profile(
        profile,
        group=group,
        base=base,
        day=day,
        funnel=funnel,
        cohorts=cohorts,
        stale=stale,
    )
    page = _write(project, f"profile-{group}-{day}", html)
    return ProfileView(group, base, day, summary(profile), profile, hidden, stale, page)


def view_segment_profiles(project: Project, day: date | None = None) -> SegmentProfiles:
    """The profiles of all segments of the home on a date; see :func:`profile_segments`.

    Args:
        project: the home.
        day: the execution date; None: the newest with tags.

    Raises:
        UserError: no tags of the date have been worked out.
    """
    return profile_segments(project, day or newest_day(project))


def view_overlap(
    project: Project, groups: Sequence[str], day: date | None = None
) -> tuple[Overlap, Path]:
    """The overlap of groups, and the page that shows it.

    Raises:
        UserError: a group is not there, or they are too few or too many.
    """
    with open_engine(project.settings) as engine:
        day = day or newest_day(project)
        bound = {name: bind_people(engine, project, name, day) for name in dict.fromkeys(groups)}
        overlap = overlap_of(engine, bound)
    return overlap, _write(project, f"overlap-{day}", render_overlap(overlap, day))


def view_funnel(
    project: Project,
    group: str,
    steps: Sequence[str],
    day: date | None = None,
    *,
    days: int = 90,
    within_days: int = 30,
) -> Funnel:
    """The funnel of a group; see :func:`funnel_of`."""
    day = day or newest_day(project)
    with open_engine(project.settings) as engine:
        people = bind_people(engine, project, group, day)
        return funnel_of(
            engine, project, people, steps, day=day, days=days, within_days=within_days
        )


def view_retention(
    project: Project, group: str, day: date | None = None, *, weeks: int = 12
) -> list[Cohort]:
    """The weekly cohorts of a group; see :func:`retention_of`."""
    day = day or newest_day(project)
    with open_engine(project.settings) as engine:
        people = bind_people(engine, project, group, day)
        return retention_of(engine, project, people, day=day, weeks=weeks)


def view_cohorts(
    project: Project, group: str, by: Began, day: date | None = None, *, weeks: int = 12
) -> tuple[CohortTable, Path]:
    """The weekly cohorts of a group by what began them, and the page that shows them.

    Raises:
        UserError: the group is not there, or no features of the date are.
    """
    day = day or newest_day(project)
    with open_engine(project.settings) as engine:
        people = bind_people(engine, project, group, day)
        made = cohorts_of(engine, project, people, day=day, by=by, weeks=weeks)
    return made, _write(project, f"cohorts-{group}-{day}", render_cohorts(made, group, day))


def _write(project: Project, name: str, html: str) -> Path:
    safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
    page, _ = project.report_paths(safe)
    page.parent.mkdir(parents=True, exist_ok=True)
    draft = page.with_suffix(".tmp")
    draft.write_text(html, encoding="utf-8")
    draft.replace(page)
    return page
