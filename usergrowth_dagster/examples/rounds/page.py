"""The last page of campaign rounds: estimated against true effect, and whether the loop pays.

Its pictures draw what the rounds were worth, and what each was measured to do.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from usergrowth_dagster.effects.report.drawing import DARK, LIGHT, Palette, Picture, css
from usergrowth_dagster.effects.report.page import template
from usergrowth_dagster.effects.report.words import between, count, money, per_thousand, signed
from usergrowth_dagster.effects.result import Estimate
from usergrowth_dagster.examples.rounds.figures import Learned, Round, Trend
from usergrowth_dagster.examples.rounds.plan import (
    EVERY_DAYS,
    EXPLORE,
    EXPLORE_FIRST,
    FIRST_ROUNDS,
    HOLDOUT,
    RETURN_DAYS,
    THRESHOLD,
    VALUE_PER_RETURN,
    RoundPlan,
)

TEMPLATE = "rounds.html.j2"
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


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


def round_table(
    rounds: Sequence[Round], currency: str
) -> tuple[str, tuple[str, ...], list[tuple[Any, ...]]]:
    """Title, header and lines of the rounds for a terminal."""
    return (
        f"Rounds: true incremental value a message in {currency}; lift in returns of 1,000",
        ("round", "chosen by", "texted", "ours", "fixed", "best", "lift measured", "true"),
        [
            (
                one.number,
                one.chosen_by,
                f"{one.ours.texted:,}",
                _each(one.ours.per_message),
                _each(one.fixed.per_message),
                _each(one.ours.best_per_message),
                _lift(one.measured),
                "" if one.ours.effect is None else per_thousand(one.ours.effect),
            )
            for one in rounds
        ],
    )


def trend_sentence(rounds: Sequence[Round], trend: Trend, currency: str) -> str:
    """What became of our lead in the value of a message, in one sentence that says it straight.

    The test is of the lead: where it rises, both values may have fallen.
    """
    means = (trend.ours_first, trend.ours_last, trend.fixed_first, trend.fixed_last)
    first, last, fixed_first, fixed_last = (_each(value) for value in means)
    if trend.tau is None or trend.p_value is None:
        return (
            f"Too few rounds to show a trend; in the last of them a message of ours was worth "
            f"{last} {currency}, one of the fixed policy {fixed_last}."
        )
    half = _word((len(rounds) + 1) // 2)
    verb = "rose" if trend.rises else "did not rise"
    return (
        f"Our lead over the fixed threshold on the same people, in incremental value a message, "
        f"{verb}: ours was worth {first} {currency} in the first {half} rounds and {last} in the "
        f"last {half}, the fixed policy's {fixed_first} and {fixed_last} (Kendall's tau of the "
        f"lead with the round {signed(f'{trend.tau:.2f}')}, one-sided p = {trend.p_value:.4f})."
    )


def render_rounds(
    plan: RoundPlan,
    rounds: Sequence[Round],
    trend: Trend,
    learned: Sequence[Learned],
    currency: str,
) -> str:
    """The page as HTML: one self-contained file.

    Args:
        plan: the rounds as they were planned.
        rounds: what they came to.
        trend: of our lead over the fixed policy.
        learned: the trainings of effects, oldest first.
        currency: of the money.
    """
    from markupsafe import Markup

    drawn = {
        picture.name: {"svg": Markup(picture.svg()), "caption": picture.caption}
        for picture in pictures(rounds, currency)
    }
    return template(TEMPLATE, "usergrowth_dagster.examples.rounds").render(
        pictures=drawn,
        light=css(LIGHT),
        dark=css(DARK),
        users=count(plan.users),
        rounds=len(rounds),
        rises=trend.rises,
        sentence=trend_sentence(rounds, trend, currency),
        currency=currency,
        tiles=_tiles(rounds, currency),
        facts=_facts(plan, currency),
        effects=_effect_rows(rounds),
        covered=_covered(rounds),
        values=_value_rows(rounds),
        learned=[_learned_row(one) for one in learned],
    )


def _word(number: int) -> str:
    return _NUMBERS[number] if number < len(_NUMBERS) else str(number)


def _each(value: float | None) -> str:
    return "none" if value is None else signed(f"{value:.4f}")


def _lift(estimate: Estimate | None) -> str:
    if estimate is None:
        return "no control group"
    return f"{per_thousand(estimate.value)} {between(estimate, factor=1000)}"


def _row(*cells: str, kind: str = "") -> dict[str, Any]:
    return {"kind": kind, "cells": list(cells)}


def _tiles(rounds: Sequence[Round], currency: str) -> list[dict[str, str]]:
    def sums(name: str) -> tuple[int, float, float]:
        sides = [getattr(one, name) for one in rounds]
        messages = sum(side.messages for side in sides)
        return messages, sum(side.value for side in sides), sum(side.profit for side in sides)

    tiles = []
    for name, called in (("ours", "Ours, all rounds"), ("fixed", "Fixed threshold, all rounds")):
        messages, value, profit = sums(name)
        each = f"{_each(value / messages if messages else None)} a message"
        tiles.append(
            {
                "name": called,
                "value": money(profit, currency),
                "remark": f"profit: value {money(value, currency)} of {count(messages)} messages, "
                f"{each}",
            }
        )
    covered = [one.covered for one in rounds if one.covered is not None]
    tiles.append(
        {
            "name": "Intervals that hold the true effect",
            "value": f"{sum(covered)} of {len(covered)}",
            "remark": "95 % of them should",
        }
    )
    return tiles


def _facts(plan: RoundPlan, currency: str) -> list[tuple[str, str]]:
    return [
        (
            "The world",
            f"{count(plan.users)} synthetic users, the same people and the same luck for both "
            "policies; what each text adds to the chance of a return is known exactly",
        ),
        (
            "Ours",
            f"by money: the expected value of a text, {VALUE_PER_RETURN:g} {currency} times its "
            "effect, must exceed its cost; until a model of effects is approved, score above "
            f"{THRESHOLD:g}. {HOLDOUT:.0%} of the chosen are held out; of the others "
            f"{EXPLORE_FIRST:.0%} are texted at random in the first {_word(FIRST_ROUNDS)} rounds, "
            f"{EXPLORE:.0%} from then on",
        ),
        (
            "Fixed threshold",
            f"score above {THRESHOLD:g} by the response model of the first round, in every round; "
            f"{HOLDOUT:.0%} are held out as well",
        ),
        (
            "Rounds",
            f"every {EVERY_DAYS} days from {plan.day(1)} on; a session within {RETURN_DAYS} days "
            "is a return",
        ),
        (
            "Value of a message",
            "the sum of the true effects of all texts of a round, the random ones included, times "
            "the worth of a return, over the messages; best possible: the same number of messages "
            "to those whose true effects are largest",
        ),
    ]


def _effect_rows(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    words = {True: "yes", False: "no", None: ""}
    return [
        _row(
            f"{one.number}, {one.day}",
            count(one.ours.chosen),
            _lift(one.measured),
            _lift(one.adjusted),
            "" if one.ours.effect is None else per_thousand(one.ours.effect),
            words[one.covered],
        )
        for one in rounds
    ]


def _covered(rounds: Sequence[Round]) -> str:
    covered = [one.covered for one in rounds if one.covered is not None]
    return f"{sum(covered)} of {len(covered)} intervals hold the true effect." if covered else ""


def _value_rows(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    rows = []
    for one in rounds:
        ours, fixed = one.ours, one.fixed
        rows.append(
            _row(
                f"{one.number}, by {one.chosen_by}",
                f"{count(ours.texted)}\n{count(ours.explored)} at random",
                f"{ours.cost:,.2f}",
                _each(ours.per_message),
                _each(ours.best_per_message),
                signed(f"{ours.profit:,.2f}"),
                count(fixed.texted),
                _each(fixed.per_message),
                signed(f"{fixed.profit:,.2f}"),
            )
        )
    return rows


def _learned_row(one: Learned) -> dict[str, Any]:
    return _row(
        str(one.day),
        str(one.version),
        one.ranking,
        one.status.replace("_", " "),
        one.failed or "all passed",
        one.sentence,
    )
