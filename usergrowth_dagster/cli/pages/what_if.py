"""The page of what another policy would have earned."""

from typing import Any

from usergrowth_dagster.cli.common import Page
from usergrowth_dagster.effects.off_policy import Answer
from usergrowth_dagster.effects.policies import Valued
from usergrowth_dagster.effects.report.words import money, signed
from usergrowth_dagster.effects.result import Estimate
from usergrowth_dagster.measure.what_if import WhatIf

ESTIMATORS = {"dr": "doubly robust", "snips": "self-normalized", "ips": "inverse propensity"}


def show_what_if(estimated: WhatIf, page: Page) -> None:
    """Print what each policy would have brought, beside the one that was used."""
    effect, worth, answers = estimated.effect, estimated.worth, estimated.answers
    question, say = estimated.question, page.say
    say(
        f"Task {effect.task_id} of {effect.execution_date}, returns in {effect.window_first} to "
        f"{effect.window_last}: what each policy would have brought beyond texting nobody, "
        f"{effect.level:.0%} intervals"
    )
    say(
        f"Spent was {money(effect.cost_in_all, worth.currency)} on {effect.messages_in_all:,} "
        "messages; the costs below are of each policy with nobody held out, so that they compare"
    )
    if question.value is not None:
        by = f"A return is taken to be worth {question.value:g} {worth.currency}"
        if worth.has_amount:
            by += " in choosing; profit is reckoned by the amounts that people brought"
        say(by)
    _show(answers, worth.known, worth.currency, page)
    reasons: dict[str, list[str]] = {}
    for one in answers:
        if one.value.refused:
            reasons.setdefault(one.value.refused, []).append(one.value.policy)
    for reason, policies in reasons.items():
        say(f"No answer for {', '.join(policies)}: {reason}.")
    if len(answers) == 3 and answers[1].value.refused is None:
        _show_estimators(answers[1], worth.currency if worth.known else "", page)


def _show(answers: list[Valued], has_worth: bool, currency: str, page: Page) -> None:
    header = ["policy", "texted", f"cost {currency}", "more returns"]
    header += [f"profit {currency}"] if has_worth else []
    lines = []
    for one in answers:
        value = one.value
        line: list[Any] = [value.policy, f"{value.texted:,.0f}", f"{value.cost:,.2f}"]
        line.append(_figure(value.returns, 1))
        if has_worth:
            line.append(_figure(value.profit, 2))
        beyond = None if value.refused else one.beyond_used.dr
        line += [_figure(beyond, 2 if has_worth else 1), f"{value.effective_rows:,.0f}"]
        lines.append(tuple(line))
    what = f"profit {currency}" if has_worth else "returns"
    page.table("", (*header, f"{what} beyond the used one", "effective rows"), lines)


def _show_estimators(one: Valued, currency: str, page: Page) -> None:
    """The asked policy by every estimator: where they agree, it is not the method that speaks."""
    page.say("")
    lines = []
    for name, words in ESTIMATORS.items():
        line = [words, _by(one.returns, name, 1)]
        line += [_by(one.profit, name, 2)] if one.profit else []
        lines.append((*line, _by(one.beyond_used, name, 2 if currency else 1)))
    header = ["estimator", "more returns", *([f"profit {currency}"] if one.profit else [])]
    page.table(one.value.policy, (*header, "beyond the used one"), lines)


def _by(answer: Answer, name: str, digits: int) -> str:
    return _figure(getattr(answer, name), digits)


def _figure(estimate: Estimate | None, digits: int) -> str:
    if estimate is None:
        return "no answer"
    if estimate.low is None or estimate.high is None:
        return signed(f"{estimate.value:,.{digits}f}") + " (too few for an interval)"
    return signed(
        f"{estimate.value:,.{digits}f} [{estimate.low:,.{digits}f}, {estimate.high:,.{digits}f}]"
    )
