"""The difference between two arms: rates, their ratio, and mean amounts, each with its interval.

* Difference of rates: Newcombe's hybrid score interval (Newcombe, R. G. 1998, Interval estimation
  for the difference between independent proportions, Statistics in Medicine 17:873-890, method 10,
  without continuity correction); it never leaves [-1, 1] and holds its level in small arms and near
  0 and 1, where the usual normal interval does not.
* Ratio of rates: the log interval with half a return added to each arm (Walter 1975; statsmodels
  calls it ``log-adjusted``), finite unless the control arm has no return at all.
* Difference of means: Welch (1947), unequal variances and his degrees of freedom.

These intervals and their p-values are those of statsmodels. What it does not have is here:

* Several strata: the difference of rates weighted by the strata's users, each rate with Wilson's
  interval at its effective users, put together as Newcombe does (:func:`stratified_difference`).
* Chances that differ between rows: weights of 1 / the chance of the row's arm, normalized within
  each arm (Hájek), variance by linearization (Lunceford and Davidian 2004, Statistics in Medicine
  23:2937-2960, eq. 5 without their credit for known chances, so that it is never too narrow).

P-values are two-sided: of the pooled score test for rates (equal to the chi-square test without
correction), of Student's t for means, of the normal for weighted means.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, isfinite, log, sqrt
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.effects.result import Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


WIDEST = log(1000)
"""Intervals of logarithms that reach farther to a side say nothing, so there are none."""


@dataclass(frozen=True)
class Counts:
    """Returns and users of two arms; ``control_users`` and ``treated_users`` above 0."""

    treated_returns: int
    treated_users: int
    control_returns: int
    control_users: int

    @property
    def treated_rate(self) -> float:
        """Share of the treated who returned."""
        return self.treated_returns / self.treated_users

    @property
    def control_rate(self) -> float:
        """Share of the control arm who returned."""
        return self.control_returns / self.control_users

    @property
    def difference(self) -> float:
        """Treated rate less control rate."""
        return self.treated_rate - self.control_rate


def quantile(level: float) -> float:
    """The normal quantile that a two-sided interval of a level reaches to (1.96 for 0.95)."""
    from scipy.special import ndtri

    return float(-ndtri((1 - level) / 2))


def two_sided(z: float) -> float:
    """The two-sided p-value of a standard normal statistic."""
    from scipy.special import ndtr

    return float(2 * ndtr(-abs(z)))


def wilson(returns: float, users: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a rate (Wilson 1927), within [0, 1]."""
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(returns, users, alpha=1 - level, method="wilson")
    low = 0.0 if returns == 0 else max(0.0, float(low))
    high = 1.0 if returns >= users else min(1.0, float(high))
    return low, high


def rate_difference(counts: Counts, level: float = 0.95) -> Estimate:
    """The difference of two rates with Newcombe's interval."""
    low, high = _interval(counts, level, compare="diff", method="newcomb")
    value = counts.difference
    return Estimate(value, min(low, value), max(high, value), _score_p(counts))


def rate_change(counts: Counts, level: float = 0.95) -> Estimate | None:
    """The difference over the control rate: ratio less 1; None when no control user returned."""
    if counts.control_returns == 0:
        return None
    low, high = _interval(counts, level, compare="ratio", method="log-adjusted")
    change = counts.treated_rate / counts.control_rate - 1
    low = min(change, low - 1)  # without returns half a one lies above none
    return Estimate(change, low, high - 1, _score_p(counts))


def _interval(counts: Counts, level: float, *, compare: str, method: str) -> tuple[float, float]:
    """An interval of two rates, as statsmodels names it."""
    from statsmodels.stats.proportion import confint_proportions_2indep

    low, high = confint_proportions_2indep(
        counts.treated_returns,
        counts.treated_users,
        counts.control_returns,
        counts.control_users,
        compare=compare,
        method=method,
        alpha=1 - level,
    )
    return float(low), float(high)


