"""How good predicted amounts are, with bootstrap intervals by user.

Definitions (amounts y ≥ 0, predictions p > 0, row weights w; 1 each unless resampled):

* ``gini``: normalized Gini, G(p) / G(y). G of an order is 2 A − 1, where A is the area under the
  cumulative share of the amounts over the cumulative share of rows, the highest first; rows that
  tie are taken in equal parts. 1 is the true order, 0 a random one. For y in {0, 1} it is
  2 AUC − 1 (Somers' D).
* ``spearman``: correlation of the ranks of p and y, ties at their mean rank; equals
  ``scipy.stats.spearmanr``.
* ``decile_error``: over ten bins of equal mass by p, Σ |Σ p − Σ y| / Σ y, the outer sums over the
  bins: what share of all amounts is promised in the wrong tenth. A mean of each bin's own share
  would be infinite where a bin has no amount. Rows of equal p stay in one bin; in a resample the
  bins stay those of the full sample.
* ``bias``: Σ p / Σ y − 1; above 0 it promises too much.
* ``capture_q``: share of all amounts in the top q % of rows by p.
* ``deviance``: mean Tweedie deviance of power 1.5 (Jørgensen 1987), which the true mean minimizes;
  equals ``sklearn.metrics.mean_tweedie_deviance(y, p, power=1.5)``. Candidates are compared by it.

Their use for lifetime values is that of Wang, Liu & Miao 2019, arXiv:1912.07753. Intervals are
those of :mod:`usergrowth_dagster.learning.metrics`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.metrics import (
    Evaluation,
    as_interval,
    gain_at,
    resample_weights,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

POWER = 1.5
BINS = 10
TOP_SHARES = (10, 20, 40)
LEAST = 1e-6  # a prediction of nothing at all would make an infinite deviance of any amount


def deviance(amount: "Floats", predicted: "Floats") -> "Floats":
    """The Tweedie deviance of each row, shape (n,)."""
    import numpy as np

    p = np.maximum(predicted, LEAST)
    one, two = 1 - POWER, 2 - POWER
    out: Floats = 2 * (amount**two / (one * two) - amount * p**one / one + p**two / two)
    return out


class _Order:
    """Rows by falling value, those of equal value in one step."""

    def __init__(self, value: "Floats") -> None:
        import numpy as np

        self.order = np.argsort(-value, kind="stable")
        ranked = value[self.order]
        self.starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        self.sizes = np.diff(np.r_[self.starts, len(ranked)])

    def steps(self, weights: "Floats") -> "Floats":
        """Sum of row weights, shape (resamples, rows), at each step."""
        import numpy as np

        out: Floats = np.add.reduceat(weights[:, self.order], self.starts, axis=1)
        return out

    def ranks(self, weights: "Floats") -> "Floats":
        """Mean rank of each row, shape (resamples, rows), where a row stands for ``weights``."""
        import numpy as np

        mass = self.steps(weights)
        middle = np.cumsum(mass, axis=1) - (mass - 1) / 2
        out = np.empty_like(weights)
        out[:, self.order] = np.repeat(middle, self.sizes, axis=1)
        return out


def _area(mass: "Floats", value: "Floats") -> "Floats":
    """Area under the cumulative share of the value over that of rows, shape (resamples,)."""
    import numpy as np

    total = np.cumsum(value, axis=1)
    before = total - value
    out: Floats = (mass * (total + before) / 2).sum(axis=1) / (mass.sum(axis=1) * total[:, -1])
    return out


class Amounts:
    """One scorer's rows, ready for weighted figures."""

    def __init__(self, amount: "Floats", predicted: "Floats", truth: _Order) -> None:
        import numpy as np

        self.amount, self.predicted, self.truth = amount, predicted, truth
        self.own = _Order(predicted)
        self.loss = deviance(amount, predicted)
        cuts = np.arange(BINS) * len(amount) // BINS
        at = np.searchsorted(self.own.starts, cuts, side="right") - 1
        self.bins: Ints = np.unique(self.own.starts[at])

    def figures(self, weights: "Floats") -> dict[str, "Floats"]:
        """Every figure, shape (resamples,), for weights of shape (resamples, rows)."""
        import numpy as np

        value = weights * self.amount
        mass, held = self.own.steps(weights), self.own.steps(value)
        seen, captured = np.cumsum(mass, axis=1), np.cumsum(held, axis=1)
        total, everything = seen[:, -1], captured[:, -1]
        with np.errstate(divide="ignore", invalid="ignore"):
            best = _area(self.truth.steps(weights), self.truth.steps(value))
            out = {
                "gini": (2 * _area(mass, held) - 1) / (2 * best - 1),
                "spearman": self._correlation(weights),
                "decile_error": self._decile_error(weights, value),
                "bias": weights @ self.predicted / everything - 1,
                "deviance": weights @ self.loss / total,
            }
            for share in TOP_SHARES:
                gained = gain_at(seen, captured, mass, held, total * share / 100)
                out[f"capture_{share}"] = gained / everything
        return out

    def _correlation(self, weights: "Floats") -> "Floats":
        import numpy as np

        first, second = self.own.ranks(weights), self.truth.ranks(weights)
        middle = (weights.sum(axis=1, keepdims=True) + 1) / 2
        first, second = first - middle, second - middle
        spread = (weights * first**2).sum(axis=1) * (weights * second**2).sum(axis=1)
        out: Floats = (weights * first * second).sum(axis=1) / np.sqrt(spread)
        return out

    def _decile_error(self, weights: "Floats", value: "Floats") -> "Floats":
        import numpy as np

        promised = (weights * self.predicted)[:, self.own.order]
        promised = np.add.reduceat(promised, self.bins, axis=1)
        real = np.add.reduceat(value[:, self.own.order], self.bins, axis=1)
        out: Floats = np.abs(promised - real).sum(axis=1) / real.sum(axis=1)
        return out


