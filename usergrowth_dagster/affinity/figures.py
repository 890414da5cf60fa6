"""How good an order of users is: precision and recall at n, AUC and average precision.

Intervals are percentiles of a Poisson bootstrap over users (each user counts as often as a Poisson
number with mean 1 says, Chamandy et al. 2012), with the same draws for all orders, so that
differences are paired. Ties are parted by a seeded draw, not by the order of ids.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from usergrowth_dagster.affinity.log import Bools, Floats

    Table = npt.NDArray[np.float64]

MEASURES = ("precision", "recall", "auc", "average_precision")
"""The columns of a table of measures."""

_AVERAGE = MEASURES.index("average_precision")
_DRAWS = 200
_LEVEL = 95
_CELLS = 1_000_000


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def shown(self) -> str:
        """The figure as text: ``.512 [.480, .544]``."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class OrderFigures:
    """The figures of one order of users.

    Attributes:
        order: its name.
        precision: share of the first n users who interact with such an item in the period.
        recall: share of all who do that are among the first n.
        auc: chance that one who does is before one who does not.
        average_precision: precision, averaged over the places of those who do.
    """

    order: str
    precision: Interval
    recall: Interval
    auc: Interval
    average_precision: Interval


def measures(order: "npt.NDArray[np.int64]", took: "Bools", counts: "Table", n: int) -> "Table":
    """Precision and recall at n, AUC and average precision of an order, for draws of users.

    Args:
        order: numbers of the users, the best first.
        took: what came of each user.
        counts: draws x users: how often each counts.
        n: users who are chosen; of a draw, those up to a count of n.

    Returns:
        Draws x :data:`MEASURES`; nan where a draw has no user of one kind.
    """
    import numpy as np

    weights = counts[:, order]
    hits = weights * took[order]
    place, found = np.cumsum(weights, axis=1), np.cumsum(hits, axis=1)
    before = place - weights
    chosen = np.clip((n - before) / np.maximum(weights, 1), 0, 1)  # the last user counts in part
    positives, everyone = found[:, -1], place[:, -1]
    negatives = everyone - positives
    taken = (hits * chosen).sum(axis=1)
    misses = np.cumsum(weights - hits, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        auc = 1 - (hits * misses).sum(axis=1) / (positives * negatives)
        average = (hits * found / np.maximum(place, 1)).sum(axis=1) / positives
        return np.column_stack([taken / np.minimum(n, everyone), taken / positives, auc, average])


def compare_orders(
    scores: "Mapping[str, Floats]", took: "Bools", n: int, *, seed: int
) -> tuple[tuple[OrderFigures, ...], dict[tuple[str, str], Interval]]:
    """The figures of several orders, and the paired differences of their average precision.

    Args:
        scores: a score for each user by the order's name; the greatest is first.
        took: what came of each user.
        n: users who are chosen.
        seed: of the draws.

    Returns:
        The figures by order, and the difference first minus second for each pair of names.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    parted = random.permutation(len(took))
    orders = {
        name: parted[np.argsort(-np.asarray(values)[parted], kind="stable")]
        for name, values in scores.items()
    }
    point = {
        name: measures(order, took, np.ones((1, len(took))), n)[0] for name, order in orders.items()
    }
    drawn: dict[str, list[Table]] = {name: [] for name in orders}
    step = max(1, min(_DRAWS, _CELLS // max(len(took), 1)))
    for start in range(0, _DRAWS, step):
        counts = random.poisson(1.0, (min(step, _DRAWS - start), len(took))).astype(float)
        for name, order in orders.items():
            drawn[name].append(measures(order, took, counts, n))
    tables = {name: np.vstack(parts) for name, parts in drawn.items()}
    figures = tuple(
        OrderFigures(name, *(interval_of(point[name][k], tables[name][:, k]) for k in range(4)))
        for name in orders
    )
    differences = {
        (one, other): interval_of(
            point[one][_AVERAGE] - point[other][_AVERAGE],
            tables[one][:, _AVERAGE] - tables[other][:, _AVERAGE],
        )
        for one in orders
        for other in orders
        if one != other
    }
    return figures, differences


def interval_of(value: float, drawn: "Floats") -> Interval:
    """A figure with the percentiles of its values in draws of users; nan is left out."""
    import numpy as np

    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.percentile(known, [(100 - _LEVEL) / 2, (100 + _LEVEL) / 2])
    return Interval(float(value), float(low), float(high))