def _score_p(counts: Counts) -> float:
    """The p-value of the pooled score test; 1 where all or none returned."""
    from statsmodels.stats.proportion import proportions_ztest

    returns = [counts.treated_returns, counts.control_returns]
    users = [counts.treated_users, counts.control_users]
    if not 0 < sum(returns) < sum(users):
        return 1.0
    return float(proportions_ztest(returns, users)[1])


def stratified_difference(strata: Sequence[Counts], level: float = 0.95) -> Estimate:
    """The mean of the strata's differences, weighted by users, with a stratified Newcombe interval.

    Each arm's weighted rate has Wilson's interval at its effective users, those of a simple random
    sample whose rate would vary as much (Korn, E. L. and Graubard, B. I. 1998, Survey Methodology
    24:193-201; Dean, N. and Pagano, M. 2015, Journal of Survey Statistics and Methodology
    3:484-503); then come Newcombe's bounds. What varies within strata is reckoned from both arms
    together, without bias in small strata (Mantel, N. and Haenszel, W. 1959, JNCI 22:719-748), so
    that no arm seems surer because few of it happened to return.

    The strata's own Wilson intervals put together (Yan, X. and Su, X. G. 2010) are far too narrow
    where strata are small: those in which nobody returned add next to nothing to the width.

    Args:
        strata: the arms' counts in each stratum; every arm has users in every stratum.
        level: of the interval.
    """
    sizes = [s.treated_users + s.control_users for s in strata]
    weights = [size / sum(sizes) for size in sizes]
    pooled = [
        (s.treated_returns + s.control_returns) / n for s, n in zip(strata, sizes, strict=True)
    ]
    within = [q * (1 - q) * n / (n - 1) for q, n in zip(pooled, sizes, strict=True)]
    whole = _weighted(weights, pooled)
    whole *= 1 - whole
    p1 = _weighted(weights, [s.treated_rate for s in strata])
    p0 = _weighted(weights, [s.control_rate for s in strata])
    variance, bounds = 0.0, []
    for rate, users in (
        (p1, [s.treated_users for s in strata]),
        (p0, [s.control_users for s in strata]),
    ):
        shares = [w * w / n for w, n in zip(weights, users, strict=True)]
        arm_variance = sum(share * v for share, v in zip(shares, within, strict=True))
        effective = 1 / sum(shares)
        if arm_variance > 0:  # never fewer than with all strata alike
            effective = max(effective, whole / arm_variance)
        bounds.append(wilson(rate * effective, effective, level))
        variance += arm_variance
    (low1, high1), (low0, high0) = bounds
    value = p1 - p0
    return Estimate(
        value,
        value - sqrt((p1 - low1) ** 2 + (high0 - p0) ** 2),
        value + sqrt((high1 - p1) ** 2 + (p0 - low0) ** 2),
        two_sided(value / sqrt(variance)) if variance > 0 else 1.0,
    )


def _weighted(weights: Sequence[float], rates: Sequence[float]) -> float:
    """A mean of rates; rounding must not take it out of [0, 1]."""
    return min(1.0, sum(w * rate for w, rate in zip(weights, rates, strict=True)))


def mean_difference(treated: "Array", control: "Array", level: float = 0.95) -> Estimate:
    """The difference of two means by Welch; without an interval for an arm of fewer than two.

    Nor has it one where all rows of each arm are alike: nothing is known of how they would vary.
    """
    from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

    value = float(treated.mean() - control.mean())
    if min(len(treated), len(control)) < 2 or not treated.var() + control.var() > 0:
        return Estimate(value)
    arms = CompareMeans(DescrStatsW(treated), DescrStatsW(control))
    low, high = arms.tconfint_diff(alpha=1 - level, usevar="unequal")
    p_value = arms.ttest_ind(usevar="unequal")[1]
    return Estimate(value, float(low), float(high), float(p_value))


