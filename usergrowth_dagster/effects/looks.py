"""Several looks at one campaign, several comparisons in one report: what each may claim.

**Looks.** A campaign plans K of them: look k counts behavior until day ceil(k R / K) of its window
of R days, and a report made between two looks shows the earlier one, so that nobody can look more
often than was planned. Their errors are spent by the function of O'Brien and Fleming's type (Lan,
K. K. G. and DeMets, D. L. 1983, Discrete sequential boundaries for clinical trials, Biometrika
70:659-663):

    alpha(t) = 2 (1 - Phi(z(alpha / 2) / sqrt(t))),  t = landed days / R

The boundary of look k is the c_k with P(|Z_1| < c_1, …, |Z_(k-1)| < c_(k-1), |Z_k| >= c_k) =
alpha(t_k) - alpha(t_(k-1)). Errors are spent by days, while the looks' correlation is that of the
returns themselves (Lan and DeMets 1989, Group sequential procedures: calendar versus information
time, Statistics in Medicine 8:1191-1198): who has returned by day s has returned by day t > s, so
corr(Z_s, Z_t)^2 = odds(s) / odds(t), with the odds p / (1 - p) of both arms' returns together.
These are independent increments with the odds as information. A look's interval is at the level
2 Phi(c_k) - 1 (repeated confidence intervals, Jennison, C. and Turnbull, B. W. 1989, JRSS B
51:305-361), so it holds the truth at all looks at once with 95 %.

**Comparisons.** Holm's step-down p-values (Holm 1979).
"""

from collections.abc import Sequence
from math import ceil


def look_day(look: int, looks: int, return_days: int) -> int:
    """The day of the window, from 1, until which a look counts."""
    return ceil(look * return_days / looks)


def looks_reached(landed: int, looks: int, return_days: int) -> int:
    """How many of the planned looks have come when so many days of the window have landed."""
    days = [look_day(look, looks, return_days) for look in range(1, looks + 1)]
    return sum(landed >= day for day in days)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values, in the order given; None stays None and counts for nothing."""
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    found: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        found[place] = highest
    return found
