"""How good a set of probabilities is, with bootstrap intervals by user; its gains and its curves.

Definitions (labels y in {0, 1}, scores p in [0, 1], row weights w; 1 each unless the rows are a
weighted sample, times how often a row is drawn):

* ``auc``: area under the ROC curve = P(score of a positive > score of a negative) + half the ties
  (Hanley & McNeil 1982); equals ``sklearn.metrics.roc_auc_score``.
* ``pr_auc``: average precision, the sum of precision times recall step over distinct scores;
  equals ``sklearn.metrics.average_precision_score``.
* ``log_loss``: mean of −log p of the label, p clipped to [1e-15, 1 − 1e-15]; equals
  ``sklearn.metrics.log_loss``.
* ``ece``: expected calibration error over 10 bins of **equal width**, [0, 0.1), …, [0.9, 1]: the
  bins' |mean score − share of positives| averaged by their weight (Guo et al. 2017, and what the
  name means in Nixon et al. 2019).
* ``ace``: the same over 10 bins of **equal mass** (the adaptive bins of Nixon et al. 2019): rows
  sorted by score are cut at the deciles, rows of equal score stay in one bin. In a resample the
  bins stay those of the full sample.
* ``capture_q``: share of all positives in the top q % of rows by score, on the cumulative gains
  curve; rows of equal score are taken in equal parts, a fractional row counts by its fraction.
* ``lift_q`` = capture_q / q: how many times denser positives are there than everywhere.
* ``auc_within``: mean of the AUC within each group (campaign item), weighted by group size; groups
  with one class only are left out.

Intervals are 95 % percentile intervals of a cluster bootstrap: whole users are drawn with
replacement (Efron & Tibshirani 1993, ch. 13; clusters as in Field & Welsh 2007). Every scorer sees
the same draws, so differences are paired.

Gains are given from the top tenth to everyone. For the share q of rows with the highest scores:

* ``capture``: share of all positives that are in it; ``lift`` = capture / q.
* ``response``: share of positives in it; ``rest``: share of positives in what is left.
* ``difference`` = response − rest, and ``ratio`` = response / rest.

A vendor that says "the top 40 % hold 67 % of the buyers" quotes ``capture`` at 40 %; one that says
"8 % of the selected came back, 3 % of the others" quotes ``response`` and ``rest``. Both describe
how well people are ranked. Neither says what a text changes: the selected would have answered more
often anyway.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

TOP_SHARES = (10, 20, 40)
ECE_BINS = 10
WITHIN = "auc_within"
CLIP = 1e-15
_CELLS = 200_000  # rows x resamples held at once: so few stay in the processor's cache

SHARES = tuple(range(10, 101, 10))


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval; NaN bounds when it could not be resampled."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of zero."""
        return self.low > 0 or self.high < 0

    def as_dict(self) -> dict[str, float | None]:
        """For records; what is not finite is None, since JSON has no word for it."""
        parts = {"value": self.value, "low": self.low, "high": self.high}
        return {key: value if math.isfinite(value) else None for key, value in parts.items()}


@dataclass(frozen=True)
class Evaluation:
    """Figures of several scorers on the same rows.

    Attributes:
        metrics: scorer → metric → figure with interval.
        draws: scorer → metric → one value a resample; the resamples are shared by all scorers.
    """

    metrics: dict[str, dict[str, Interval]]
    draws: dict[str, dict[str, "Floats"]] = field(repr=False)

    def difference(self, metric: str, first: str, second: str) -> Interval:
        """Paired difference first − second of a metric, with its interval."""
        value = self.metrics[first][metric].value - self.metrics[second][metric].value
        return as_interval(value, self.draws[first][metric] - self.draws[second][metric])