def weighted_difference(
    outcome: "Array", treated: "Array", chance: "Array", level: float = 0.95
) -> Estimate:
    """The difference of means when rows were treated with different, recorded chances.

    Args:
        outcome: of each row, shape (n,).
        treated: whether the row is of the treatment arm, shape (n,), booleans.
        chance: the chance of the arm that the row is in, shape (n,), above 0.
        level: of the interval.
    """
    (one, one_variance), (other, other_variance) = weighted_means(outcome, treated, chance)
    return _normal(one - other, one_variance + other_variance, level)


def weighted_change(
    outcome: "Array", treated: "Array", chance: "Array", level: float = 0.95
) -> Estimate | None:
    """As :func:`weighted_difference`, over the control mean; None where that is not above 0.

    The interval is that of the logarithm of the ratio, by the delta method.
    """
    (one, one_variance), (other, other_variance) = weighted_means(outcome, treated, chance)
    if not other > 0:
        return None
    if not one > 0:
        return Estimate(-1.0)
    spread = sqrt(one_variance / one**2 + other_variance / other**2)
    return ratio(one / other, spread, level)


def ratio(value: float, spread: float, level: float) -> Estimate:
    """A ratio less 1, with the interval of its logarithm, whose standard error is ``spread``.

    Without an interval where nothing varies, and where it would reach from a thousandth to
    a thousandfold of the ratio: a mean that may as well be none has no meaningful ratio.
    """
    reach = quantile(level) * spread
    if not 0 < reach <= WIDEST:
        return Estimate(value - 1)
    p_value = two_sided(log(value) / spread)
    return Estimate(value - 1, value * exp(-reach) - 1, value * exp(reach) - 1, p_value)


def weighted_means(
    outcome: "Array", treated: "Array", chance: "Array"
) -> list[tuple[float, float]]:
    """Mean and variance of both arms; a variance of 0 for an arm of one row."""
    means = []
    for mask in (treated, ~treated):
        weight, value = 1 / chance[mask], outcome[mask]
        mean = float((weight * value).sum() / weight.sum())
        shift, rows = weight * (value - mean), int(mask.sum())
        scale = rows / (rows - 1) if rows > 1 else 0.0
        means.append((mean, scale * float((shift**2).sum() / weight.sum() ** 2)))
    return means


def _normal(value: float, variance: float, level: float) -> Estimate:
    if not (variance > 0 and isfinite(variance)):
        return Estimate(value)
    half = quantile(level) * sqrt(variance)
    return Estimate(value, value - half, value + half, two_sided(value / sqrt(variance)))


def effect_on_reached(
    outcome: "Array", treated: "Array", reached: "Array", level: float = 0.95
) -> Estimate | None:
    """The effect on those whom a text reached: Wald's ratio of two differences.

    The difference of outcomes over the difference of shares reached. It holds for those who were
    reached because of the draw, if a text that did not arrive changes nothing (Imbens, G. W. and
    Angrist, J. D. 1994, Identification and estimation of local average treatment effects,
    Econometrica 62:467-475). Interval by the delta method: the variance of the difference of
    outcome - effect x reached, over the square of the share.

    Args:
        outcome: of each row, shape (n,).
        treated: whether the row is of the treatment arm, shape (n,), booleans.
        reached: whether a text reached the user, shape (n,), booleans.
        level: of the interval.

    Returns:
        None where the draw reached nobody more.
    """
    share = float(reached[treated].mean() - reached[~treated].mean())
    if not share > 0:
        return None
    value = float(outcome[treated].mean() - outcome[~treated].mean()) / share
    rest = outcome - value * reached
    if min(treated.sum(), (~treated).sum()) < 2:
        return Estimate(value)
    variance = sum(float(rest[mask].var(ddof=1)) / int(mask.sum()) for mask in (treated, ~treated))
    return _normal(value, variance / share**2, level)


def scaled(estimate: Estimate, factor: float) -> Estimate:
    """An estimate times a known factor above 0."""
    low = None if estimate.low is None else estimate.low * factor
    high = None if estimate.high is None else estimate.high * factor
    return Estimate(estimate.value * factor, low, high, estimate.p_value)