def evaluate_amounts(
    amount: "NDArray[Any]",
    scores: Mapping[str, "NDArray[Any]"],
    clusters: "NDArray[Any] | None" = None,
    *,
    resamples: int = 500,
    seed: int = 0,
) -> Evaluation:
    """Every figure of every scorer on the same rows, with intervals.

    Args:
        amount: shape (n,), 0 or more, some above 0.
        scores: scorer name → predicted amounts, shape (n,), 0 or more.
        clusters: user of each row, shape (n,); None makes every row its own cluster.
        resamples: bootstrap draws; 0 leaves the bounds NaN.
        seed: of the draws.

    Raises:
        ValueError: an amount or a prediction is below 0.
    """
    import numpy as np

    y = np.asarray(amount, dtype=np.float64)
    truth = _Order(y)
    parts: dict[str, Amounts] = {}
    for name, raw in scores.items():
        score = np.asarray(raw, dtype=np.float64)
        if min(y.min(), score.min()) < 0:
            raise ValueError(f"{name}: amounts and predictions must be 0 or more")
        parts[name] = Amounts(y, score, truth)
    cluster = np.arange(len(y)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    values = {name: part.figures(np.ones((1, len(y)))) for name, part in parts.items()}
    draws: dict[str, dict[str, list[Any]]] = {
        name: {metric: [] for metric in by_metric} for name, by_metric in values.items()
    }
    for weights in resample_weights(cluster, resamples, seed):
        for name, part in parts.items():
            for metric, drawn in part.figures(weights).items():
                draws[name][metric].append(drawn)
    stacked = {
        name: {metric: np.concatenate([*d, np.empty(0)]) for metric, d in by_metric.items()}
        for name, by_metric in draws.items()
    }
    metrics = {
        name: {m: as_interval(float(v[0]), stacked[name][m]) for m, v in by_metric.items()}
        for name, by_metric in values.items()
    }
    return Evaluation(metrics, stacked)


def deciles(amount: "NDArray[Any]", predicted: "NDArray[Any]") -> list[dict[str, float]]:
    """Each tenth of the predictions, the highest first.

    Returns:
        ``rows``, mean ``predicted`` and ``real`` amount, and the ``error`` of the latter, a
        standard error with rows taken as independent.
    """
    import numpy as np

    y, p = np.asarray(amount, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    part = Amounts(y, p, _Order(y))
    rows = np.diff(np.r_[part.bins, len(y)]).astype(np.float64)
    order = part.own.order
    promised = np.add.reduceat(p[order], part.bins) / rows
    real = np.add.reduceat(y[order], part.bins) / rows
    square = np.add.reduceat(y[order] ** 2, part.bins) / rows
    error = np.sqrt(np.maximum(square - real**2, 0) / rows)
    names = ("rows", "predicted", "real", "error")
    return [
        dict(zip(names, map(float, values), strict=True))
        for values in zip(rows, promised, real, error, strict=True)
    ]
