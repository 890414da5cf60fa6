"""From a ranking to an effect: what the difference in probability is that a score stands for.

A score that ranks well need not be an effect: a feature has its own unit, a response model tells
who returns at all, and a learner fitted to noise exaggerates. The effect is the line
``a + b * place``, where place is the score's quantile among the rows learned from, fitted by least
squares to cross-fitted scores against doubly robust pseudo-outcomes (the best linear predictor of
Chernozhukov, Demirer, Duflo & Fernandez-Val 2018). The line rises or is level, so the ranking
stays; b is shrunk by ``1 - (its error / b)²``, never below 0, as an empirical-Bayes estimate would
be, so that differences which the rows do not bear out are not paid for.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

KNOTS = 201


class EffectScale:
    """The map from a score to an effect.

    Attributes:
        scores: rising scores, shape (k,).
        places: quantile of each among the rows learned from, in [0, 1], shape (k,).
        base, gain: the line; ``gain`` is what the best ranked gain more than the worst.
    """

    def __init__(self, scores: "Floats", places: "Floats", base: float, gain: float) -> None:
        self.scores = scores
        self.places = places
        self.base = base
        self.gain = gain

    def __call__(self, score: "Floats") -> "Floats":
        """Effects, shape (n,)."""
        import numpy as np

        return np.asarray(self.base + self.gain * np.interp(score, self.scores, self.places))


def places_of(score: "Floats") -> "tuple[Floats, Floats]":
    """Distinct scores, thinned to at most 201, and the middle quantile of each."""
    import numpy as np

    level, count = np.unique(score, return_counts=True)
    middle = (np.cumsum(count) - count / 2) / len(score)
    at = np.unique(np.linspace(0, len(level) - 1, min(KNOTS, len(level))).round().astype(int))
    return level[at], middle[at]


def fit_scale(fitted: "Floats", held: "Floats", pseudo: "Floats", users: "Ints") -> EffectScale:
    """The scale of a fitted ranking.

    Args:
        fitted: its scores of the rows learned from, shape (n,); quantiles are taken among them.
        held: cross-fitted places of the same rows in [0, 1], each among the scores of its own
            fold's ranking, shape (n,).
        pseudo: doubly robust pseudo-outcomes, shape (n,).
        users: number of each row's user; errors are clustered by it.
    """
    import numpy as np

    level, place = places_of(fitted)
    centered = held - held.mean()
    spread = float(centered @ centered)
    mean = float(pseudo.mean())
    if spread <= 1e-9 * len(held):
        return EffectScale(level, place, mean, 0.0)
    slope = float(centered @ pseudo) / spread
    residual = pseudo - mean - slope * centered
    of_user = np.bincount(users, weights=centered * residual)
    error = float(np.sqrt(of_user @ of_user)) / spread
    kept = max(0.0, 1 - (error / slope) ** 2) if slope > 0 else 0.0
    gain = slope * kept
    return EffectScale(level, place, mean - gain * float(held.mean()), gain)
