"""Figures of rankings with intervals, the effect by decile, and whether predicted effects are true.

The curves are the guarded ones of :mod:`curves`. Intervals are 95 % percentile intervals of a
bootstrap that draws whole users with replacement; all rankings see the same draws, so differences
are paired.

* A bin holds rows of neighboring scores; rows of equal score stay in one, so there may be fewer
  bins than asked for. Its effect is the difference of the arms' return rates, each row weighted by
  its inverse propensity (:func:`curves.arms`); the interval is Newcombe's for two proportions
  (1998, method 10) at the arms' effective sizes, (Σw)² / Σw² with w summed by user (Kish 1965).
* Calibration: the mean gap between predicted and measured effect over the bins, weighted by rows,
  beside what chance alone gives a true prediction: the mean of |normal| with the bins' errors.
* Slope: of the best line through the effect on the predicted one, by least squares of the
  transformed outcome ``y (t - e) / (e (1 - e))`` (Athey & Imbens 2016) on the prediction
  (Chernozhukov, Demirer, Duflo & Fernandez-Val 2018, section 3.1), with errors clustered by user.
  1: differences are as large as predicted; 0: there are none along the prediction.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.metrics import (
    TOP_SHARES,
    Evaluation,
    Interval,
    as_interval,
    resample_weights,
)
from usergrowth_dagster.learning.uplift.curves import (
    Arms,
    Best,
    Kind,
    Ranking,
    above_diagonal,
    curve_of,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Z = 1.959963984540054  # of a two-sided 95 % interval
RANDOM = "random"


def evaluate_uplift(
    rows: Arms,
    scores: Mapping[str, "NDArray[Any]"],
    users: "NDArray[Any] | None" = None,
    *,
    resamples: int = 500,
    seed: int = 0,
) -> Evaluation:
    """Figures of several rankings on the same rows, with intervals, and of a random one.

    Args:
        rows: outcomes of both arms.
        scores: name → score, shape (n,), higher ranks first.
        users: user of each row, shape (n,); None makes every row a user of its own.
        resamples: bootstrap draws; 0 leaves the bounds NaN.
        seed: of the draws.

    Returns:
        ``qini``, ``auuc``, ``qini_area``, ``auuc_area`` (per person squared, so that samples of
        any size compare) and ``uplift_top_10``, ``_20``, ``_40``: the effect in the best ranked
        10, 20, 40 %. The ranking named ``random`` is drawn anew for each resample: its interval is
        what chance alone gives on so many rows.
    """
    import numpy as np

    rankings = {name: Ranking(rows, score) for name, score in scores.items()}
    best = {kind: Best(rows, kind, True) for kind in ("qini", "auuc")}
    rng = np.random.default_rng([seed, 1])
    draws: dict[str, dict[str, list[Any]]] = {name: {} for name in [*rankings, RANDOM]}
    values: dict[str, dict[str, float]] = {name: {} for name in rankings}
    for place, weights in enumerate(_weightings(rows, users, resamples, seed)):
        tops = {kind: ranking.area(weights) for kind, ranking in best.items()}
        for name, ranking in rankings.items():
            figures = _figures(ranking, weights, tops)
            if place == 0:
                values[name] = {metric: float(figure[0]) for metric, figure in figures.items()}
                continue
            for metric, drawn in figures.items():
                draws[name].setdefault(metric, []).append(drawn)
        if place:
            for metric, drawn in _chance(rows, weights, tops, rng).items():
                draws[RANDOM].setdefault(metric, []).append(drawn)
    metrics_of = list(next(iter(values.values())))
    stacked = {
        name: {m: np.concatenate([*drawn.get(m, []), np.empty(0)]) for m in metrics_of}
        for name, drawn in draws.items()
    }
    values[RANDOM] = {
        m: float(np.nanmean(d)) if len(d) else float("nan") for m, d in stacked[RANDOM].items()
    }
    metrics = {
        name: {m: as_interval(values[name][m], stacked[name][m]) for m in metrics_of}
        for name in [*rankings, RANDOM]
    }
    return Evaluation(metrics, stacked)


def _figures(
    ranking: Ranking, weights: "Floats", best: Mapping[str, "Floats"]
) -> "dict[str, Floats]":
    """Every figure of a ranking, one a weighting."""
    import numpy as np

    figures: dict[str, Floats] = {}
    people = weights.sum(axis=1)
    points = ranking.points(weights)
    kinds: tuple[tuple[str, Kind], ...] = (("qini", "qini"), ("auuc", "auuc"))
    for name, kind in kinds:
        seen, value = curve_of(points, kind, guarded=True)
        whole = above_diagonal(seen, value)
        figures[name] = np.divide(
            whole, best[kind], out=np.full_like(whole, np.nan), where=best[kind] != 0
        )
        figures[f"{name}_area"] = whole / people**2
    for share in TOP_SHARES:  # of the uplift curve, the last one
        wanted = people * share / 100
        at = np.array([np.interp(w, s, v) for w, s, v in zip(wanted, seen, value, strict=True)])
        figures[f"uplift_top_{share}"] = at / wanted
    return figures


def _chance(
    rows: Arms, weights: "Floats", best: Mapping[str, "Floats"], rng: "np.random.Generator"
) -> "dict[str, Floats]":
    """The figures of a ranking drawn anew for each weighting."""
    import numpy as np

    parts = [
        _figures(
            Ranking(rows, rng.random(len(rows.y))),
            one[None, :],
            {kind: curve[i : i + 1] for kind, curve in best.items()},
        )
        for i, one in enumerate(weights)
    ]
    return {metric: np.concatenate([part[metric] for part in parts]) for metric in parts[0]}


def _weightings(
    rows: Arms, users: "NDArray[Any] | None", resamples: int, seed: int
) -> "Iterator[Floats]":
    """The rows' own weights, then those of resamples, in blocks of shape (block, n)."""
    import numpy as np

    yield rows.weight[None, :]
    who = np.arange(len(rows.y)) if users is None else np.unique(users, return_inverse=True)[1]
    for times in resample_weights(who, resamples, seed):
        yield times * rows.weight


