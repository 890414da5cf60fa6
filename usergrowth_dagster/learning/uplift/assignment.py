"""Who is held out must not be foretold by a feature: a score test of the draw.

Where everyone is drawn by the recorded chance e, ``r = (t - e) / sqrt(e (1 - e))`` has mean 0 and
variance 1 whatever is known of them. A small booster is fitted to r on half of the users and
foretells it for the other half, and the statistic is the sum of ``prediction * r`` over the held
rows, both centered (a share that is off as a whole is for the gate ``sample_ratio``). Its error is
summed by user, who may have been held out in every round, and never less than that of independent
draws. Then the halves change places, and p is twice the smaller one. (The sum over both would not
be normal: it holds every pair of rows twice, a degenerate U-statistic.)

It is the classifier two-sample test of Lopez-Paz & Oquab (2017) on a randomization check as of
Imbens & Rubin (2015, chapter 21): small p says that a feature knows the arm.

What makes features know it is their own past: when the same people are held out in every round,
whoever was texted before is texted again, so a feature made from touches is the arm in other
words. A ranking by it puts treated rows first and control rows last, where nobody can be compared,
and learns nothing of the effect. So :func:`touch_features` are not learned from, and the test looks
after what else may know.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.encoding import KEYS
from usergrowth_dagster.learning.uplift.boosting import Boost, Booster, user_folds
from usergrowth_dagster.warehouse.models import load_graph

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

TOUCHES = "user_touches"  # the one model whose columns are features made from operation rows
SIZE = Boost(60, 6)


@dataclass(frozen=True)
class Foretold:
    """How well the features foretell the arm, beyond its recorded chance.

    Attributes:
        correlation: of what was foretold with what was drawn, on users not fitted on.
        p: chance of as much where nothing foretells it, one-sided.
        feature: the one that the prediction leans on most; None where nothing was found.
        treated, control: its mean in either arm, NaN where it is unknown throughout.
    """

    correlation: float
    p: float
    feature: str | None
    treated: float
    control: float


def touch_features() -> tuple[str, ...]:
    """Columns made from a user's own touches, as the SQL model declares them."""
    return tuple(name for name in load_graph().columns(TOUCHES) if name not in KEYS)


def foretold(
    x: "Floats",
    treated: "Floats",
    propensity: "Floats",
    users: "NDArray[Any]",
    names: Sequence[str],
    *,
    seed: int = 0,
    threads: int = 1,
) -> Foretold:
    """Test whether features foretell the arm.

    Args:
        x: features, NaN where unknown, shape (n, columns).
        treated: 1 where texted, shape (n,).
        propensity: chance of treatment, inside (0, 1), shape (n,).
        users: user of each row, shape (n,).
        names: of the columns.
        seed: of folds and sampling.
        threads: of LightGBM.
    """
    import numpy as np

    drawn = (treated - propensity) / np.sqrt(propensity * (1 - propensity))
    who = np.unique(users, return_inverse=True)[1]
    gain, p = np.zeros(x.shape[1]), 1.0
    guess, known = np.zeros(len(drawn)), np.zeros(len(drawn))
    for fit, held in user_folds(who, 2, seed):
        booster = Booster(binary=False).fit(x[fit], drawn[fit], None, SIZE, seed, threads)
        if booster.model is None:
            continue
        predicted = booster.predict(x[held])
        guess[held], known[held] = predicted - predicted.mean(), drawn[held] - drawn[held].mean()
        gain += booster.model.booster_.feature_importance("gain")
        p = min(p, 2 * _by_chance(guess[held], known[held], who[held]))
    size = float(guess @ guess) * float(known @ known)
    if size == 0:
        return Foretold(0.0, 1.0, None, math.nan, math.nan)
    at = int(np.argmax(gain))
    return Foretold(
        correlation=float(guess @ known) / math.sqrt(size),
        p=p,
        feature=names[at],
        treated=_mean(x[treated == 1, at]),
        control=_mean(x[treated == 0, at]),
    )


def _by_chance(guess: "Floats", drawn: "Floats", who: "NDArray[np.int64]") -> float:
    """One-sided p of the sum of guess x drawn, both centered, rows of a user in one."""
    import numpy as np

    of_user = np.bincount(who, weights=guess * drawn)
    independent = float(guess @ guess) * max(1.0, float(drawn @ drawn) / len(drawn))
    error = math.sqrt(max(float(of_user @ of_user), independent))
    return 0.5 * math.erfc(float(guess @ drawn) / error / math.sqrt(2)) if error else 1.0


def _mean(values: "Floats") -> float:
    import numpy as np

    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan
