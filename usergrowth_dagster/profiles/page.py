"""Pages of a profile, of an overlap and of cohorts: one file each, no script, no request."""

from collections.abc import Sequence
from datetime import date
from typing import Any

from usergrowth_dagster.effects.report.drawing import DARK, LIGHT, Picture, css
from usergrowth_dagster.effects.report.page import template
from usergrowth_dagster.profiles.cohorts import VERBS, CohortTable
from usergrowth_dagster.profiles.journeys import Cohort, Funnel
from usergrowth_dagster.profiles.overlap import Overlap
from usergrowth_dagster.profiles.pictures import (
    funnel_picture,
    overlap_picture,
    retention_picture,
    telling_picture,
)
from usergrowth_dagster.profiles.profile import TELLING, Profile, Spread, TagProfile
from usergrowth_dagster.profiles.telling import telling_values

_ROWS = 12  # values of a tag that the page shows


def summary(profile: Profile) -> str:
    """What the profile says, in one sentence."""
    different = sum(tag.differs for tag in profile.tags)
    if not different:
        return "No tag differs more than chance alone would make it."
    values = telling_values(profile)
    parts = [f"{key} = {one.value} ({one.tgi:.0f})" for key, one in values[:3]]
    most = f"; most telling by TGI: {', '.join(parts)}" if parts else ""
    return f"{different} of {len(profile.tags)} tags differ{most}."


def render_profile(
    profile: Profile,
    *,
    group: str,
    base: str,
    day: date,
    funnel: Funnel | None = None,
    cohorts: Sequence[Cohort] = (),
    stale: Sequence[str] = (),
) -> str:
    """The page as HTML.

    Args:
        profile: what was compared.
        group, base: names of the two.
        day: the execution date.
        funnel: of the group, if one was asked for.
        cohorts: of the group, if they were asked for.
        stale: a sentence for each tag whose values are too old.
    """
    from markupsafe import Markup

    drawn: list[Picture | None] = [telling_picture(telling_values(profile))]
    drawn += [funnel_picture(funnel) if funnel else None]
    drawn += [retention_picture(cohorts) if cohorts else None]
    return template("profile.html.j2", __package__).render(
        title=f"Profile of {group}",
        kicker=f"Beside {base} · as of {day}",
        sentence=summary(profile),
        tiles=[
            {"name": "people of the group", "value": f"{profile.group:,}", "remark": group},
            {"name": "people of the base", "value": f"{profile.base:,}", "remark": base},
            {
                "name": "not known on the date",
                "value": f"{profile.unknown:,}",
                "remark": "of the group; they have no tags",
            },
        ],
        tags=[
            _row(
                [tag.key, f"{tag.cramers_v:.3f}", _p_value(tag.p_value)],
                "" if tag.differs else "loss",
            )
            for tag in profile.tags
        ],
        details=[_details(tag) for tag in profile.tags[:TELLING]],
        pictures={
            one.name: {"svg": Markup(one.svg()), "caption": one.caption} for one in drawn if one
        },
        retention_header=["week", "people", *map(str, range(len(cohorts)))],
        retention=[_row(retention_cells(cohort)) for cohort in cohorts],
        left_out="; ".join(f"{key} ({reason})" for key, reason in profile.left_out),
        stale=list(stale),
        light=css(LIGHT),
        dark=css(DARK),
    )


def render_overlap(overlap: Overlap, day: date) -> str:
    """The page of an overlap as HTML.

    Args:
        overlap: what was counted.
        day: the execution date.
    """
    from markupsafe import Markup

    drawn = overlap_picture(overlap)
    return template("overlap.html.j2", __package__).render(
        groups=list(overlap.sizes),
        day=day,
        pictures={drawn.name: {"svg": Markup(drawn.svg()), "caption": drawn.caption}},
        intersections=[
            _row([" + ".join(one.groups), f"{one.people:,}"]) for one in overlap.intersections
        ],
        pairs=[
            _row(
                [
                    f"{pair.one} + {pair.other}",
                    f"{pair.both:,}",
                    f"{100 * pair.of_smaller:.1f} %",
                    f"{100 * pair.jaccard:.1f} %",
                ]
            )
            for pair in overlap.pairs
        ],
        light=css(LIGHT),
        dark=css(DARK),
    )


def render_cohorts(made: CohortTable, group: str, day: date) -> str:
    """The page of weekly cohorts as HTML.

    Args:
        made: what was counted.
        group: name of the group.
        day: the execution date.
    """
    from markupsafe import Markup

    drawn = retention_picture(made.shares, "cohorts")
    new = sum(one.people for one in made.cohorts)
    return template("cohorts.html.j2", __package__).render(
        title=f"Cohorts of {group}",
        day=day,
        sentence=f"{new:,} of {made.people:,} people {VERBS[made.by]} in the "
        f"{len(made.cohorts)} weeks before the date.",
        pictures={drawn.name: {"svg": Markup(drawn.svg()), "caption": drawn.caption}},
        header=["week", "people", *map(str, range(len(made.cohorts)))],
        rows=[
            _row([str(one.week), f"{one.people:,}", *map(_count, one.active)])
            for one in made.cohorts
        ],
        sentences=made.sentences,
        light=css(LIGHT),
        dark=css(DARK),
    )


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def retention_cells(cohort: Cohort) -> list[str]:
    """A cohort as cells of a table."""
    shares = ["" if share is None else f"{100 * share:.0f} %" for share in cohort.shares]
    return [str(cohort.week), f"{cohort.people:,}", *shares]


def _row(cells: list[str], kind: str = "") -> dict[str, Any]:
    return {"cells": cells, "kind": kind}


def _details(tag: TagProfile) -> dict[str, Any]:
    rows = [
        _row(
            [
                one.value,
                f"{one.group:,}",
                f"{100 * one.group_share:.1f} %",
                f"{100 * one.base_share:.1f} %",
                f"{one.tgi:.0f}",
                f"{one.low:.0f} to {one.high:.0f}",
            ],
            "" if one.is_telling else "loss",
        )
        for one in tag.values[:_ROWS]
    ]
    spreads = {"the group": tag.group_spread, "the base": tag.base_spread}
    return {
        "name": tag.key,
        "rows": rows,
        "spread": [_row(_spread(name, one)) for name, one in spreads.items() if one is not None],
    }


def _spread(name: str, spread: Spread) -> list[str]:
    mean = "" if spread.mean is None else f"{spread.mean:.4g}"
    return [name, mean, *(f"{one:.4g}" for one in spread.quantiles)]


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