@dataclass(frozen=True)
class UpliftBin:
    """Some rows of neighboring scores, 1 the highest.

    ``treated`` and ``control`` count rows; rates are weighted, None where an arm has no rows.
    """

    place: int
    low_score: float
    high_score: float
    treated: int
    control: int
    treated_rate: float | None
    control_rate: float | None
    uplift: Interval | None
    predicted: float | None

    def as_dict(self) -> dict[str, Any]:
        """For records."""
        return asdict(self)


@dataclass(frozen=True)
class UpliftCalibration:
    """Whether predicted effects are true.

    Attributes:
        error: mean gap of predicted and measured effect over the bins.
        by_chance: the gap that a true prediction shows on so many rows.
        slope: of the effect on the predicted effect.
        predicted, measured: mean effect of all rows.
    """

    error: float
    by_chance: float
    slope: Interval
    predicted: float
    measured: Interval

    def as_dict(self) -> dict[str, Any]:
        """For records."""
        return asdict(self)


def uplift_by_bin(
    rows: Arms,
    score: "NDArray[Any]",
    users: "NDArray[Any] | None" = None,
    *,
    predicted: "NDArray[Any] | None" = None,
    bins: int = 10,
) -> list[UpliftBin]:
    """The effect in each of some bins of equal size, best ranked first.

    Args:
        rows: outcomes of both arms.
        score: higher ranks first, shape (n,).
        users: user of each row, shape (n,); None makes every row a user of its own.
        predicted: predicted effect of each row, where the score is one.
        bins: how many; 100 gives percentiles.
    """
    import numpy as np

    value = np.asarray(score, dtype=np.float64)
    cluster = np.arange(len(value)) if users is None else np.unique(users, return_inverse=True)[1]
    level, count = np.unique(-value, return_inverse=True, return_counts=True)[1:]
    middle = np.cumsum(count) - count / 2
    place = np.minimum(np.floor(middle / len(value) * bins), bins - 1).astype(int)[level]
    measured = []
    for at, which in enumerate(np.unique(place)):
        keep = place == which
        part = Arms(rows.y[keep], rows.treated[keep], rows.weight[keep])
        uplift, rates = effect(part, cluster[keep])
        treated = int(part.treated.sum())
        measured.append(
            UpliftBin(
                place=at + 1,
                low_score=float(value[keep].min()),
                high_score=float(value[keep].max()),
                treated=treated,
                control=int(keep.sum()) - treated,
                treated_rate=rates[0],
                control_rate=rates[1],
                uplift=uplift,
                predicted=None if predicted is None else float(np.mean(predicted[keep])),
            )
        )
    return measured