class Ranked:
    """One scorer's rows sorted by falling score, ready for weighted figures."""

    def __init__(
        self,
        label: "Floats",
        score: "Floats",
        probability: bool,
        weight: "Floats | None" = None,
    ) -> None:
        import numpy as np

        self.order = np.argsort(-score, kind="stable")
        ranked = score[self.order]
        self.label = label[self.order]
        self.starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        self.tied = len(self.starts) < len(ranked)
        self.probability = probability
        if probability:
            p = np.clip(ranked, CLIP, 1 - CLIP)
            self.loss = -np.where(self.label > 0, np.log(p), np.log1p(-p))
            self.residual = ranked - self.label
            self.bins = self._bin_starts(None if weight is None else weight[self.order])
            tenth = np.minimum(np.floor(ranked * ECE_BINS), ECE_BINS - 1)
            self.widths = np.flatnonzero(np.r_[True, tenth[1:] != tenth[:-1]])

    def _bin_starts(self, weight: "Floats | None") -> "Ints":
        """First row of each equal-mass bin, moved down to the start of its run of equal scores."""
        import numpy as np

        if weight is None:
            cuts = np.arange(ECE_BINS) * len(self.label) // ECE_BINS
        else:
            mass = np.cumsum(weight)
            cuts = np.searchsorted(mass, np.arange(ECE_BINS) * mass[-1] / ECE_BINS, side="right")
        at = np.searchsorted(self.starts, cuts, side="right") - 1
        return np.asarray(np.unique(self.starts[at]), dtype=np.int64)

    def steps(self, weights: "Floats") -> tuple["Floats", "Floats"]:
        """Weight of the rows, and of the positive ones, at each distinct score."""
        import numpy as np

        positive = weights * self.label
        if not self.tied:
            return weights, positive
        mass: Floats = np.add.reduceat(weights, self.starts, axis=1)
        hits: Floats = np.add.reduceat(positive, self.starts, axis=1)
        return mass, hits

    def figures(self, weights: "Floats") -> dict[str, "Floats"]:
        """Every figure for weights of shape (resamples, rows in score order)."""
        import numpy as np

        with np.errstate(divide="ignore", invalid="ignore"):
            mass, hits = self.steps(weights)
            seen, captured = np.cumsum(mass, axis=1), np.cumsum(hits, axis=1)
            total, positives = seen[:, -1], captured[:, -1]
            miss = mass - hits
            above = captured - hits / 2
            out = {
                "auc": (above * miss).sum(axis=1) / (positives * (total - positives)),
                "pr_auc": np.where(seen > 0, hits * captured / np.where(seen > 0, seen, 1), 0).sum(
                    axis=1
                )
                / positives,
            }
            for share in TOP_SHARES:
                capture = gain_at(seen, captured, mass, hits, total * share / 100) / positives
                out[f"capture_{share}"] = capture
                out[f"lift_{share}"] = capture / (share / 100)
            if self.probability:
                out["log_loss"] = weights @ self.loss / total
                residual = weights * self.residual
                for name, bins in (("ece", self.widths), ("ace", self.bins)):
                    gaps = np.add.reduceat(residual, bins, axis=1)
                    out[name] = np.abs(gaps).sum(axis=1) / total
        return out


def gain_at(
    seen: "Floats", captured: "Floats", mass: "Floats", hits: "Floats", wanted: "Floats"
) -> "Floats":
    """Positives among the first ``wanted`` weight of each row, linear within a step."""
    import numpy as np

    at = np.minimum((seen < wanted[:, None] - 1e-9).sum(axis=1), seen.shape[1] - 1)
    rows = np.arange(len(seen))
    step = mass[rows, at]
    part = np.where(step > 0, (wanted - (seen[rows, at] - step)) / np.where(step > 0, step, 1), 0)
    gain: Floats = captured[rows, at] - hits[rows, at] + part * hits[rows, at]
    return gain


class _Grouped:
    """One scorer's rows sorted by group and falling score, for the AUC within groups."""

    def __init__(self, label: "Floats", score: "Floats", group: "Ints") -> None:
        import numpy as np

        self.order = np.lexsort((-score, group))
        ranked, groups = score[self.order], group[self.order]
        self.label = label[self.order]
        new_group = np.r_[True, groups[1:] != groups[:-1]]
        new_score = new_group | np.r_[True, ranked[1:] != ranked[:-1]]
        self.starts = np.flatnonzero(new_score)
        self.first = np.flatnonzero(new_group[self.starts])  # first step of each group
        self.steps = np.diff(np.r_[self.first, len(self.starts)])

    def figures(self, weights: "Floats") -> dict[str, "Floats"]:
        import numpy as np

        mass = np.add.reduceat(weights, self.starts, axis=1)
        hits = np.add.reduceat(weights * self.label, self.starts, axis=1)
        captured = np.cumsum(hits, axis=1)
        before = captured[:, self.first] - hits[:, self.first]
        above = captured - np.repeat(before, self.steps, axis=1) - hits / 2
        pairs = np.add.reduceat(above * (mass - hits), self.first, axis=1)
        size = np.add.reduceat(mass, self.first, axis=1)
        positives = np.add.reduceat(hits, self.first, axis=1)
        possible = positives * (size - positives)
        valid = possible > 0
        with np.errstate(divide="ignore", invalid="ignore"):
            auc = np.where(valid, pairs / np.where(valid, possible, 1), 0)
            size = np.where(valid, size, 0)
            return {WITHIN: (auc * size).sum(axis=1) / size.sum(axis=1)}


