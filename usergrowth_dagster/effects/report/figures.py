"""The figures of a report as rows of text, ready for a page, a terminal or Dagster's metadata.

First the meaning of the verdict and the few figures that matter most, then table by table.
"""

from dataclasses import dataclass

from usergrowth_dagster.effects.report.words import (
    STEP_WORDS,
    VIEW_NAMES,
    VIEW_WORDS,
    between,
    cost_bounds,
    count,
    in_words,
    loss_words,
    money,
    per_thousand,
    percent,
    rate,
    rate_interval,
    signed,
    step_meaning,
)
from usergrowth_dagster.effects.result import Contrast, Effect, Estimate
from usergrowth_dagster.effects.sample_ratio import p_words
from usergrowth_dagster.effects.verdict import MEANINGS

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


@dataclass(frozen=True)
class Row:
    """A line of a table; ``kind`` selects how the page shows it."""

    cells: list[str]
    kind: str = ""


def funnel_rows(effect: Effect) -> list[Row]:
    """Every step, and below it everybody who was lost at it: reason, rows, share of the step."""
    rows: list[Row] = []
    before = None
    for name, people in effect.funnel.steps.items():
        for loss in effect.funnel.losses:
            if loss.step == name:
                share = percent(loss.rows / before) if before else ""
                rows.append(
                    Row(
                        [loss_words(loss, effect), "\N{MINUS SIGN}" + count(loss.rows), share],
                        "loss",
                    )
                )
        share = percent(people / before) if before else ""
        title = f"{STEP_WORDS.get(name, name)}: {step_meaning(name, effect)}"
        rows.append(Row([title, count(people), share], "step"))
        before = people
    return rows


def arm_rows(effect: Effect) -> list[Row]:
    """Arm, users, returned, rate with interval, amount, messages, delivered, cost."""
    valued = any(arm.amount for arm in effect.arms)
    reported = any(arm.delivered for arm in effect.arms)
    rows = []
    explored = [] if effect.explored is None else [effect.explored]
    for arm in [*effect.arms, *explored]:
        bounds = rate_interval(arm.returned, arm.users, effect.level)
        interval = f"[{percent(bounds[0])}, {percent(bounds[1])}]" if bounds else "no users"
        if not effect.landed:
            interval = "no day has landed"
        rows.append(
            Row(
                [
                    "explored: texted at random" if arm is effect.explored else arm.name,
                    count(arm.users),
                    count(arm.returned),
                    percent(arm.rate) if arm.users and effect.landed else "",
                    interval,
                    money(arm.amount, effect.currency) if valued else "not said",
                    count(arm.messages),
                    count(arm.delivered) if reported else "not reported",
                    money(arm.cost, effect.currency),
                ],
                "whole" if arm.name in ("treatment", "control") else "part",
            )
        )
    return rows


def contrast_rows(effect: Effect) -> list[Row]:
    """A row a contrast: who, lift of 1,000, adjusted, relative, value a person, in all.

    A cell has the estimate on its first line, its interval on the second. The columns are those of
    :func:`contrast_columns`.
    """
    names = contrast_columns(effect)
    rows: list[Row] = []
    for view, words in VIEW_WORDS.items():
        if effect.everything and view == "intention_to_treat":
            words = "everybody who could be texted, whether a text went out or not"
        mine = [contrast for contrast in effect.contrasts if contrast.view == view]
        if mine:
            rows.append(Row([f"{VIEW_NAMES[view]}: {words}"], "head"))
        for contrast in mine:
            first = contrast is effect.contrasts[0] and effect.verdict not in BLOCKED
            rests = {contrast.rests_on: "\nthe conclusion rests on this"} if first else {}
            cells = [
                f"{contrast.treated} against {contrast.control}\n{_fine(contrast, effect)}",
                _cell(contrast.absolute, "{:+.1f}", 1000) + rests.get("absolute", ""),
                _cell(contrast.adjusted, "{:+.1f}", 1000) + rests.get("adjusted", ""),
                _cell(contrast.relative, "{:+.0f}", 100),
                _cell(contrast.returns, "{:+,.0f}"),
                _cell(contrast.value, "{:+,.3f}"),
                _cell(contrast.value_adjusted, "{:+,.3f}"),
                _cell(contrast.worth, "{:+,.0f}"),
            ]
            kind = "whole" if contrast.treated == "treatment" else ""
            rows.append(Row(cells[: len(names)], kind))
            if contrast.per_delivered is not None:
                title = "on those whom the text reached\nif one that did not arrive does nothing"
                reached = _cell(contrast.per_delivered, "{:+.1f}", 1000)
                rows.append(Row([title, reached, *[""] * (len(names) - 2)], "part"))
    return rows