def effect(
    rows: Arms, users: "NDArray[Any]"
) -> tuple[Interval | None, tuple[float | None, float | None]]:
    """Difference of the arms' return rates with its interval, and the rates, treated first."""
    import numpy as np

    rates: list[float] = []
    sizes: list[float] = []
    for arm in (1.0, 0.0):
        keep = rows.treated == arm
        if not keep.any():
            return None, (rates[0] if rates else None, None)
        weight = rows.weight[keep]
        rates.append(float(weight @ rows.y[keep] / weight.sum()))
        of_user = np.bincount(users[keep], weights=weight)
        sizes.append(float(weight.sum() ** 2 / (of_user @ of_user)))
    return newcombe(rates[0], sizes[0], rates[1], sizes[1]), (rates[0], rates[1])


def newcombe(first: float, first_rows: float, second: float, second_rows: float) -> Interval:
    """Newcombe's interval of ``first - second``, from the Wilson intervals of both."""
    difference = first - second
    low_1, high_1 = _wilson(first, first_rows)
    low_2, high_2 = _wilson(second, second_rows)
    low = difference - math.hypot(first - low_1, high_2 - second)
    high = difference + math.hypot(high_1 - first, second - low_2)
    return Interval(difference, low, high)


def _wilson(rate: float, rows: float) -> tuple[float, float]:
    middle = rate + Z * Z / (2 * rows)
    reach = Z * math.sqrt(rate * (1 - rate) / rows + Z * Z / (4 * rows * rows))
    whole = 1 + Z * Z / rows
    return (middle - reach) / whole, (middle + reach) / whole


def calibration(
    rows: Arms,
    predicted: "NDArray[Any]",
    users: "NDArray[Any] | None" = None,
    *,
    bins: int = 10,
) -> UpliftCalibration:
    """Set predicted effects against measured ones.

    Args:
        rows: outcomes of both arms.
        predicted: effect of each row, a difference of probabilities, shape (n,).
        users: user of each row; None makes every row a user of its own.
        bins: how many.
    """
    import numpy as np

    effects = np.asarray(predicted, dtype=np.float64)
    cluster = np.arange(len(effects)) if users is None else np.unique(users, return_inverse=True)[1]
    gap = chance = people = 0.0
    for part in uplift_by_bin(rows, effects, users, predicted=effects, bins=bins):
        if part.uplift is None or part.predicted is None:
            continue
        size = part.treated + part.control
        error = (part.uplift.high - part.uplift.low) / (2 * Z)
        gap += size * abs(part.predicted - part.uplift.value)
        chance += size * error * math.sqrt(2 / math.pi)
        people += size
    measured, _ = effect(rows, cluster)
    assert measured is not None
    return UpliftCalibration(
        error=gap / people if people else math.nan,
        by_chance=chance / people if people else math.nan,
        slope=_slope(rows, effects, cluster),
        predicted=float(effects.mean()),
        measured=measured,
    )


def _slope(rows: Arms, predicted: "Floats", cluster: "NDArray[Any]") -> Interval:
    """Least squares of the transformed outcome on the prediction, errors clustered by user."""
    import numpy as np

    share = float(rows.treated.mean())
    # A weight is q / e for treated rows: y (t - e) / (e (1 - e)) is y / e there, -y / (1 - e) else.
    transformed = np.where(
        rows.treated == 1, rows.y * rows.weight / share, -rows.y * rows.weight / (1 - share)
    )
    centered = predicted - predicted.mean()
    spread = float(centered @ centered)
    if spread <= 1e-12 * len(centered):
        return Interval(math.nan, math.nan, math.nan)
    slope = float(centered @ transformed / spread)
    residual = transformed - transformed.mean() - slope * centered
    of_user = np.bincount(cluster, weights=centered * residual)
    reach = Z * math.sqrt(float(of_user @ of_user)) / spread
    return Interval(slope, slope - reach, slope + reach)
