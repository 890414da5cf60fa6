"""Capture and lift from the top tenth to everyone, and the yardsticks that vendors quote.

For the share q of rows with the highest scores (equal scores in equal parts, as in :mod:`metrics`):

* ``capture``: share of all positives that are in it; ``lift`` = capture / q.
* ``response``: share of positives in it; ``rest``: share of positives in what is left.
* ``difference`` = response − rest, and ``ratio`` = response / rest.

A vendor that says "the top 40 % hold 67 % of the buyers" quotes ``capture`` at 40 %; one that says
"8 % of the selected came back, 3 % of the others" quotes ``response`` and ``rest``. Both tell how
well people are ranked. Neither tells what a text changes: the selected would have answered more
often anyway.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.metrics import (
    Interval,
    Ranked,
    as_interval,
    gain_at,
    resample_weights,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SHARES = tuple(range(10, 101, 10))


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
    resamples: int = 500,
    seed: int = 0,
) -> list[Gain]:
    """The table of capture, lift and response, with intervals by cluster.

    Args:
        label: 0/1, shape (n,), both classes present.
        score: shape (n,), higher means likelier.
        clusters: user of each row, shape (n,).
        resamples: bootstrap draws.
        seed: of the draws.
    """
    import numpy as np

    y = np.asarray(label, dtype=np.float64)
    ranked = Ranked(y, np.asarray(score, dtype=np.float64), probability=False)
    cluster = np.unique(clusters, return_inverse=True)[1]
    point = _figures(ranked, np.ones((1, len(y))))
    blocks = [
        _figures(ranked, weights[:, ranked.order])
        for weights in resample_weights(cluster, resamples, seed)
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


def _figures(ranked: Ranked, weights: "Floats") -> dict[str, "Floats"]:
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
