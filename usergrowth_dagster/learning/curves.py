"""The points of the curves that :mod:`plots` draws and the card tells: ROC, gains, calibration."""

from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.metrics import Ranked

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def curves(label: "NDArray[Any]", score: "NDArray[Any]") -> dict[str, "Floats"]:
    """The points of the ROC, precision-recall and gains curves, at every distinct score.

    Returns:
        Arrays of one length: ``seen`` (share of rows), ``recall``, ``fall_out`` (share of negatives
        above the score) and ``precision``, from the highest score to the lowest.
    """
    import numpy as np

    y = np.asarray(label, dtype=np.float64)
    ranked = Ranked(y, np.asarray(score, dtype=np.float64), probability=False)
    mass = np.diff(np.r_[ranked.starts, len(y)]).astype(np.float64)
    hits = np.add.reduceat(ranked.label, ranked.starts)
    seen, captured = np.cumsum(mass), np.cumsum(hits)
    return {
        "seen": seen / seen[-1],
        "recall": captured / captured[-1],
        "fall_out": (seen - captured) / (seen[-1] - captured[-1]),
        "precision": captured / seen,
    }


def reliability(label: "NDArray[Any]", score: "NDArray[Any]") -> dict[str, "Floats"]:
    """The equal-mass bins behind ``ace``: ``mean_score``, ``share`` of positives and ``rows``.

    Returns:
        Arrays of one length, from the highest scores to the lowest.
    """
    import numpy as np

    y, p = np.asarray(label, dtype=np.float64), np.asarray(score, dtype=np.float64)
    ranked = Ranked(y, p, probability=True)
    rows = np.diff(np.r_[ranked.bins, len(y)]).astype(np.float64)
    return {
        "mean_score": np.add.reduceat(p[ranked.order], ranked.bins) / rows,
        "share": np.add.reduceat(ranked.label, ranked.bins) / rows,
        "rows": rows,
    }
