"""The pictures of a report, each made from an :class:`Effect` alone."""

from typing import Any

from usergrowth_dagster.effects.report.drawing import Palette, Picture
from usergrowth_dagster.effects.report.intervals import (
    lift_picture,
    policies_picture,
    rates_picture,
)
from usergrowth_dagster.effects.report.words import (
    STEP_WORDS,
    count,
    percent,
    rate,
)
from usergrowth_dagster.effects.result import Effect


def pictures(effect: Effect) -> dict[str, Picture]:
    """All pictures that the effect has the figures for, by name."""
    made = (
        _funnel(effect),
        rates_picture(effect),
        lift_picture(effect),
        _deciles(effect),
        _daily(effect),
        policies_picture(effect),
    )
    return {picture.name: picture for picture in made if picture is not None}


def _funnel(effect: Effect) -> Picture | None:
    steps = effect.funnel.steps
    if not steps or not max(steps.values()):
        return None
    names, rows = list(steps), list(steps.values())
    before = [rows[0], *rows[:-1]]

    def draw(figure: Any, c: Palette) -> None:
        axes = figure.add_subplot()
        places = range(len(names), 0, -1)
        axes.barh(places, rows, color=c.treated, height=0.62)
        lost = [b - r for b, r in zip(before, rows, strict=True)]
        axes.barh(places, lost, left=rows, color=c.loss, height=0.62)
        room = max(rows) * 0.015
        for place, b, r, gone in zip(places, before, rows, lost, strict=True):
            label = f"{count(r)}  (\N{MINUS SIGN}{count(gone)})" if gone else count(r)
            axes.text(b + room, place, label, va="center", ha="left")
        axes.set_yticks(list(places), [STEP_WORDS.get(name, name) for name in names])
        axes.set_xlim(0, max(rows) * 1.42)
        axes.tick_params(length=0)
        axes.set_xticks([])
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)

    label = ", ".join(
        f"{STEP_WORDS.get(name, name).lower()} {count(n)}" for name, n in steps.items()
    )
    return Picture(
        "funnel",
        "From the upload to the returns: blue went on, gray was lost at the step.",
        f"Bar chart of the funnel: {label}.",
        0.35 + 0.36 * len(names),
        draw,
    )


def _deciles(effect: Effect) -> Picture | None:
    deciles = effect.deciles
    if not any(d.treated for d in deciles):
        return None
    lifts = [(d.decile, d.lift) for d in deciles if d.lift is not None]
    predicted = [(d.decile, 1000 * u) for d in deciles if (u := d.predicted_uplift) is not None]
    treated = [(d.decile, 100 * r) for d in deciles if (r := d.treated_rate) is not None]
    control = [(d.decile, 100 * r) for d in deciles if (r := d.control_rate) is not None]

    def draw(figure: Any, c: Palette) -> None:
        top, bottom = figure.subplots(2, 1, sharex=True)
        for axes in (top, bottom):
            axes.grid(axis="y")
        top.plot(*zip(*treated, strict=True), "o-", color=c.treated, label="to be texted")
        if control:
            top.plot(*zip(*control, strict=True), "s--", color=c.control, label="control group")
        top.set_ylim(bottom=0)
        top.set_ylabel(f"{effect.words.past}, %")
        top.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        bottom.axhline(0, color=c.ink, linewidth=1)
        for place, lift in lifts:
            if lift.low is not None and lift.high is not None:
                bounds = [1000 * lift.low, 1000 * lift.high]
                bottom.plot([place, place], bounds, color=c.treated, linewidth=2)
        values = [1000 * lift.value for _, lift in lifts]
        bottom.plot([n for n, _ in lifts], values, "o", color=c.treated, label="measured")
        if predicted:
            bottom.plot(
                *zip(*predicted, strict=True),
                "D--",
                color=c.third,
                markersize=4,
                label="predicted uplift",
            )
            bottom.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        bottom.set_ylabel("more of 1,000")
        bottom.set_xlabel("tenth by score (1: highest)")
        bottom.set_xticks([d.decile for d in deciles])

    rates = "; ".join(
        f"{d.decile}: {rate(d.treated_rate)} against {rate(d.control_rate)}" for d in deciles
    )
    words = ", and the predicted uplift" if predicted else ""
    return Picture(
        "deciles",
        "By tenth of the score: return rates of both arms, and below their difference with its "
        f"interval{words}.",
        f"Return rates by tenth of the score, to be texted against control: {rates}.",
        4.2,
        draw,
    )


def _daily(effect: Effect) -> Picture | None:
    sizes = {arm.name: arm.users for arm in effect.arms}
    treated, control = sizes.get("treatment", 0), sizes.get("control", 0)
    if len(effect.daily) < 2 or not treated:
        return None
    days = [effect.daily[0].day - 1, *(d.day for d in effect.daily)]

    def draw(figure: Any, c: Palette) -> None:
        axes = figure.add_subplot()
        axes.grid(axis="y")
        shares = [0.0, *(100 * d.treated / treated for d in effect.daily)]
        axes.step(days, shares, where="post", color=c.treated, linewidth=2, label="to be texted")
        if control:
            shares = [0.0, *(100 * d.control / control for d in effect.daily)]
            axes.step(
                days,
                shares,
                where="post",
                color=c.control,
                linewidth=2,
                linestyle="--",
                label="control group",
            )
        axes.set_ylim(bottom=0)
        axes.set_xlim(days[0], days[-1])
        axes.set_ylabel(f"had {effect.words.participle}, %")
        axes.set_xlabel("day after the execution date")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(loc="lower right")

    last = effect.daily[-1]
    rates = f"by day {last.day} {percent(last.treated / treated)} of those to be texted"
    if control:
        rates += f" and {percent(last.control / control)} of the control group"
    return Picture(
        "daily",
        f"Share of each arm that had {effect.words.participle} by the end of a day of the window.",
        f"Returns by day of the window: {rates}.",
        2.7,
        draw,
    )
