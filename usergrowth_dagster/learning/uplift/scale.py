"""From a ranking to an effect: what the difference in probability is that a score stands for.

A score that ranks well need not be an effect: a feature has its own unit, a response model tells
who returns at all, and a learner fitted to noise exaggerates. The effect is the line
``a + b * place``, where place is the score's quantile among the rows learned from, fitted by least
squares to cross-fitted scores against doubly robust pseudo-outcomes (the best linear predictor of
Chernozhukov, Demirer, Duflo & Fernandez-Val 2018). The line rises or is level, so the ranking
stays; b is shrunk by ``1 - (its error / b)²``, never below 0, as an empirical-Bayes estimate would
be, so that differences which the rows do not bear out are not paid for.

Where a few attributes decide, the true effect is a step and not a line, and a line pays for people
below the step and stops too early above it. So a rising curve stands beside the line: isotonic
regression on twentieths of the place. Both are fitted on four fifths of the users and compared on
the rest; the curve is taken when its squared error is smaller by more than two standard errors.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

KNOTS = 201
BINS = 20  # of equal mass, that a curve is fitted to
FOLDS = 5
ERRORS = 2.0  # standard errors by which a curve must be better
ORDER = 1e-6  # of the places, so that level stretches of a curve keep the ranking


class EffectScale:
    """The map from a score to an effect.

    Attributes:
        scores: rising scores, shape (k,).
        places: quantile of each among the rows learned from, in [0, 1], shape (k,).
        base, gain: the line; ``gain`` is what the best ranked gain more than the worst.
        curve: places and effects of a rising curve that stands in the line's place; None: the line.
    """

    curve: "tuple[Floats, Floats] | None" = None  # scales saved before there were curves have none

    def __init__(
        self,
        scores: "Floats",
        places: "Floats",
        base: float,
        gain: float,
        curve: "tuple[Floats, Floats] | None" = None,
    ) -> None:
        self.scores = scores
        self.places = places
        self.base = base
        self.gain = gain
        self.curve = curve

    def __call__(self, score: "Floats") -> "Floats":
        """Effects, shape (n,)."""
        import numpy as np

        place = np.interp(score, self.scores, self.places)
        if self.curve is None:
            return np.asarray(self.base + self.gain * place)
        return np.asarray(_along(self.curve, place))


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

    level, place = places_of(fitted)
    base, gain = _line(held, pseudo, users)
    curve = _curve(held, pseudo) if gain > 0 and _is_bent(held, pseudo, users) else None
    return EffectScale(level, place, base, gain, curve)


def _line(held: "Floats", pseudo: "Floats", users: "Ints") -> tuple[float, float]:
    """Base and shrunk gain of the line."""
    import numpy as np

    centered = held - held.mean()
    spread = float(centered @ centered)
    mean = float(pseudo.mean())
    if spread <= 1e-9 * len(held):
        return mean, 0.0
    slope = float(centered @ pseudo) / spread
    residual = pseudo - mean - slope * centered
    of_user = np.bincount(users, weights=centered * residual)
    error = float(np.sqrt(of_user @ of_user)) / spread
    kept = max(0.0, 1 - (error / slope) ** 2) if slope > 0 else 0.0
    gain = slope * kept
    return mean - gain * float(held.mean()), gain


def _curve(held: "Floats", pseudo: "Floats") -> "tuple[Floats, Floats]":
    """Places and effects of a rising curve; isotonic on bins of equal mass, linear between them."""
    import numpy as np
    from sklearn.isotonic import IsotonicRegression

    bins = [part for part in np.array_split(np.argsort(held, kind="stable"), BINS) if len(part)]
    at = np.array([held[part].mean() for part in bins])
    means = np.array([pseudo[part].mean() for part in bins])
    size = np.array([len(part) for part in bins], dtype=np.float64)
    rising = IsotonicRegression().fit_transform(at, means, sample_weight=size)
    return at, np.asarray(rising, dtype=np.float64)


def _along(curve: "tuple[Floats, Floats]", place: "Floats") -> "Floats":
    import numpy as np

    return np.asarray(np.interp(place, *curve) + ORDER * place)


def _is_bent(held: "Floats", pseudo: "Floats", users: "Ints") -> bool:
    """Whether the curve foretells unseen users' pseudo-outcomes better, by more than its error."""
    import numpy as np

    gained = np.zeros(len(held))
    fold = (users * 2_654_435_761 >> 7) % FOLDS  # scattered, the same for all rows of a user
    for part in range(FOLDS):
        out, fit = fold == part, fold != part
        if not out.any() or fit.sum() < BINS:
            return False
        base, gain = _line(held[fit], pseudo[fit], users[fit])
        straight = base + gain * held[out]
        bent = _along(_curve(held[fit], pseudo[fit]), held[out])
        gained[out] = (pseudo[out] - straight) ** 2 - (pseudo[out] - bent) ** 2
    of_user = np.bincount(users, weights=gained - gained.mean())
    return bool(gained.sum() > ERRORS * np.sqrt(of_user @ of_user))
