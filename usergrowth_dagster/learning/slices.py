"""How good a model is for parts of the users: by tenure, by activity, by type, as a question asks.

Numbers are cut at the terciles of the train slice, categories at their values (the six most
frequent, the rest together); rows without a value are a part of their own, so the parts of each
dimension add up to all rows. A part with fewer than ``min_positives_slice`` rows of either class
says so instead of a figure.

* ``bias``: mean score − share of positives; 0 is calibrated, above 0 promises too much.
* ``auc``, ``log_loss`` and ``capture_40`` (within the part) as in :mod:`metrics`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.encoding import MISSING, Feature, FeatureSpec
from usergrowth_dagster.learning.leakage import binned, quantile_edges
from usergrowth_dagster.learning.metrics import Interval, evaluate, means

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from usergrowth_dagster.learning.dataset import TestRows

DIMENSIONS = {
    "tenure": ("tenure_days", "history_span_share"),
    "activity": ("recency_days", "active_days_30d"),
    "user type": ("user_type",),
}
"""What users are told apart by: the first column that the features have."""

PARTS = 3
VALUES = 6
OTHERS = "all others"
UNKNOWN = "unknown"
RESAMPLES = 200


@dataclass(frozen=True)
class Part:
    """One part of the test rows; ``note`` says why it has no figures."""

    dimension: str
    column: str
    name: str
    rows: int
    positives: int
    share: Interval | None = None
    bias: Interval | None = None
    auc: Interval | None = None
    log_loss: Interval | None = None
    capture_40: Interval | None = None
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For records."""
        return asdict(self)


def by_slice(
    spec: FeatureSpec,
    train: "pd.DataFrame",
    test: "TestRows",
    score: "NDArray[np.float64]",
    *,
    least: int,
    seed: int = 0,
    also: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> list[Part]:
    """The figures of every part of every dimension that the features know.

    Args:
        spec: the features.
        train: flat rows of the train slice, for the cut points.
        test: the rows judged on.
        score: of the test rows, shape (n,).
        least: rows of either class that a part must have.
        seed: of the resamples.
        also: further dimensions of the question, each a column and a key of its map.
    """
    parts = []
    known = {(f.column, f.key): f for f in spec.features}
    of_question = {name: known.get(place) for name, place in also.items()}
    always = {name: _feature(spec, name, columns, train) for name, columns in DIMENSIONS.items()}
    others = {name: one for name, one in always.items() if one not in of_question.values()}
    for dimension, feature in (of_question | others).items():
        if feature is None:
            continue
        code, names = _parts(feature, train, test.frame)
        for place, name in enumerate(names):
            rows = code == place
            if rows.any():
                parts.append(_part(dimension, feature, name, rows, test, score, least, seed))
    return parts


def _feature(
    spec: FeatureSpec, dimension: str, columns: Sequence[str], train: "pd.DataFrame"
) -> Feature | None:
    """The feature that tells users apart; for the type, else the attribute most often known."""
    for column in columns:
        for feature in spec.features:
            if feature.column == column:
                return feature
    if dimension != "user type":
        return None
    own = [f for f in spec.features if f.column == "attribute_str"]
    return max(own, key=lambda f: int((train[f.name] != MISSING).sum()), default=None)


def _parts(
    feature: Feature, train: "pd.DataFrame", test: "pd.DataFrame"
) -> tuple["NDArray[np.int64]", list[str]]:
    """The part of each test row, shape (n,), and the parts' names."""
    import numpy as np

    if feature.kind == "category":
        values = test[feature.name].to_numpy().astype(str)
        known, counts = np.unique(train[feature.name].to_numpy().astype(str), return_counts=True)
        frequent = [str(v) for v in known[np.argsort(-counts, kind="stable")] if v != MISSING]
        kept = frequent[:VALUES]
        place = {name: i for i, name in enumerate(kept)} | {MISSING: len(kept) + 1}
        code = np.array([place.get(v, len(kept)) for v in values], dtype=np.int64)
        return code, [*kept, OTHERS, UNKNOWN]
    edges = quantile_edges(train[feature.name].to_numpy(dtype=np.float64), PARTS)
    code = binned(test[feature.name].to_numpy(dtype=np.float64), edges)
    if not len(edges):
        return code, ["known", UNKNOWN]
    bounds = [f"{edge:.4g}" for edge in edges]
    between = [f"above {a}, up to {b}" for a, b in pairwise(bounds)]
    return code, [f"up to {bounds[0]}", *between, f"above {bounds[-1]}", UNKNOWN]


def _part(
    dimension: str,
    feature: Feature,
    name: str,
    rows: "NDArray[np.bool_]",
    test: "TestRows",
    score: "NDArray[np.float64]",
    least: int,
    seed: int,
) -> Part:
    label, p, user = test.label[rows], score[rows], test.user[rows]
    weight = None if test.weight is None else test.weight[rows]
    positives = int(label.sum())
    few, kind = min((positives, "positive"), (len(label) - positives, "negative"))
    if few < least:
        note = f"too few {kind} rows for figures ({few}, at least {least} are needed)"
        return Part(dimension, feature.label, name, len(label), positives, note=note)
    columns = {"share": label, "bias": p - label}
    simple = means(columns, user, weight=weight, resamples=RESAMPLES, seed=seed)
    evaluation = evaluate(label, {"model": p}, user, weight=weight, resamples=RESAMPLES, seed=seed)
    metrics = evaluation.metrics["model"]
    return Part(
        dimension,
        feature.label,
        name,
        len(label),
        positives,
        simple["share"],
        simple["bias"],
        metrics["auc"],
        metrics["log_loss"],
        metrics["capture_40"],
    )
