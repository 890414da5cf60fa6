"""Interim analyses of one campaign, several comparisons in one report: what each may claim.

**Interim analyses.** A campaign plans K analyses (key ``effect.looks``), the last of them final:
analysis k counts behavior until day ceil(k R / K) of its window of R days, and a report made
between two analyses shows the earlier one, so that nobody can conclude more often than was planned.
Their errors are spent by the function of O'Brien and Fleming's type (Lan, K. K. G. and DeMets, D.
L. 1983, Discrete sequential boundaries for clinical trials, Biometrika 70:659-663), half of it on
each side:

    alpha(t) = 2 x 2 (1 - Phi(z(alpha / 4) / sqrt(t))),  t = landed days / R

The boundary of analysis k is the c_k with P(|Z_1| < c_1, …, |Z_(k-1)| < c_(k-1), |Z_k| >= c_k) =
alpha(t_k) - alpha(t_(k-1)). Errors are spent by days, while the correlation of the analyses is that
of the returns themselves (Lan and DeMets 1989, Group sequential procedures: calendar versus
information time, Statistics in Medicine 8:1191-1198): who has returned by day s has returned by day
t > s, so corr(Z_s, Z_t)^2 = odds(s) / odds(t), with the odds p / (1 - p) of both arms' returns
together. These are independent increments with the odds as information. An analysis's interval is
at the level 2 Phi(c_k) - 1 (repeated confidence intervals, Jennison, C. and Turnbull, B. W. 1989,
JRSS B 51:305-361), so it holds the truth at all analyses at once with 95 %.

**Comparisons.** Holm's step-down p-values (Holm 1979).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, log, pi, sqrt
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

FARTHEST = 7.5
"""No boundary is farther out: beyond it lies an error of 6e-14, which is none."""
_PANELS, _NODES = 15, 20
_NOTHING = 1e-11  # an error step that the integration cannot distinguish from none
_SAME = 1e-4  # of two analyses' information


def analysis_day(number: int, planned: int, return_days: int) -> int:
    """The day of the window, from 1, until which an analysis counts."""
    return ceil(number * return_days / planned)


def analyses_due(landed: int, planned: int, return_days: int) -> int:
    """How many of the planned analyses are due when so many days of the window have landed."""
    days = [analysis_day(number, planned, return_days) for number in range(1, planned + 1)]
    return sum(landed >= day for day in days)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values, in the order given; None stays None and counts for nothing."""
    from statsmodels.stats.multitest import multipletests

    known = [p for p in p_values if p is not None]
    if not known:
        return list(p_values)
    adjusted = iter(multipletests(known, method="holm")[1])
    return [None if p is None else float(next(adjusted)) for p in p_values]


def spent(share: float, alpha: float) -> float:
    """The error, of both sides, that may be spent by a share of the window."""
    from scipy.special import ndtr, ndtri

    if share <= 0:
        return 0.0
    return float(4 * ndtr(ndtri(alpha / 4) / sqrt(min(share, 1.0))))


def boundaries(
    shares: Sequence[float], information: Sequence[float], alpha: float = 0.05
) -> list[float]:
    """How far from zero a standardized difference must lie at each analysis.

    Args:
        shares: of the window that each analysis counts, rising, the last at most 1.
        information: at each analysis, above 0 and not falling; only ratios matter.
        alpha: error of all analyses together.

    Returns:
        The c_k, at most :data:`FARTHEST`. Numerical integration over the part of the plane that no
        analysis before has left (Armitage, McPherson and Rowe 1969, JRSS A 132:235-244).
    """
    from scipy.special import ndtri

    nodes, weights = _quadrature()
    bounds: list[float] = []
    state: _Kept | None = None  # the walk at the last analysis that stands for itself
    before: _Kept | None = None  # at the analysis before that one
    spent_then = spent_before = 0.0
    for share, info in zip(shares, information, strict=True):
        now = spent(share, alpha)
        if state is not None and state.information > info * (1 - _SAME):
            state, spent_then = before, spent_before  # nothing came since: one analysis in two
        step = now - spent_then
        if state is None or step < _NOTHING:
            c = min(FARTHEST, float(-ndtri(max(step, 1e-300) / 2)))
        else:
            c = _solve(state, info, step)
        bounds.append(c)
        before, spent_before = state, spent_then
        state, spent_then = _advance(state, info, c, nodes, weights), now
    return bounds


@cache
def _quadrature() -> tuple["Array", "Array"]:
    """Points in [-1, 1] and their weights: Gauss and Legendre's, in equal panels."""
    import numpy as np
    from numpy.polynomial.legendre import leggauss

    nodes, weights = leggauss(_NODES)
    middles = (np.arange(_PANELS) + 0.5) * 2 / _PANELS - 1
    points = (middles[:, None] + nodes[None, :] / _PANELS).ravel()
    return points, np.tile(weights / _PANELS, _PANELS)


@dataclass(frozen=True)
class _Kept:
    """The walk's density where it is still inside, at quadrature points times their weights."""

    information: float
    points: "Array"
    mass: "Array"


def _advance(state: _Kept | None, info: float, c: float, nodes: "Array", weights: "Array") -> _Kept:
    """The walk at an analysis, inside its boundary."""
    import numpy as np

    reach = c * sqrt(info)
    points = nodes * reach
    if state is None:
        density = np.exp(-(points**2) / (2 * info)) / sqrt(2 * pi * info)
    else:
        width = sqrt(info - state.information)
        steps = (points[:, None] - state.points[None, :]) / width
        density = np.exp(-(steps**2) / 2) @ state.mass / (width * sqrt(2 * pi))
    return _Kept(info, points, density * weights * reach)


def _solve(state: _Kept, info: float, step: float) -> float:
    """The boundary that a walk from the last analysis leaves with a probability of ``step``."""
    from scipy.optimize import brentq
    from scipy.special import ndtr

    width, scale = sqrt(info - state.information), sqrt(info)

    def leaves(c: float) -> float:
        out = ndtr((state.points - c * scale) / width) + ndtr((-c * scale - state.points) / width)
        return log(max(float(out @ state.mass), 1e-300)) - log(step)

    if leaves(0.0) <= 0:  # all that was inside may leave
        return 0.0
    return FARTHEST if leaves(FARTHEST) > 0 else float(brentq(leaves, 0.0, FARTHEST, xtol=1e-10))


def level_of_analysis(
    number: int, planned: int, return_days: int, days: "Array", level: float = 0.95
) -> float:
    """The level of the intervals of an analysis.

    Args:
        number: which one, from 1; before the first, 0, its level is not used up.
        planned: how many are planned.
        return_days: days R of the window.
        days: day of return of every user of both arms, infinity for none; shape (n,).
        level: of all analyses together.

    Returns:
        2 Phi(c) - 1; ``level`` itself when one analysis is planned, or none is due.
    """
    from scipy.special import ndtr

    if planned <= 1 or number < 1 or not len(days):
        return level
    until = [analysis_day(k, planned, return_days) for k in range(1, number + 1)]
    # Half a return more on both sides keeps the odds above 0 and finite.
    came = [float((days <= day).sum()) + 0.5 for day in until]
    odds = [x / (len(days) + 1 - x) for x in came]
    c = boundaries([day / return_days for day in until], odds, 1 - level)[-1]
    return float(1 - 2 * ndtr(-c))
