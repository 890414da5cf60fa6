"""The treatment arm against the control arm, and texts against each other and against no text.

How rates are compared follows from how the arms were drawn, never from how the outcomes look:

* everybody with one chance, no strata: the plain difference, Newcombe;
* strata: the difference within each, weighted by users (post-stratification), which also takes out
  that strata may have been drawn with different chances;
* different chances otherwise: weights of 1 / chance.

Conclusions rest on the adjusted difference where both arms are large enough for its normal interval
to be trusted: :data:`USERS` users in the smaller one, of whom at the rate of both together
:data:`EACH` would return and :data:`EACH` would not. Else they rest on the plain one, and so they
do where interim analyses are planned, for whose correlation the boundaries are made. The rule is
fixed beforehand and sees neither estimate, nor which arm did better: it counts with the rate of
both.

With fewer the normal interval is too sure of itself, since the smaller arm's mean is skewed. Of
20,000 simulated campaigns without an effect (1 control user for 9 treated, 92 of 100 return) the
adjusted interval called 6.3 % with ten of the smaller arm expected not to return, 5.4 % with
thirty; Newcombe's 5.1 % in both.
"""

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.effects.amounts import amount_difference
from usergrowth_dagster.effects.cuped import adjusted_amounts, adjusted_estimates
from usergrowth_dagster.effects.interim import holm
from usergrowth_dagster.effects.lift import (
    Counts,
    effect_on_reached,
    rate_change,
    rate_difference,
    scaled,
    stratified_difference,
    weighted_change,
    weighted_difference,
)
from usergrowth_dagster.effects.result import Contrast, Estimate
from usergrowth_dagster.effects.rows import Plan, Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

NEWCOMBE = "Newcombe"
STRATIFIED = "Newcombe by strata"
WEIGHTED = "inverse propensity weights"
USERS, EACH = 100, 30


def intention_to_treat(rows: Rows, plan: Plan) -> Contrast | None:
    """Everyone drawn for a text against everyone held out, whatever became of the texts.

    None when an arm has no users.
    """
    sides = _Sides("treatment", "control", rows.treated, ~rows.treated)
    contrast = _contrast(rows, plan, sides, plan.level)
    if contrast is None or rows.reached[rows.treated].all() or rows.uneven_chances:
        return contrast
    returned = rows.returned.astype(float)
    reached = effect_on_reached(returned, rows.treated, rows.reached.astype(float), plan.level)
    return replace(contrast, per_delivered=reached)


def delivered_only(rows: Rows, plan: Plan) -> Contrast | None:
    """Those whom the text reached against the whole control arm: not drawn at random.

    None when nobody, or everybody, was reached.
    """
    reached = rows.treated & rows.reached
    if not reached.any() or reached.sum() == rows.treated.sum():
        return None
    sides = _Sides("treatment", "control", reached, ~rows.treated)
    contrast = _contrast(rows, plan, sides, plan.level)
    return None if contrast is None else replace(contrast, view="delivered_only")


def variant_names(rows: Rows) -> list[str]:
    """The texts that treated users were drawn for, when there are several."""
    if rows.variants is None:
        return []
    names = sorted({str(name) for name in rows.variants[rows.treated] if name is not None})
    return names if len(names) > 1 else []


def variant_contrasts(rows: Rows, plan: Plan) -> list[Contrast]:
    """Each text against the whole control arm, and each pair of texts.

    They share their errors: the intervals are Bonferroni's, at 1 - (1 - level) / contrasts, and the
    p-values Holm's. A text is drawn by a hash of its own, so every control user stands for each.
    """
    names = variant_names(rows)
    arms = {name: rows.treated & (rows.variants == name) for name in names}
    pairs = [_Sides(name, "control", arms[name], ~rows.treated) for name in names]
    pairs += [_Sides(a, b, arms[a], arms[b]) for a, b in combinations(names, 2)]
    wanted = [pair for pair in pairs if pair.treated.any() and pair.control.any()]
    level = 1 - (1 - plan.level) / max(1, len(wanted))
    contrasts = [_contrast(rows, plan, sides, level) for sides in wanted]
    return _corrected([one for one in contrasts if one is not None])


_ESTIMATES = ("absolute", "relative", "adjusted", "value", "value_adjusted", "returns", "worth")


