"""What a training leaves behind for later rows to be compared with: histograms of its own."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from usergrowth_dagster.learning.encoding import MISSING, OTHER, FeatureSpec
from usergrowth_dagster.learning.leakage import binned, quantile_edges

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Weight = NDArray[np.float64] | None

BINS = 10


class Histogram(BaseModel):
    """Rows by bin: upper bounds of all bins but the last (numbers) or values (categories).

    ``counts`` of numbers has two more than the bounds, the last bin and the missing ones; of
    categories one more than the values, every other one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    edges: tuple[float, ...] | None = None
    values: tuple[str, ...] = ()
    counts: tuple[int, ...]

    def count(self, column: Any, weight: "Weight" = None) -> "NDArray[np.int64]":
        """Rows of a column in each of these bins, by their weights in whole rows."""
        import numpy as np

        if self.edges is not None:
            at = binned(np.asarray(column, dtype=np.float64), np.array(self.edges))
        else:
            place = {value: i for i, value in enumerate(self.values)}
            names, back = np.unique(np.asarray(column).astype(str), return_inverse=True)
            at = np.array([place.get(n, len(self.values)) for n in names], dtype=np.int64)[back]
        return _counts(at, len(self.counts), weight)


class Reference(BaseModel):
    """The training's histograms by feature label, and what the model leans on.

    ``score`` is the histogram of the test slice; ``weights`` are shares of the features' weights,
    1 in all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: dict[str, Histogram]
    score: Histogram
    weights: dict[str, float] = {}


def histogram(column: Any, *, category: bool = False, weight: "Weight" = None) -> Histogram:
    """The bins of a column of the training and its rows in them, by their weights."""
    import numpy as np

    if category:
        names, at = np.unique(np.asarray(column).astype(str), return_inverse=True)
        counts = _counts(at, len(names), weight)
        return Histogram(values=tuple(map(str, names)), counts=(*map(int, counts), 0))
    values = np.asarray(column, dtype=np.float64)
    edges = quantile_edges(values, BINS)
    counts = _counts(binned(values, edges), len(edges) + 2, weight)
    return Histogram(edges=tuple(map(float, edges)), counts=tuple(map(int, counts)))


def _counts(at: "NDArray[np.int64]", bins: int, weight: "Weight") -> "NDArray[np.int64]":
    """Rows by bin; weights, 1 on average, add up to whole rows."""
    import numpy as np

    counts = np.bincount(at, weights=weight, minlength=bins)
    return counts if weight is None else np.rint(counts).astype(np.int64)


def make_reference(
    spec: FeatureSpec,
    train: "pd.DataFrame",
    test_score: "NDArray[np.float64]",
    weights: Mapping[str, float],
    *,
    train_weight: "Weight" = None,
    test_weight: "Weight" = None,
) -> Reference:
    """What later rows are compared with: the flat train rows, and the scores of the test rows.

    ``weights`` say how much the model leans on each feature; those of rows are 1 on average.
    """
    total = sum(weights.values()) or 1.0
    return Reference(
        features={
            f.label: histogram(
                train[f.name].to_numpy(), category=f.kind == "category", weight=train_weight
            )
            for f in spec.features
        },
        score=histogram(test_score, weight=test_weight),
        weights={name: weight / total for name, weight in weights.items()},
    )


def unseen_share(known: Histogram) -> float:
    """Share of the training's known values of a category that fell into ``(other)``."""
    counts = dict(zip(known.values, known.counts, strict=False))
    rows = sum(known.counts) - counts.get(MISSING, 0)
    return counts.get(OTHER, 0) / rows if rows else 0.0
