"""The pictures of campaign rounds."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from usergrowth_dagster.effects.report.drawing import Palette, Picture
from usergrowth_dagster.effects.report.words import per_thousand, signed
from usergrowth_dagster.examples.rounds.figures import Round


def pictures(rounds: Sequence[Round], currency: str) -> list[Picture]:
    """Value a message, effects, and profit, round by round."""
    return [_values(rounds, currency), _effects(rounds), _profits(rounds, currency)]


def _values(rounds: Sequence[Round], currency: str) -> Picture:
    numbers = [one.number for one in rounds]
    lines = {
        "ours": [one.ours.per_message for one in rounds],
        "fixed threshold": [one.fixed.per_message for one in rounds],
        "best possible": [one.ours.best_per_message for one in rounds],
    }

    def draw(figure: Any, c: Palette) -> None:
        axes = _axes(figure, c, numbers)
        styles = {
            "ours": ("o-", c.treated),
            "fixed threshold": ("s--", c.control),
            "best possible": ("^:", c.muted),
        }
        for name, values in lines.items():
            style, color = styles[name]
            known = [(n, v) for n, v in zip(numbers, values, strict=True) if v is not None]
            if known:
                axes.plot(*zip(*known, strict=True), style, color=color, label=name)
        axes.set_ylabel(f"{currency} a message")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)

    in_words = "; ".join(
        f"round {one.number}: ours {_amount(one.ours.per_message)}, fixed "
        f"{_amount(one.fixed.per_message)}"
        for one in rounds
    )
    return Picture(
        "values",
        "True incremental value of a message, random ones included, round by round.",
        f"Line chart of the incremental value a message in {currency}: {in_words}.",
        3.0,
        draw,
    )


def _effects(rounds: Sequence[Round]) -> Picture:
    def draw(figure: Any, c: Palette) -> None:
        axes = _axes(figure, c, [one.number for one in rounds])
        for one in rounds:
            lift = one.measured
            if lift is not None and lift.low is not None and lift.high is not None:
                bounds = [1000 * lift.low, 1000 * lift.high]
                axes.plot([one.number, one.number], bounds, color=c.treated, linewidth=2)
        measured = [(o.number, 1000 * o.measured.value) for o in rounds if o.measured is not None]
        true = [(o.number, 1000 * o.ours.effect) for o in rounds if o.ours.effect is not None]
        for points, style, color, name in (
            (measured, "o", c.treated, "measured, with its 95 % interval"),
            (true, "D--", c.third, "true"),
        ):
            if points:
                axes.plot(*zip(*points, strict=True), style, color=color, label=name)
        axes.set_ylabel("more of 1,000 who came back")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

    in_words = "; ".join(
        f"round {o.number}: measured {per_thousand(o.measured.value)}, true "
        f"{per_thousand(o.ours.effect)}"
        for o in rounds
        if o.measured is not None and o.ours.effect is not None
    )
    return Picture(
        "effects",
        "Lift of those chosen, as the campaign measured it against its control group, and the "
        "true mean effect on the same people.",
        f"Measured and true lift of 1,000 people: {in_words}.",
        3.0,
        draw,
    )


def _profits(rounds: Sequence[Round], currency: str) -> Picture:
    numbers = [one.number for one in rounds]
    ours = list(accumulate(one.ours.profit for one in rounds))
    fixed = list(accumulate(one.fixed.profit for one in rounds))

    def draw(figure: Any, c: Palette) -> None:
        axes = _axes(figure, c, numbers)
        axes.plot(numbers, ours, "o-", color=c.treated, label="ours")
        axes.plot(numbers, fixed, "s--", color=c.control, label="fixed threshold")
        axes.set_ylabel(f"{currency}, all rounds so far")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

    return Picture(
        "profits",
        "Profit so far: incremental value less the cost of the messages.",
        f"Line chart of the profit so far: at the end ours {_amount(ours[-1], 2)} {currency}, the "
        f"fixed policy's {_amount(fixed[-1], 2)} {currency}.",
        3.0,
        draw,
    )


def _axes(figure: Any, c: Palette, numbers: Sequence[int]) -> Any:
    axes = figure.add_subplot()
    axes.grid(axis="y")
    axes.axhline(0, color=c.ink, linewidth=1)
    axes.set_xticks(numbers)
    axes.set_xlabel("round")
    return axes


def _amount(value: float | None, digits: int = 3) -> str:
    return "none" if value is None else signed(f"{value:.{digits}f}")