def evaluate(
    label: "NDArray[Any]",
    scores: Mapping[str, "NDArray[Any]"],
    clusters: "NDArray[Any] | None" = None,
    *,
    groups: "NDArray[Any] | None" = None,
    not_probabilities: Sequence[str] = (),
    weight: "Floats | None" = None,
    resamples: int = 500,
    seed: int = 0,
) -> Evaluation:
    """Every figure of every scorer on the same rows, with intervals.

    Args:
        label: 0/1 or bool, shape (n,), both classes present.
        scores: scorer name → scores, shape (n,), higher means likelier.
        clusters: user of each row, shape (n,); None makes every row its own cluster.
        groups: campaign item of each row; adds ``auc_within``.
        not_probabilities: scorers that only rank: no log-loss and no calibration error.
        weight: rows of the population that each one stands for, shape (n,); None: one each.
        resamples: bootstrap draws; 0 leaves the bounds NaN.
        seed: of the draws.
    """
    import numpy as np

    y = np.asarray(label, dtype=np.float64)
    parts: dict[str, list[Ranked | _Grouped]] = {}
    group = None if groups is None else np.unique(groups, return_inverse=True)[1]
    for name, raw in scores.items():
        score = np.asarray(raw, dtype=np.float64)
        parts[name] = [Ranked(y, score, name not in not_probabilities, weight)]
        if group is not None:
            parts[name].append(_Grouped(y, score, group))
    cluster = np.arange(len(y)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    whole = _once(len(y), weight)
    values = {name: _figures(kept, whole) for name, kept in parts.items()}
    draws: dict[str, dict[str, list[Any]]] = {
        name: {m: [] for m in by_metric} for name, by_metric in values.items()
    }
    for weights in resample_weights(cluster, resamples, seed, weight):
        for name, kept in parts.items():
            for metric, drawn in _figures(kept, weights).items():
                draws[name][metric].append(drawn)
    stacked = {
        name: {m: np.concatenate([*d, np.empty(0)]) for m, d in by_metric.items()}
        for name, by_metric in draws.items()
    }
    metrics = {
        name: {m: as_interval(float(v[0]), stacked[name][m]) for m, v in by_metric.items()}
        for name, by_metric in values.items()
    }
    return Evaluation(metrics, stacked)


def _figures(parts: Sequence["Ranked | _Grouped"], weights: "Floats") -> dict[str, "Floats"]:
    figures: dict[str, Floats] = {}
    for part in parts:
        figures |= part.figures(weights[:, part.order])
    return figures


def _once(rows: int, weight: "Floats | None") -> "Floats":
    """The weights of all rows, each taken once, shape (1, n)."""
    import numpy as np

    return np.ones((1, rows)) if weight is None else np.asarray(weight, np.float64)[None, :]


def resample_weights(
    cluster: "Ints", resamples: int, seed: int, weight: "Floats | None" = None
) -> Iterator["Floats"]:
    """Row weights of cluster resamples, in blocks of shape (block, n); memory is bounded.

    ``weight`` is that of each row, taken once.
    """
    import numpy as np

    count = int(cluster.max()) + 1 if len(cluster) else 0
    block = max(1, min(resamples, _CELLS // max(len(cluster), 1)))
    rng = np.random.default_rng(seed)
    for done in range(0, resamples, block):
        size = min(block, resamples - done)
        drawn = rng.integers(0, count, size=(size, count))
        drawn += np.arange(size)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        drawn_rows = times.astype(np.float64)[:, cluster]
        yield drawn_rows if weight is None else drawn_rows * weight


def as_interval(value: float, draws: "Floats") -> Interval:
    """A figure with the 95 % percentile interval of its resamples, those that were possible."""
    import numpy as np

    usable = draws[np.isfinite(draws)]
    if len(usable) < 20:
        return Interval(value, float("nan"), float("nan"))
    low, high = np.percentile(usable, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def means(
    columns: Mapping[str, "NDArray[Any]"],
    clusters: "NDArray[Any]",
    *,
    weight: "Floats | None" = None,
    resamples: int = 500,
    seed: int = 0,
) -> dict[str, Interval]:
    """The mean of each column of shape (n,), by weight, with its interval by cluster."""
    import numpy as np

    values = np.column_stack([np.asarray(c, dtype=np.float64) for c in columns.values()])
    cluster = np.unique(clusters, return_inverse=True)[1]
    blocks = [
        weights @ values / weights.sum(axis=1, keepdims=True)
        for weights in resample_weights(cluster, resamples, seed, weight)
    ]
    drawn = np.concatenate([*blocks, np.empty((0, values.shape[1]))])
    averages = np.average(values, axis=0, weights=weight)
    return {name: as_interval(float(averages[i]), drawn[:, i]) for i, name in enumerate(columns)}


@dataclass(frozen=True)
class Gain:
    """The figures of one share of rows; ``rows`` are counted whole. At 100 % nobody is left."""

    share: int
    rows: int
    capture: Interval
    lift: Interval
    response: Interval
    rest: Interval | None
    difference: Interval | None
    ratio: Interval | None

    def as_dict(self) -> dict[str, Any]:
        """For records."""
        return asdict(self)


def gains(
    label: "NDArray[Any]",
    score: "NDArray[Any]",
    clusters: "NDArray[Any]",
    *,
    weight: "Floats | None" = None,
    resamples: int = 500,
    seed: int = 0,
) -> list[Gain]:
    """The table of capture, lift and response, with intervals by cluster.

    Args:
        label: 0/1, shape (n,), both classes present.
        score: shape (n,), higher means likelier.
        clusters: user of each row, shape (n,).
        weight: rows of the population that each one stands for, shape (n,); None: one each.
        resamples: bootstrap draws.
        seed: of the draws.
    """
    import numpy as np

    y = np.asarray(label, dtype=np.float64)
    ranked = Ranked(y, np.asarray(score, dtype=np.float64), probability=False)
    cluster = np.unique(clusters, return_inverse=True)[1]
    point = _gain(ranked, _once(len(y), weight)[:, ranked.order])
    blocks = [
        _gain(ranked, weights[:, ranked.order])
        for weights in resample_weights(cluster, resamples, seed, weight)
    ]
    table = []
    for place, share in enumerate(SHARES):
        parts = {
            name: as_interval(
                float(values[0, place]),
                np.concatenate([*(block[name][:, place] for block in blocks), np.empty(0)]),
            )
            for name, values in point.items()
        }
        everyone = share == 100
        table.append(
            Gain(
                share,
                round(len(y) * share / 100),
                parts["capture"],
                parts["lift"],
                parts["response"],
                None if everyone else parts["rest"],
                None if everyone else parts["difference"],
                None if everyone else parts["ratio"],
            )
        )
    return table


def _gain(ranked: Ranked, weights: "Floats") -> dict[str, "Floats"]:
    """Each figure at each share, shape (resamples, shares), for weights in the order of scores."""
    import numpy as np

    mass, hits = ranked.steps(weights)
    seen, positives = np.cumsum(mass, axis=1), np.cumsum(hits, axis=1)
    total, every = seen[:, -1], positives[:, -1]
    figures = np.column_stack(
        [gain_at(seen, positives, mass, hits, total * share / 100) for share in SHARES]
    )
    q = np.array(SHARES) / 100
    with np.errstate(divide="ignore", invalid="ignore"):
        capture = figures / every[:, None]
        response = figures / (total[:, None] * q)
        rest = (every[:, None] - figures) / (total[:, None] * (1 - q))
        return {
            "capture": capture,
            "lift": capture / q,
            "response": response,
            "rest": rest,
            "difference": response - rest,
            "ratio": response / rest,
        }


def curves(
    label: "NDArray[Any]", score: "NDArray[Any]", weight: "Floats | None" = None
) -> dict[str, "Floats"]:
    """The points of the ROC, precision-recall and gains curves, at every distinct score.

    Returns:
        Arrays of one length: ``seen`` (share of rows), ``recall``, ``fall_out`` (share of negatives
        above the score) and ``precision``, from the highest score to the lowest.
    """
    import numpy as np

    y = np.asarray(label, dtype=np.float64)
    ranked = Ranked(y, np.asarray(score, dtype=np.float64), probability=False)
    own = _once(len(y), weight)[0, ranked.order]
    mass = np.add.reduceat(own, ranked.starts)
    hits = np.add.reduceat(own * ranked.label, ranked.starts)
    seen, captured = np.cumsum(mass), np.cumsum(hits)
    return {
        "seen": seen / seen[-1],
        "recall": captured / captured[-1],
        "fall_out": (seen - captured) / (seen[-1] - captured[-1]),
        "precision": captured / seen,
    }


def reliability(
    label: "NDArray[Any]", score: "NDArray[Any]", weight: "Floats | None" = None
) -> dict[str, "Floats"]:
    """The equal-mass bins behind ``ace``: ``mean_score``, ``share`` of positives and ``rows``.

    Returns:
        Arrays of one length, from the highest scores to the lowest.
    """
    import numpy as np

    y, p = np.asarray(label, dtype=np.float64), np.asarray(score, dtype=np.float64)
    ranked = Ranked(y, p, True, weight)
    own = _once(len(y), weight)[0, ranked.order]
    rows = np.add.reduceat(own, ranked.bins)
    return {
        "mean_score": np.add.reduceat(own * p[ranked.order], ranked.bins) / rows,
        "share": np.add.reduceat(own * ranked.label, ranked.bins) / rows,
        "rows": rows,
    }
