"""Pictures of estimates with their intervals: rates of the arms, lifts, what policies earn."""

from collections.abc import Sequence
from typing import Any

from usergrowth_dagster.effects.report.drawing import Palette, Picture
from usergrowth_dagster.effects.report.main_figures import BLOCKED
from usergrowth_dagster.effects.report.words import (
    VIEW_NAMES,
    between,
    count,
    per_thousand,
    percent,
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
