"""Variance-reduced estimates: what people did before, taken out of what they did after.

Deng, A., Xu, Y., Kohavi, R. and Walker, T. (2013, Improving the sensitivity of online controlled
experiments by utilizing pre-experiment data, WSDM) subtract from each outcome what a covariate from
before the experiment foretells of it (CUPED). With several covariates that is regression
adjustment; with the covariates centered and interacted with the arm it is never less precise than
the plain difference in large samples, whatever the true relation (Lin, W. 2013, Agnostic notes on
regression adjustments to experimental data, Annals of Applied Statistics 7:295-318, theorem 1 and
corollary 1). Fitting each arm by itself is the same regression.

The interval is heteroscedasticity-robust (HC2, MacKinnon and White 1985) with Student's t of the
rows less the coefficients; HC2 without covariates is exactly Welch's variance. The users are taken
as drawn from more of their kind, so what the covariates' mean varies by, times the difference of
the arms' slopes, is added (Imbens, G. W. and Rubin, D. B. 2015, Causal Inference, section 7.5).
"""

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.effects.amounts import amount_difference, between_means
from usergrowth_dagster.effects.lift import mean_difference, ratio, weighted_difference
from usergrowth_dagster.effects.result import Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

ROWS_PER_COVARIATE = 20
"""A covariate is used for every so many rows of the smaller arm, the first ones first."""


def adjusted_estimates(
    outcome: "Array",
    treated: "Array",
    covariates: "Array",
    chance: "Array | None" = None,
    level: float = 0.95,
) -> tuple[Estimate, Estimate | None]:
    """The difference of means, adjusted for covariates from before the draw, and the same over the
    adjusted control mean.

    Args:
        outcome: of each row, shape (n,).
        treated: whether the row is of the treatment arm, shape (n,), booleans.
        covariates: shape (n, k), the most informative first; missing values have been filled.
        chance: the chance of the row's arm, shape (n,); None: the same for all of an arm.
        level: of the interval.

    Returns:
        The plain (or weighted) difference when the arms are too small for any covariate, or none
        varies. The second has the interval of the logarithm of the ratio of means, by the delta
        method; it is None where a mean is not above 0, or nothing was adjusted.
    """
    fitted = _fitted(outcome, treated, covariates, chance)
    if fitted is None:
        if chance is None:
            return mean_difference(outcome[treated], outcome[~treated], level), None
        return weighted_difference(outcome, treated, chance, level), None
    sides, table = fitted
    freedom = len(outcome) - 2 * (table.shape[1] + 1)
    return _difference(sides, table, freedom, level), _change(sides, level)


def adjusted_amounts(
    amounts: "Array",
    treated: "Array",
    covariates: "Array",
    chance: "Array | None" = None,
    level: float = 0.95,
) -> Estimate:
    """The adjusted difference of mean amounts, of which few are not 0, with their own interval.

    Arguments as of :func:`adjusted_estimates`; shape (n,) and (n, k), amounts in currency.
    """
    import numpy as np

    fitted = _fitted(amounts, treated, covariates, chance)
    if fitted is None:
        return amount_difference(amounts, treated, chance, level)
    (one, other), table = fitted
    means = (one.mean, one.variance), (other.mean, other.variance)
    even = np.ones(len(amounts)) if chance is None else chance
    besides = _of_slopes((one, other), table)
    return between_means(means, amounts, treated, even, level, besides)


def _fitted(
    outcome: "Array", treated: "Array", covariates: "Array", chance: "Array | None"
) -> "tuple[tuple[_Side, _Side], Array] | None":
    """Both arms' regressions and the covariates in them; None without any."""
    smaller = int(min(treated.sum(), (~treated).sum()))
    table = _usable(covariates, treated, smaller // ROWS_PER_COVARIATE)
    if table.shape[1] == 0:
        return None
    one, other = (
        _side(outcome[mask], table[mask], None if chance is None else 1 / chance[mask])
        for mask in (treated, ~treated)
    )
    return (one, other), table


def _change(sides: "tuple[_Side, _Side]", level: float) -> Estimate | None:
    one, other = sides
    if not (one.mean > 0 and other.mean > 0):
        return None
    spread = sqrt(one.variance / one.mean**2 + other.variance / other.mean**2)
    return ratio(one.mean / other.mean, spread, level)


def _of_slopes(sides: "tuple[_Side, _Side]", table: "Array") -> float:
    """What the covariates' mean varies by, times the difference of the slopes: a variance."""
    slopes = table @ (sides[0].slopes - sides[1].slopes)  # the columns' means are 0
    return float(slopes.var()) / len(table)


def _difference(
    sides: "tuple[_Side, _Side]", table: "Array", freedom: int, level: float
) -> Estimate:
    from scipy.stats import t

    value = sides[0].mean - sides[1].mean
    variance = sides[0].variance + sides[1].variance + _of_slopes(sides, table)
    if not variance > 0:
        return Estimate(value)
    half = float(t.ppf((1 + level) / 2, freedom)) * sqrt(variance)
    p_value = float(2 * t.sf(abs(value) / sqrt(variance), freedom))
    return Estimate(value, value - half, value + half, p_value)


@dataclass(frozen=True)
class _Side:
    """One arm's mean at the covariates' overall mean, its variance, and the slopes."""

    mean: float
    variance: float
    slopes: "Array"


def _side(outcome: "Array", table: "Array", weight: "Array | None") -> _Side:
    """An arm's regression on covariates centered over both arms: its intercept, with HC2."""
    import numpy as np

    rows = np.column_stack([np.ones(len(outcome)), table])
    root = np.ones(len(outcome)) if weight is None else np.sqrt(weight / weight.mean())
    left, values, right = np.linalg.svd(rows * root[:, None], full_matrices=False)
    kept = values > values[0] * 1e-9
    left, values, right = left[:, kept], values[kept], right[kept]
    coefficients = right.T @ ((left.T @ (root * outcome)) / values)
    residual = root * (outcome - rows @ coefficients)
    leverage = np.minimum((left**2).sum(1), 1 - 1e-9)
    toward = left @ (right[:, 0] / values)  # the intercept's share of each row
    variance = float((toward**2 * residual**2 / (1 - leverage)).sum())
    return _Side(float(coefficients[0]), variance, coefficients[1:])


def _usable(covariates: "Array", treated: "Array", most: int) -> "Array":
    """The first ``most`` covariates that vary in both arms and are not made of those before."""
    import numpy as np

    chosen: list[Array] = []
    for column in np.asarray(covariates, dtype=np.float64).T:
        if len(chosen) >= most:
            break
        spread = column.std()
        if not (spread > 0 and np.isfinite(spread)):
            continue
        centered = (column - column.mean()) / spread
        if min(centered[treated].std(), centered[~treated].std()) < 1e-6:
            continue
        if chosen:
            known = np.column_stack(chosen)
            rest = centered - known @ np.linalg.lstsq(known, centered, rcond=None)[0]
            if rest.std() < 1e-3:
                continue
        chosen.append(centered)
    return np.column_stack(chosen) if chosen else np.empty((len(treated), 0))
