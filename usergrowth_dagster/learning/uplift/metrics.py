"""Figures of rankings with intervals, the effect by decile, and whether predicted effects are true.

The curves are the guarded ones of :mod:`curves`. Intervals are 95 % percentile intervals of a
bootstrap that draws whole users with replacement; all rankings see the same draws, so differences
are paired.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.metrics import (
    TOP_SHARES,
    Evaluation,
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
