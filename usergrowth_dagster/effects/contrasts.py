"""The treatment arm against the control arm, and texts against each other and against no text."""

from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.effects.cuped import adjusted_difference
from usergrowth_dagster.effects.lift import (
    Counts,
    mean_difference,
    rate_change,
    rate_difference,
    scaled,
    stratified_difference,
    weighted_difference,
)
from usergrowth_dagster.effects.looks import holm
from usergrowth_dagster.effects.result import Contrast, Estimate
from usergrowth_dagster.effects.rows import Plan, Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


def intention_to_treat(rows: Rows, plan: Plan) -> Contrast | None:
    """Everyone drawn for a text against everyone held out, whatever became of the texts.

    None when an arm has no users.
    """
    found = _contrast(rows, plan, rows.treated, ~rows.treated, ("treatment", "control"), plan.level)
    if found is None:
        return None
    reached = float(rows.delivered[rows.treated].mean())
    if 0 < reached < 1:
        found = replace(found, per_delivered=scaled(found.absolute, 1 / reached))
    return found


def delivered_only(rows: Rows, plan: Plan) -> Contrast | None:
    """Those whom the text reached against the whole control arm: not drawn at random.

    None when nobody, or everybody, was reached.
    """
    reached = rows.treated & rows.delivered
    if not reached.any() or reached.sum() == rows.treated.sum():
        return None
    names = ("treatment", "control")
    found = _contrast(rows, plan, reached, ~rows.treated, names, plan.level)
    return None if found is None else replace(found, view="delivered_only")


def variant_contrasts(rows: Rows, plan: Plan) -> list[Contrast]:
    """Each text against the control arm, and each pair of texts; errors are shared by all of them.

    The intervals are Bonferroni's, the p-values Holm's (Holm, S. 1979, Scandinavian Journal of
    Statistics 6:65-70).
    """
    if rows.variants is None:
        return []
    names = sorted({str(name) for name in rows.variants[rows.treated] if name is not None})
    if len(names) < 2:
        return []
    arms = {name: rows.treated & (rows.variants == name) for name in names}
    arms["control"] = ~rows.treated
    pairs = [(name, "control") for name in names] if arms["control"].any() else []
    pairs += list(combinations(names, 2))
    level = 1 - (1 - plan.level) / len(pairs)
    found = [_contrast(rows, plan, arms[a], arms[b], (a, b), level) for a, b in pairs]
    contrasts = [one for one in found if one is not None]
    adjusted = holm([one.absolute.p_value for one in contrasts])
    return [
        replace(one, absolute=replace(one.absolute, p_value=p))
        for one, p in zip(contrasts, adjusted, strict=True)
    ]


def counts_of(rows: Rows, treated: "Array", control: "Array") -> Counts:
    """Returns and users of two sets of rows."""
    return Counts(
        int(rows.returned[treated].sum()),
        int(treated.sum()),
        int(rows.returned[control].sum()),
        int(control.sum()),
    )


def _contrast(
    rows: Rows,
    plan: Plan,
    treated: "Array",
    control: "Array",
    names: tuple[str, str],
    level: float,
) -> Contrast | None:
    if not treated.any() or not control.any():
        return None
    inside = treated | control
    own = rows.own_chance[inside] if rows.uneven_chances and names[1] == "control" else None
    absolute, method = _rates(rows, treated, control, own, level)
    value = value_adjusted = worth = None
    arm, before, paid = treated[inside], rows.covariates[inside], rows.value[inside]
    texted = int(treated.sum())
    if plan.has_value:
        value = _means(paid, arm, own, level)
        if not plan.has_amount:  # a fixed worth of each return: the rates say it all
            value = scaled(absolute, plan.value_per_return or 0.0)
        value_adjusted = adjusted_difference(paid, arm, before, own, level)
        worth = scaled(value, texted)
    returned = rows.returned[inside].astype(float)
    return Contrast(
        treated=names[0],
        control=names[1],
        view="intention_to_treat",
        absolute=absolute,
        relative=rate_change(counts_of(rows, treated, control), level),
        adjusted=adjusted_difference(returned, arm, before, own, level),
        value=value,
        value_adjusted=value_adjusted,
        returns=scaled(absolute, texted),
        worth=worth,
        method=method,
        level=level,
    )


def _means(values: "Array", treated: "Array", own: "Array | None", level: float) -> Estimate:
    if own is None:
        return mean_difference(values[treated], values[~treated], level)
    return weighted_difference(values, treated, own, level)


def _rates(
    rows: Rows, treated: "Array", control: "Array", own: "Array | None", level: float
) -> tuple[Estimate, str]:
    """The difference of rates by the method that the draw asks for, and the method's name."""
    strata = _strata(rows, treated, control)
    if own is not None and strata is None:
        inside = treated | control
        found = weighted_difference(
            rows.returned[inside].astype(float), treated[inside], own, level
        )
        return found, "inverse propensity weights"
    if strata is None:
        return rate_difference(counts_of(rows, treated, control), level), "Newcombe"
    return stratified_difference(strata, level), "stratified Newcombe"


def _strata(rows: Rows, treated: "Array", control: "Array") -> list[Counts] | None:
    """Counts by stratum; None without strata, or where one has an arm without users.

    Within a stratum everybody must have been drawn with one chance.
    """
    if rows.strata is None:
        return None
    found = []
    for name in sorted({str(s) for s in rows.strata}):
        mask = rows.strata.astype(str) == name
        one, other = treated & mask, control & mask
        if not one.any() and not other.any():
            continue
        chance = rows.chance[mask]
        if not one.any() or not other.any() or chance.max() - chance.min() > 1e-9:
            return None
        found.append(counts_of(rows, one, other))
    return found if len(found) > 1 else None
