"""The difference between two arms' mean amounts, where few people pay and a few of them pay much.

A mean of such amounts is skewed, and an arm that missed the large ones by chance looks poorer and
surer at once. Welch's interval of the difference then excludes zero in up to a third of the
campaigns that have no effect, always on the same side when one arm is small. So here:

* each arm's mean has the interval of its logarithm (delta method), which is skewed the right way,
  with Student's t at as many degrees of freedom as it has *equal payers*, the squared mean over
  its variance: of so many people who each pay the same, a mean would vary as much;
* how unequal payers are is taken from both arms together where an arm by itself shows less;
* the intervals of the two arms are put together by MOVER (Zou, G. Y. and Donner, A. 2008,
  Construction of confidence limits about effect measures, Statistics in Medicine 27:1693-1702),
  as Newcombe does for rates;
* below :data:`PAYERS` equal payers in the smaller arm there is no interval. Whether there is one
  follows from both arms together, so that it does not depend on which arm did better.
"""

from math import exp, inf, log, sqrt
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.effects.lift import WIDEST, quantile, weighted_means
from usergrowth_dagster.effects.result import Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

PAYERS = 6.0
"""Equal payers that the smaller arm needs, at the rate and the amounts of both arms."""
_EACH = 3.0  # and what it needs at least by its own
_SMALLEST = 1e-12  # p-value

Means = tuple[tuple[float, float], tuple[float, float]]
"""Mean and variance of the mean: of the treatment arm, of the control arm."""


def amount_difference(
    amounts: "Array", treated: "Array", chance: "Array | None" = None, level: float = 0.95
) -> Estimate:
    """The difference of mean amounts; without an interval where too few pay.

    Args:
        amounts: of each row, shape (n,), mostly 0.
        treated: whether the row is of the treatment arm, shape (n,), booleans; both arms have rows.
        chance: the chance of the row's arm, shape (n,); None: the same for all of an arm.
        level: of the interval.
    """
    import numpy as np

    even = np.ones(len(amounts)) if chance is None else chance
    one, other = weighted_means(amounts, treated, even)
    return between_means((one, other), amounts, treated, even, level)


def between_means(
    means: Means,
    amounts: "Array",
    treated: "Array",
    chance: "Array",
    level: float,
    besides: float = 0.0,
) -> Estimate:
    """The difference of two means of these amounts, however they were estimated.

    Args:
        means: of both arms.
        amounts: what they are the means of, as :func:`amount_difference` takes it.
        treated: the same.
        chance: the same.
        level: of the interval.
        besides: variance of the difference that is of neither arm.
    """
    value = means[0][0] - means[1][0]
    doubts = _doubts(amounts, treated, chance)
    if doubts is None or min(mean for mean, _ in means) <= 0:
        return Estimate(value)
    spreads = [doubt * v / m**2 for doubt, (m, v) in zip(doubts, means, strict=True)]
    if not 0 < min(spreads) <= max(spreads) <= 1 / _EACH:
        return Estimate(value)
    if max(_reach(spread, 1 - level) for spread in spreads) > WIDEST:
        return Estimate(value)
    low, high = _bounds(means, spreads, besides, 1 - level)
    return Estimate(value, low, high, _p_value(means, spreads, besides))


def _doubts(amounts: "Array", treated: "Array", chance: "Array") -> tuple[float, float] | None:
    """By how much each arm's variance is to be raised; None where there are too few payers."""
    import numpy as np

    paid = amounts != 0
    all_payers = unequal_payers(amounts[paid])
    fewest = inf
    doubts = []
    for arm in (treated, ~treated):
        weight, payers = 1 / chance[arm], unequal_payers(amounts[arm & paid])
        fewest = min(fewest, float(weight.sum() ** 2 / np.square(weight).sum()))
        share = float(paid[arm].mean())
        if payers is None or all_payers is None or not payers > share:
            return None
        doubts.append((max(payers, all_payers) / share - 1) / (payers / share - 1))
    if all_payers is None or fewest < PAYERS * (all_payers / float(paid.mean()) - 1):
        return None
    return doubts[0], doubts[1]


def unequal_payers(amounts: "Array") -> float | None:
    """The mean square of payers' amounts over their squared mean: 1 when all pay the same."""
    if len(amounts) < 2 or not amounts.mean() > 0:
        return None
    return 1 + float(amounts.var(ddof=1) / amounts.mean() ** 2)


def _reach(spread: float, alpha: float) -> float:
    """How far the interval of a mean's logarithm reaches, of a relative variance ``spread``."""
    from scipy.special import stdtrit

    return float(-stdtrit(1 / spread, alpha / 2)) * sqrt(spread)


def _bounds(
    means: Means, spreads: list[float], besides: float, alpha: float
) -> tuple[float, float]:
    (one, _), (other, _) = means
    first, second = (min(_reach(spread, alpha), 300.0) for spread in spreads)  # exp stays finite
    rest = quantile(1 - alpha) ** 2 * besides
    below = (one * (1 - exp(-first))) ** 2 + (other * (exp(second) - 1)) ** 2
    above = (one * (exp(first) - 1)) ** 2 + (other * (1 - exp(-second))) ** 2
    value = one - other
    return value - sqrt(below + rest), value + sqrt(above + rest)


def _p_value(means: Means, spreads: list[float], besides: float) -> float:
    """The error at which the interval would reach zero."""
    from scipy.optimize import brentq

    side, sign = (0, 1) if means[0][0] > means[1][0] else (1, -1)

    def bound(logarithm: float) -> float:
        """How far the bound that is nearer to zero lies on the difference's side of it."""
        return sign * _bounds(means, spreads, besides, exp(logarithm))[side]

    least, most = log(_SMALLEST), log(1 - _SMALLEST)
    if bound(least) >= 0:
        return _SMALLEST
    if bound(most) <= 0:
        return 1.0
    return exp(float(brentq(bound, least, most, xtol=1e-9)))