def contrast_columns(effect: Effect) -> list[str]:
    """Headings of :func:`contrast_rows`; those of value only where a value is known."""
    names = [
        "who against whom",
        f"more of 1,000 {effect.words.past}, as counted",
        "the same, adjusted for what they did before",
        "relative, %",
        "returns brought, in all",
    ]
    if any(contrast.value is not None for contrast in effect.contrasts):
        names += [
            f"more value a person, {effect.currency}",
            "the same, adjusted",
            f"value brought, in all, {effect.currency}",
        ]
    return names


def _cell(estimate: Estimate | None, form: str, factor: float = 1.0) -> str:
    if estimate is None:
        return "not known"
    return f"{signed(form.format(factor * estimate.value))}\n{between(estimate, form, factor)}"


def _fine(contrast: Contrast, effect: Effect) -> str:
    """In small: the p-value, and what is unlike the other rows."""
    p = contrast.lift.p_value
    parts = [] if p is None else [p_words(p)]
    if contrast.level != effect.level:
        parts.append(f"{100 * contrast.level:.3g} % intervals")
    if contrast.method != "Newcombe":
        parts.append(contrast.method)
    return ", ".join(parts)


def anyway(effect: Effect) -> str:
    """What the two arms' rates say, side by side; empty without two arms, or before its time."""
    arms = {arm.name: arm for arm in effect.arms if arm.users}
    if (
        "treatment" not in arms
        or "control" not in arms
        or effect.verdict == "not_yet"
        or not effect.landed
    ):
        return ""
    treated, control = (1000 * arms[name].rate for name in ("treatment", "control"))
    so_far = "" if effect.complete else " so far"
    contrast = main_contrast(effect)
    adjusted = ""
    trusted = contrast is not None and effect.verdict not in BLOCKED
    if trusted and contrast is not None and contrast.rests_on == "adjusted":
        adjusted = (
            f" What both did before the date explains a part of that: adjusted for it, the texts "
            f"brought {per_thousand(contrast.lift.value)} of 1,000, which the conclusion rests on."
        )
    who = "could be texted" if effect.everything else "were to be texted"
    past = effect.words.past
    return (
        f"Of 1,000 people who {who} {treated:.1f} {past}{so_far}; of 1,000 who were "
        f"held out {control:.1f} {past} without a text of this campaign.{adjusted}"
    )


def decile_rows(effect: Effect) -> list[Row]:
    """Decile, scores, users and rates of both arms, lift of 1,000 with interval, predicted."""
    return [
        Row(
            [
                str(d.decile),
                f"{d.low_score:.3f} to {d.high_score:.3f}",
                count(d.treated),
                rate(d.treated_rate),
                count(d.control),
                rate(d.control_rate),
                per_thousand(d.lift.value) if d.lift else "",
                between(d.lift, factor=1000) if d.lift else "an arm is empty",
                "" if d.predicted_uplift is None else per_thousand(d.predicted_uplift),
            ]
        )
        for d in effect.deciles
    ]


