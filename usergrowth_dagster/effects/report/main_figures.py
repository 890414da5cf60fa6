"""What a report says first: the verdict's meaning, and the few figures that matter most."""

from dataclasses import dataclass

from usergrowth_dagster.effects.report.words import (
    STEP_WORDS,
    between,
    cost_bounds,
    count,
    in_words,
    loss_words,
    money,
    per_thousand,
    signed,
    step_meaning,
)
from usergrowth_dagster.effects.result import Contrast, Effect

BLOCKED = ("uneven_split", "not_yet", "nothing_sent", "dry_run", "no_control")
"""Verdicts that let no lift be concluded."""

_MEANINGS = {
    "works": "The whole interval lies above zero: a difference this large would be rare if the "
    "texts did nothing.",
    "harms": "The whole interval lies below zero: more people would have {participle} without the "
    "texts.",
    "no_effect_shown": "The interval holds zero: the texts may have done nothing, a little good or "
    "a little harm. That is not proof that they did nothing; a larger control group or "
    "more people would narrow it.",
    "not_yet": "The days in which people may {infinitive} have not all landed. Figures below are "
    "counts so far, and nothing may be concluded from them.",
    "nothing_sent": "No provider took a text, so there is no effect to look for. The funnel below "
    "says what became of everybody.",
    "dry_run": "The gateway was the file of a dry run. Name the gateway of a provider (setting "
    "gateway) to text people; until then the page shows who would have been texted.",
    "no_control": "Nobody was held out, so nobody knows who would have {participle} anyway. "
    "It takes a holdout.share in the campaign, and people enough to draw from.",
    "uneven_split": "The arms are not as large as they were drawn, so they may differ by more than "
    "the text. Find out why before anybody uses a figure of the lift.",
}

_ALTERED = (
    "Rows of the decision were changed or lost since it was made, by another program than this. "
    "Find out by which before anybody uses a figure of this page."
)


@dataclass(frozen=True)
class Tile:
    """A main figure: what it is, its value, and its interval or a remark."""

    name: str
    value: str
    remark: str


def meaning(effect: Effect) -> str:
    """What the verdict means, and what to do about it."""
    if effect.verdict != "dry_run" and effect.sample_ratio and effect.sample_ratio.altered:
        return _ALTERED
    return in_words(_MEANINGS[effect.verdict], effect)


def main_contrast(effect: Effect) -> Contrast | None:
    """Everybody texted against the control group, by intention to treat."""
    for contrast in effect.contrasts[:1]:
        if contrast.view == "intention_to_treat" and contrast.treated == "treatment":
            return contrast
    return None


def tiles(effect: Effect) -> list[Tile]:
    """The three or four figures at the top; no lift where none may be concluded."""
    cost = Tile("Cost of the texts", money(effect.cost_in_all, effect.currency), _messages(effect))
    contrast = main_contrast(effect)
    if contrast is None or effect.verdict in BLOCKED:
        steps = effect.funnel.steps
        shown = [
            Tile(STEP_WORDS[name], count(steps[name]), step_meaning(name, effect))
            for name in ("chosen", "sent", "returned")
            if name in steps
        ]
        return [*shown, cost]
    lift, relative = contrast.lift, contrast.relative
    shown = [
        Tile(
            "Lift of 1,000" + (", adjusted" if contrast.rests_on == "adjusted" else ""),
            per_thousand(lift.value),
            between(lift, factor=1000)
            + (f"; {_share(relative.value)} of the control group's rate" if relative else ""),
        ),
        Tile(
            "Returns the texts brought",
            signed(f"{contrast.returns.value:+,.0f}"),
            between(contrast.returns, "{:+,.0f}"),
        ),
    ]
    price = effect.money.cost_per_incremental_return
    if price is not None and price.value > 0:
        shown.append(
            Tile(
                "Cost of one of them",
                money(price.value, effect.currency),
                cost_bounds(price) or f"{cost.value} in all",
            )
        )
    else:
        shown.append(cost)
    if effect.money.profit is not None:
        profit = effect.money.profit
        interval = between(profit, "{:+,.0f}")
        if profit.low is None:
            interval = "too few returned, or brought too unlike amounts, for an interval"
        shown.append(Tile("Profit", money(profit.value, effect.currency), interval))
    return shown


def _messages(effect: Effect) -> str:
    words = f"{count(effect.messages_in_all)} messages"
    if effect.explored is not None:
        words += f", {count(effect.explored.messages)} of them to people drawn at random"
    return words


def _share(value: float) -> str:
    return signed(f"{100 * value:+.0f}\N{NO-BREAK SPACE}%")


def figure_rows(effect: Effect) -> list[tuple[str, str, str]]:
    """The main figures for a terminal or Dagster: name, value, interval or remark."""
    first, last = effect.window_first, effect.window_last
    window = (
        "complete"
        if effect.complete
        else f"landed until {effect.landed_until}"
        if effect.landed_until and effect.landed_until >= first
        else "no day of it has landed yet"
    )
    rows = [("window of the returns", f"{first} to {last}", window)]
    rows += [
        (STEP_WORDS.get(name, name).lower(), count(people), _lost_words(effect, name))
        for name, people in effect.funnel.steps.items()
    ]
    if effect.explored is not None:
        one = effect.explored
        remark = f"{count(one.messages)} messages for {money(one.cost, effect.currency)}; in no arm"
        rows.append(("texted at random", count(one.users), remark))
    steps = {STEP_WORDS[name] for name in effect.funnel.steps}
    rows += [
        (tile.name[:1].lower() + tile.name[1:], tile.value, tile.remark)
        for tile in tiles(effect)
        if tile.name not in steps
    ]
    return rows


def _lost_words(effect: Effect, step: str) -> str:
    """Everybody lost at a step, in words."""
    return "; ".join(
        f"{count(loss.rows)} {loss_words(loss, effect)}"
        for loss in effect.funnel.losses
        if loss.step == step
    )
