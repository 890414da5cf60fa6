"""The page a marketer forwards: one file, no script, no request, in light, dark and print.

It ends with the sources of the formulas behind its figures.
"""

import json
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.effects.report.basis import Basis
from usergrowth_dagster.effects.report.charts import pictures
from usergrowth_dagster.effects.report.clicks import (
    PAIR_COLUMNS,
    click_note,
    pair_rows,
    path_columns,
    path_rows,
)
from usergrowth_dagster.effects.report.drawing import DARK, LIGHT, css
from usergrowth_dagster.effects.report.figures import (
    BLOCKED,
    anyway,
    arm_rows,
    contrast_columns,
    contrast_rows,
    crossover_rows,
    daily_rows,
    decile_rows,
    funnel_rows,
    meaning,
    money_rows,
    policy_rows,
    split_rows,
    tiles,
)
from usergrowth_dagster.effects.report.funnel import check
from usergrowth_dagster.effects.report.words import (
    count,
    day,
    loss_words,
    money,
    verdict_words,
)
from usergrowth_dagster.effects.result import Effect, MoneyFigures
from usergrowth_dagster.effects.sample_ratio import p_words

if TYPE_CHECKING:
    from jinja2 import Template

_RATE = (
    "Interval of a return rate",
    "E. B. Wilson, Probable inference, the law of succession, and statistical inference, "
    "JASA 22 (1927), 209-212.",
)
_LIFT = (
    "Interval of the difference of two rates",
    "R. G. Newcombe, Interval estimation for the difference between independent proportions, "
    "Statistics in Medicine 17 (1998), 873-890, method 10.",
)
_ADJUSTED = (
    "Adjusted lift: what people did before the date explains part of the noise",
    "A. Deng, Y. Xu, R. Kohavi, T. Walker, Improving the sensitivity of online controlled "
    "experiments by utilizing pre-experiment data (CUPED), WSDM 2013.",
)
_SPLIT = (
    "Whether the arms are as large as they were drawn",
    "A. Fabijan et al., Diagnosing sample ratio mismatch in online controlled experiments, "
    "KDD 2019.",
)
_POLICIES = (
    "What another policy would have earned, from the chances that were recorded",
    "D. G. Horvitz, D. J. Thompson, JASA 47 (1952), 663-685 (IPS); A. Swaminathan, T. Joachims, "
    "NeurIPS 2015 (SNIPS); M. Dudik, J. Langford, L. Li, ICML 2011 (doubly robust).",
)

_LOOKS = (
    "Interim analyses before the window is complete",
    "K. K. G. Lan, D. L. DeMets, Discrete sequential boundaries for clinical trials, Biometrika 70 "
    "(1983), 659-663: errors are spent by days of the window, after O'Brien and Fleming.",
)
_SEVERAL = (
    "Several texts compared",
    "Intervals after Bonferroni; p-values after S. Holm, A simple sequentially rejective multiple "
    "test procedure, Scandinavian Journal of Statistics 6 (1979), 65-70.",
)
_STRATA = (
    "Interval of the difference when the control group was drawn within strata",
    "Wilson's intervals at the effective users, put together as R. G. Newcombe does: N. Dean, "
    "M. Pagano, Evaluating confidence interval methods for binomial proportions in clustered "
    "surveys, Journal of Survey Statistics and Methodology 3 (2015), 484-503.",
)

TEMPLATE = "report.html.j2"


def sources_of(effect: Effect) -> list[tuple[str, str]]:
    """The sources of the figures that this effect has."""
    sources = [_RATE] if effect.arms else []
    if effect.clicks is not None and effect.clicks.contrasts:
        sources += [_LIFT, _SEVERAL]
    if effect.contrasts:
        sources += [_LIFT, _ADJUSTED]
        if any("strata" in contrast.method for contrast in effect.contrasts):
            sources.append(_STRATA)
        if any(contrast.level != effect.level for contrast in effect.contrasts):
            sources.append(_SEVERAL)
    if effect.looks > 1:
        sources.append(_LOOKS)
    if effect.sample_ratio:
        sources.append(_SPLIT)
    if effect.policies:
        sources.append(_POLICIES)
    return list(dict.fromkeys(sources))