def money_rows(effect: Effect) -> list[Row]:
    """What the texts cost, a return, an incremental return, and the profit."""
    figures, currency, returned = effect.money, effect.currency, effect.words.participle
    blocked = effect.verdict in BLOCKED
    rows = _cost_rows(effect)
    if figures.cost_per_return is not None:
        rows.append(
            Row(
                [
                    f"a return, had all {returned} because of the text",
                    money(figures.cost_per_return, currency),
                    f"a plain ratio: it flatters, as some would have {returned} anyway",
                ]
            )
        )
    price = figures.cost_per_incremental_return
    if price is None:
        cells = ["a return that the texts brought", "not known", _no_price(effect)]
    else:
        cells = [
            "a return that the texts brought",
            money(price.value, currency),
            cost_bounds(price) or "too few for an interval",
        ]
    rows.append(Row(cells))
    if figures.profit is None:
        why = "the campaign does not say what a return is worth"
        rows.append(Row(["profit", "not known", _no_price(effect) if blocked else why]))
    else:
        profit = figures.profit
        interval = between(profit, "{:+,.2f}")
        rows.append(
            Row(["profit: value brought less cost", money(profit.value, currency), interval])
        )
    return rows


def _cost_rows(effect: Effect) -> list[Row]:
    """What the texts cost; in all, where not only those who were chosen got one."""
    currency, billed = effect.currency, "as billed, so no interval"
    others = [arm for arm in effect.texted_groups if arm.name != "treatment" and arm.cost]
    if not others:
        return [Row(["the texts", money(effect.money.cost, currency), billed])]
    treated = effect.arms[0].messages
    rows = [
        Row(
            [
                "the texts to those chosen",
                money(effect.money.cost, currency),
                f"{count(treated)} messages; what is below is of these alone",
            ]
        )
    ]
    for arm in others:
        who = "people drawn at random (explore)" if arm.name == "explored" else "held-out users"
        messages = (
            f"{count(arm.messages)} messages to {count(arm.users)} people, who are in no lift"
        )
        if arm.name == "control":
            messages = f"{count(arm.messages)} messages, which must never be"
        rows.append(Row([f"the texts to {who}", money(arm.cost, currency), messages]))
    messages = f"{count(effect.messages_in_all)} messages, {billed}"
    return [*rows, Row(["all texts", money(effect.cost_in_all, currency), messages])]


def _no_price(effect: Effect) -> str:
    if effect.verdict in BLOCKED:
        return "nothing may be concluded about the lift"
    return "the interval of the lift reaches zero, so one of them may cost any amount"


def policy_rows(effect: Effect) -> list[Row]:
    """Policy, texted, cost, returns, profit with intervals, method, effective rows; or why not."""
    rows = []
    for policy in effect.policies:
        if policy.refused is not None:
            rows.append(Row([policy.policy, f"no answer: {policy.refused}"], "refused"))
            continue
        returns, profit = policy.returns, policy.profit
        rows.append(
            Row(
                [
                    policy.policy,
                    count(policy.texted),
                    money(policy.cost, effect.currency),
                    f"{count(returns.value)} {between(returns, '{:,.0f}')}" if returns else "",
                    f"{count(profit.value)} {between(profit, '{:,.0f}')}" if profit else "",
                    policy.method,
                    count(policy.effective_rows),
                ]
            )
        )
    return rows


def split_rows(effect: Effect) -> list[Row]:
    """Arm, users expected, users found."""
    ratio = effect.sample_ratio
    if ratio is None:
        return []
    return [
        Row(
            [name, f"{ratio.expected.get(name, 0.0):,.1f}", count(users)],
            "off" if name == ratio.off else "",
        )
        for name, users in ratio.observed.items()
    ]


def crossover_rows(effect: Effect) -> list[Row]:
    """Who was reached by another campaign meanwhile, by arm."""
    return [
        Row([MEANINGS.get(name, name.replace("_", " ")), count(people)])
        for name, people in effect.crossover.items()
    ]


def daily_rows(effect: Effect) -> list[Row]:
    """Day of the window, and how many of each arm had returned by its end."""
    return [Row([str(d.day), count(d.treated), count(d.control)]) for d in effect.daily]