def _corrected(contrasts: list[Contrast]) -> list[Contrast]:
    """The contrasts with Holm's p-values, for each kind of estimate by itself."""

    def changed(name: str, estimate: Estimate) -> dict[str, Any]:
        return {name: estimate}

    for name in _ESTIMATES:
        estimates: list[Estimate | None] = [getattr(one, name) for one in contrasts]
        p_values = holm([None if e is None else e.p_value for e in estimates])
        contrasts = [
            one if e is None else replace(one, **changed(name, replace(e, p_value=p)))
            for one, e, p in zip(contrasts, estimates, p_values, strict=True)
        ]
    return contrasts


def counts_of(rows: Rows, treated: "Array", control: "Array") -> Counts:
    """Returns and users of two sets of rows."""
    return Counts(
        int(rows.returned[treated].sum()),
        int(treated.sum()),
        int(rows.returned[control].sum()),
        int(control.sum()),
    )


@dataclass(frozen=True)
class _Sides:
    """Two arms by name, and which rows are theirs: arrays of booleans of shape (n,)."""

    one: str
    other: str
    treated: "Array"
    control: "Array"


def _contrast(rows: Rows, plan: Plan, sides: _Sides, level: float) -> Contrast | None:
    """Two arms against each other, by intention to treat; None when one has no users."""
    if not sides.treated.any() or not sides.control.any():
        return None
    inside = sides.treated | sides.control
    arm, before = sides.treated[inside], rows.covariates[inside]
    chances = rows.own_chance[inside] if rows.uneven_chances and sides.other == "control" else None
    returned = rows.returned[inside].astype(float)
    absolute, relative, method = _rates(rows, sides, chances, level)
    adjusted, change = adjusted_estimates(returned, arm, before, chances, level)
    # without a change nothing was adjusted
    trusted = plan.looks == 1 and change is not None and _are_large(returned, arm)
    value = value_adjusted = None
    if plan.has_amount:
        amounts = rows.value[inside]
        value = amount_difference(amounts, arm, chances, level)
        value_adjusted = adjusted_amounts(amounts, arm, before, chances, level)
    elif plan.value_per_return is not None:  # a fixed worth: the rates say it all
        value = scaled(absolute, plan.value_per_return)
        value_adjusted = scaled(adjusted, plan.value_per_return)
    gain = value_adjusted if trusted else value
    texted = int(sides.treated.sum())
    return Contrast(
        treated=sides.one,
        control=sides.other,
        view="intention_to_treat",
        absolute=absolute,
        relative=change if trusted else relative,
        adjusted=adjusted,
        value=value,
        value_adjusted=value_adjusted,
        returns=scaled(adjusted if trusted else absolute, texted),
        worth=None if gain is None else scaled(gain, texted),
        method=method,
        level=level,
        rests_on="adjusted" if trusted else "absolute",
    )


def _are_large(returned: "Array", treated: "Array") -> bool:
    smaller, rate = int(min(treated.sum(), (~treated).sum())), float(returned.mean())
    return smaller >= USERS and smaller * min(rate, 1 - rate) >= EACH


def _rates(
    rows: Rows, sides: _Sides, chances: "Array | None", level: float
) -> tuple[Estimate, Estimate | None, str]:
    """The difference of rates, the same over the control rate, and the method's name."""
    inside = sides.treated | sides.control
    returned, arm = rows.returned[inside].astype(float), sides.treated[inside]
    strata = _strata(rows, sides)
    if strata is not None:
        counts, chance = strata
        change = weighted_change(returned, arm, chance[inside], level)
        return stratified_difference(counts, level), change, STRATIFIED
    if chances is not None:
        difference = weighted_difference(returned, arm, chances, level)
        return difference, weighted_change(returned, arm, chances, level), WEIGHTED
    both = counts_of(rows, sides.treated, sides.control)
    return rate_difference(both, level), rate_change(both, level), NEWCOMBE


def _strata(rows: Rows, sides: _Sides) -> tuple[list[Counts], "Array"] | None:
    """Counts by stratum, and the share of each row's arm in its stratum, shape (n,).

    None without strata, where one has an arm without users, or was drawn with several chances.
    """
    import numpy as np

    if rows.strata is None:
        return None
    counts, chance = [], np.ones(len(rows))
    names = rows.strata.astype(str)
    for name in np.unique(names[sides.treated | sides.control]):
        one, other = sides.treated & (names == name), sides.control & (names == name)
        drawn = rows.chance[one | other]
        if not one.any() or not other.any() or drawn.max() - drawn.min() > 1e-9:
            return None
        counts.append(counts_of(rows, one, other))
        users = one.sum() + other.sum()
        chance[one], chance[other] = one.sum() / users, other.sum() / users
    return (counts, chance) if len(counts) > 1 else None
