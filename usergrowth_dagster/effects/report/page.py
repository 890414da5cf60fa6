"""The page a marketer forwards: one file, no script, no request, in light, dark and print."""

import json
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.effects.report.basis import Basis
from usergrowth_dagster.effects.report.charts import pictures
from usergrowth_dagster.effects.report.drawing import DARK, LIGHT, css
from usergrowth_dagster.effects.report.figures import (
    anyway,
    arm_rows,
    contrast_columns,
    contrast_rows,
    crossover_rows,
    daily_rows,
    decile_rows,
    funnel_rows,
    money_rows,
    policy_rows,
    split_rows,
)
from usergrowth_dagster.effects.report.funnel import check
from usergrowth_dagster.effects.report.main_figures import meaning, tiles
from usergrowth_dagster.effects.report.sources import sources_of
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

TEMPLATE = "report.html.j2"


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
        verdict=verdict_words(effect),
        meaning=meaning(effect),
        window=_window(effect),
        day=day(effect.execution_date),
        tiles=tiles(effect),
        funnel=funnel_rows(effect),
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

    No profit is reported for an uneven split.

    A sample whose interval is read every day shows an effect that is none sooner or later, so
    a report that is made early holds counts alone, in its page and in its JSON.
    """
    costs = MoneyFigures(effect.money.cost, effect.money.cost_per_return, None, None)
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
