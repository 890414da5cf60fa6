"""Pictures of a profile: its most telling values, overlaps, a funnel, and who came back."""

from collections.abc import Sequence
from typing import Any

from usergrowth_dagster.effects.report.charts import short
from usergrowth_dagster.effects.report.drawing import Palette, Picture
from usergrowth_dagster.profiles.journeys import Cohort, Funnel
from usergrowth_dagster.profiles.overlap import Overlap
from usergrowth_dagster.profiles.profile import PAR, ValueShare

_TICKS = (1, 2, 5, 10, 25, 50, 100, 200, 400, 1000, 2500, 10_000)  # of an axis of TGIs
_INTERSECTIONS = 12  # columns of an UpSet picture


def telling_picture(values: Sequence[tuple[str, ValueShare]]) -> Picture | None:
    """TGI with its interval of values, each with its tag's key; None without values."""
    if not values:
        return None
    names = [f"{short(key)} = {short(one.value)}" for key, one in values]

    def draw(figure: Any, c: Palette) -> None:
        axes = figure.add_subplot()
        axes.grid(axis="x")
        axes.axvline(PAR, color=c.muted, linewidth=1)
        for place, (_, one) in enumerate(values):
            color, marker = (c.treated, "o") if one.tgi > PAR else (c.control, "s")
            axes.plot([one.low, one.high], [-place, -place], color=color, linewidth=2)
            axes.plot([one.tgi], [-place], marker, color=color, markersize=6)
        axes.set_yticks([-n for n in range(len(names))], names)
        axes.set_ylim(0.5 - len(names), 0.5)
        axes.set_xscale("log")
        low, high = min(one.low for _, one in values), max(one.high for _, one in values)
        ticks = [tick for tick in _TICKS if low / 1.5 <= tick <= high * 1.5]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("TGI; 100 is the share in the base")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)

    shown = "; ".join(
        f"{name}: {one.tgi:.0f}" for name, (_, one) in zip(names, values, strict=True)
    )
    return Picture(
        "telling",
        "The most telling value of the tags that differ most, with 95 % intervals.",
        f"TGI of the most telling values: {shown}.",
        0.9 + 0.3 * len(values),
        draw,
    )


def overlap_picture(overlap: Overlap) -> Picture:
    """An UpSet picture: people by the exact set of groups (A. Lex et al., IEEE TVCG 2014)."""
    shown = overlap.intersections[:_INTERSECTIONS]
    groups = list(overlap.sizes)

    def draw(figure: Any, c: Palette) -> None:
        bars, dots = figure.subplots(2, 1, sharex=True, height_ratios=[2, len(groups) * 0.45])
        places = range(len(shown))
        bars.bar(places, [one.people for one in shown], color=c.treated, width=0.6)
        for place, one in zip(places, shown, strict=True):
            bars.text(place, one.people, f"{one.people:,}", ha="center", va="bottom", fontsize=7)
        bars.set_ylabel("people")
        bars.tick_params(axis="x", length=0)
        for place, one in zip(places, shown, strict=True):
            inside = [-row for row, name in enumerate(groups) if name in one.groups]
            outside = [-row for row, name in enumerate(groups) if name not in one.groups]
            dots.plot([place] * len(outside), outside, "o", color=c.loss, markersize=5)
            dots.plot([place] * len(inside), inside, "-o", color=c.ink, markersize=5)
        dots.set_yticks([-row for row in range(len(groups))], [short(name) for name in groups])
        dots.set_ylim(0.6 - len(groups), 0.6)
        dots.set_xticks([])
        for side in ("left", "bottom"):
            dots.spines[side].set_visible(False)
        dots.tick_params(axis="y", length=0)

    words = "; ".join(f"{' and '.join(one.groups)}: {one.people:,}" for one in shown)
    return Picture(
        "overlap",
        "People by the exact set of groups that they are in.",
        f"People in exactly these groups: {words}.",
        2.2 + 0.3 * len(groups),
        draw,
    )


def funnel_picture(funnel: Funnel) -> Picture:
    """People by step, as bars."""

    def draw(figure: Any, c: Palette) -> None:
        axes = figure.add_subplot()
        names = ["in the group", *(short(step.behavior) for step in funnel.steps)]
        numbers = [funnel.people, *(step.people for step in funnel.steps)]
        places = [-n for n in range(len(names))]
        axes.barh(places, numbers, color=c.treated, height=0.6)
        for place, number in zip(places, numbers, strict=True):
            axes.text(number, place, f" {number:,}", va="center")
        axes.set_yticks(places, names)
        axes.set_xlim(0, 1.18 * max(*numbers, 1))
        axes.set_xticks([])
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        axes.tick_params(axis="y", length=0)

    words = "; ".join(f"{step.behavior} {step.people:,}" for step in funnel.steps)
    return Picture(
        "funnel",
        f"People who did the steps in order, the last within {funnel.within_days} days of the "
        "first.",
        f"Funnel of {funnel.people:,} people: {words}.",
        0.7 + 0.4 * (len(funnel.steps) + 1),
        draw,
    )


def retention_picture(cohorts: Sequence[Cohort], name: str = "retention") -> Picture:
    """Shares that were active, by cohort and week.

    Args:
        cohorts: the oldest first.
        name: ``retention`` of cohorts by activity, or ``cohorts`` of those by another beginning.
    """

    def draw(figure: Any, c: Palette) -> None:
        axes = figure.add_subplot()
        weeks = len(cohorts)
        for row, cohort in enumerate(cohorts):
            for column, share in enumerate(cohort.shares):
                if share is None or not cohort.people:
                    continue
                box = {"facecolor": c.treated, "edgecolor": "none", "alpha": 0.08 + 0.6 * share}
                axes.add_patch(_rectangle(column - 0.5, -row - 0.5, box))
                text = f"{100 * share:.0f}"
                axes.text(column, -row, text, ha="center", va="center", fontsize=7)
        axes.set_xlim(-0.5, weeks - 0.5)
        axes.set_ylim(0.5 - weeks, 0.5)
        axes.set_yticks([-n for n in range(weeks)], [f"{one.week:%d %b}" for one in cohorts])
        axes.set_xticks(range(weeks), [str(n) for n in range(weeks)])
        axes.set_xlabel("weeks later; % of the cohort")
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)

    first = cohorts[0] if cohorts else None
    again = " again" if name == "retention" else ""
    return Picture(
        name,
        f"Share of each week's cohort that was active{again}, by weeks since.",
        f"Activity of {len(cohorts)} weekly cohorts"
        + (f"; the first has {first.people:,} people." if first else "."),
        0.9 + 0.24 * len(cohorts),
        draw,
    )


def _rectangle(x: float, y: float, style: dict[str, Any]) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), 1, 1, **style)
