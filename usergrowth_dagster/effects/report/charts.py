"""The pictures of a report, each made from an :class:`Effect` alone.

Estimates are drawn with their intervals: rates of the arms, lifts, what policies earn. Beside them
stand the funnel, the tenths of the score and the days.
"""

from collections.abc import Sequence
from typing import Any

from usergrowth_dagster.effects.report.drawing import Palette, Picture
from usergrowth_dagster.effects.report.figures import BLOCKED
from usergrowth_dagster.effects.report.words import (
    STEP_WORDS,
    VIEW_NAMES,
    between,
    count,
    per_thousand,
    percent,
    rate,
    rate_interval,
)
from usergrowth_dagster.effects.result import Contrast, Effect, Estimate

_LONGEST = 22


def short(name: str) -> str:
    """A name that fits beside an axis."""
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _brief(name: str) -> str:
    """A name that fits a line of a picture beside its figures."""
    return (
        name if len(name) <= 2 * _LONGEST else name[: 2 * _LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
    )


def rates_picture(effect: Effect) -> Picture | None:
    arms = [arm for arm in effect.arms if arm.users]
    if not arms:
        return None
    bounds = [rate_interval(arm.returned, arm.users, effect.level) or (0.0, 0.0) for arm in arms]

    def draw(figure: Any, c: Palette) -> None:
        axes = figure.add_subplot()
        axes.grid(axis="x")
        top = max(high for _, high in bounds)
        for place, (arm, (low, high)) in enumerate(zip(arms, bounds, strict=True)):
            color = c.control if arm.name == "control" else c.treated
            marker = "s" if arm.name == "control" else "o"
            axes.plot([100 * low, 100 * high], [-place, -place], color=color, linewidth=2)
            axes.plot([100 * arm.rate], [-place], marker, color=color, markersize=7)
            axes.text(
                100 * arm.rate,
                0.2 - place,
                percent(arm.rate),
                ha="center",
                va="bottom",
                color=color,
            )
        axes.set_yticks([-n for n in range(len(arms))], [short(arm.name) for arm in arms])
        axes.set_ylim(0.4 - len(arms), 0.7)
        axes.set_xlim(0, 105 * top if top else 1)
        axes.set_xlabel(f"{effect.words.past} in the window, % of the arm")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)

    rates = "; ".join(f"{arm.name} {percent(arm.rate)} of {count(arm.users)}" for arm in arms)
    return Picture(
        "rates",
        f"Return rates of the arms with their {effect.level:.0%} intervals (Wilson).",
        f"Return rates: {rates}.",
        0.75 + 0.45 * len(arms),
        draw,
    )


def _lift_rows(contrasts: Sequence[Contrast]) -> list[tuple[str, Estimate, bool, bool]]:
    """Name, estimate, whether it is the adjusted one, whether conclusions rest on it."""
    rows = []
    several = len({contrast.treated for contrast in contrasts}) > 1
    for place, contrast in enumerate(contrasts):
        name = VIEW_NAMES[contrast.view]
        if several or contrast.treated != "treatment":
            pair = "" if contrast.control == "control" else f" against {short(contrast.control)}"
            name = f"{short(contrast.treated)}{pair}: {name.lower()}"
        rests = contrast.rests_on if place == 0 else ""
        rows.append((f"{name}, as counted", contrast.absolute, False, rests == "absolute"))
        rows.append((f"{name}, adjusted", contrast.adjusted, True, rests == "adjusted"))
    return rows


def _label(axes: Any, place: float, text: str, paper: str) -> None:
    """A row's words, above its line, from the left edge: names may be long."""
    axes.text(
        0,
        place + 0.22,
        text,
        transform=axes.get_yaxis_transform(),
        va="bottom",
        bbox={"facecolor": paper, "edgecolor": "none", "pad": 0.5},  # no grid through the words
    )


def _lines_only(axes: Any, rows: int) -> None:
    axes.set_yticks([])
    axes.set_ylim(0.6 - rows, 0.85)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.06)


def lift_picture(effect: Effect) -> Picture | None:
    """The lift of each contrast with its interval, plain and adjusted; None without any."""
    rows = _lift_rows(effect.contrasts)
    if not rows:
        return None

    def draw(figure: Any, c: Palette) -> None:
        axes = figure.add_subplot()
        axes.grid(axis="x")
        axes.axvline(0, color=c.ink, linewidth=1)
        for place, (name, estimate, adjusted, rests) in enumerate(rows):
            color = c.third if adjusted else c.treated
            _interval(axes, -place, estimate, 1000, color, "-" if rests else "--")
            axes.plot(
                [1000 * estimate.value],
                [-place],
                "D" if adjusted else "o",
                color=color,
                markerfacecolor=color if rests else "none",
                markersize=6,
            )
            lifts = f"{per_thousand(estimate.value)} {between(estimate, factor=1000)}"
            _label(axes, -place, f"{name}: {lifts}", c.paper)
        _lines_only(axes, len(rows))
        axes.set_xlabel(f"more of 1,000 who {effect.words.past}")

    concludes = effect.verdict not in BLOCKED
    lifts = "; ".join(
        f"{name.lower()} {per_thousand(e.value)} {between(e, factor=1000)}" for name, e, *_ in rows
    )
    return Picture(
        "lift",
        f"Lift in returns of 1,000 with {effect.level:.0%} intervals; zero is no effect."
        + (" Filled and solid: what the conclusion rests on." if concludes else ""),
        f"Lift in returns of 1,000 people: {lifts}.",
        0.6 + 0.46 * len(rows),
        draw,
    )


def _interval(
    axes: Any, place: float, estimate: Estimate, factor: float, color: str, style: str = "-"
) -> None:
    if estimate.low is not None and estimate.high is not None:
        bounds = [factor * estimate.low, factor * estimate.high]
        axes.plot(bounds, [place, place], color=color, linewidth=2, linestyle=style)


def policies_picture(effect: Effect) -> Picture | None:
    answered = [p for p in effect.policies if p.refused is None and p.profit is not None]
    if not answered:
        return None

    def draw(figure: Any, c: Palette) -> None:
        axes = figure.add_subplot()
        axes.grid(axis="x")
        axes.axvline(0, color=c.ink, linewidth=1)
        for place, policy in enumerate(answered):
            profit = policy.profit
            assert profit is not None
            _interval(axes, -place, profit, 1, c.treated)
            axes.plot([profit.value], [-place], "o", color=c.treated, markersize=7)
            profits = f"{count(profit.value)} {between(profit, '{:,.0f}')}"
            _label(axes, -place, f"{_brief(policy.policy)}: {profits}", c.paper)
        _lines_only(axes, len(answered))
        axes.set_xlabel(f"profit over texting nobody, {effect.currency}")

    profits = "; ".join(f"{p.policy} {count(p.profit.value)}" for p in answered if p.profit)
    return Picture(
        "policies",
        f"What each policy would have earned on these people, with {effect.level:.0%} intervals.",
        f"Profit of policies in {effect.currency}: {profits}.",
        0.6 + 0.46 * len(answered),
        draw,
    )


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