@cache
def template(name: str, *packages: str) -> "Template":
    """A page's template, which may share the report's head and macros.

    Args:
        name: of the template.
        packages: where to look for it before the report's own folder.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(one, ".") for one in (*packages, __package__)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = count
    return environment.get_template(name)


def render_page(effect: Effect, basis: Basis) -> str:
    """The report as HTML.

    Args:
        effect: what was measured.
        basis: what was decided and why.

    Raises:
        ValueError: the funnel does not add up.
    """
    from markupsafe import Markup

    effect = concealed(effect)
    check(effect.funnel)
    drawn = {
        # the picture's own text is escaped by matplotlib, its description by us
        name: {"svg": Markup(picture.svg()), "caption": picture.caption}
        for name, picture in pictures(effect).items()
    }
    return template(TEMPLATE).render(
        effect=effect,
        basis=basis.facts,
        heading=basis.heading,
        verdict=verdict_words(effect),
        meaning=meaning(effect),
        window=_window(effect),
        day=day(effect.execution_date),
        tiles=tiles(effect),
        funnel=funnel_rows(effect),
        path_columns=path_columns(effect),
        paths=path_rows(effect),
        pair_columns=PAIR_COLUMNS,
        pairs=pair_rows(effect),
        click_note=click_note(effect),
        anyway=anyway(effect),
        arms=arm_rows(effect),
        contrast_columns=contrast_columns(effect),
        contrasts=contrast_rows(effect),
        deciles=decile_rows(effect),
        crossover=crossover_rows(effect),
        daily=daily_rows(effect),
        money=money_rows(effect),
        policies=policy_rows(effect),
        ratio=_sentence(effect.sample_ratio.sentence) if effect.sample_ratio else "",
        texted="could be texted" if effect.everything else "to be texted",
        spent=money(effect.cost_in_all, effect.currency),
        ratio_p=_ratio_p(effect),
        split=split_rows(effect),
        pictures=drawn,
        sources=sources_of(effect),
        light=css(LIGHT),
        dark=css(DARK),
    )


def render_json(effect: Effect, basis: Basis) -> str:
    """The same as JSON: every figure of the page, losses with their words."""
    effect = concealed(effect)
    document: dict[str, Any] = {**effect.as_dict(), "decided": dict(basis.facts)}
    for loss, record in zip(effect.funnel.losses, document["funnel"]["losses"], strict=True):
        record["words"] = loss_words(loss, effect)
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def concealed(effect: Effect) -> Effect:
    """The effect without what must not be shown: a lift, before its time or with nothing sent.

    No profit is reported for an uneven split, and where no lift is concluded no two texts are
    compared by their clicks.

    A sample whose interval is read every day shows an effect that is none sooner or later, so
    a report that is made early holds counts alone, in its page and in its JSON.
    """
    costs = MoneyFigures(effect.money.cost, effect.money.cost_per_return, None, None)
    if effect.verdict in BLOCKED and effect.clicks is not None:
        effect = replace(effect, clicks=replace(effect.clicks, contrasts=[]))
    if effect.verdict == "uneven_split":  # the lift is shown to those who look for the cause
        return replace(effect, money=costs)
    if effect.verdict not in ("not_yet", "nothing_sent", "dry_run"):
        return effect
    return replace(effect, contrasts=[], deciles=[], daily=[], policies=[], money=costs)


def _ratio_p(effect: Effect) -> str:
    """The p-value of the sizes in brackets, where they were tested."""
    ratio = effect.sample_ratio
    return "" if ratio is None or ratio.altered else f" ({p_words(ratio.p_value)})"


def _sentence(text: str) -> str:
    """With a capital and a full stop."""
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _window(effect: Effect) -> str:
    first, last = day(effect.window_first), day(effect.window_last)
    if effect.complete:
        return f"{first} to {last}, complete"
    if effect.landed_until is None or effect.landed_until < effect.window_first:
        return f"{first} to {last}; no day of it has landed yet"
    return f"{first} to {last}; landed until {day(effect.landed_until)}"
