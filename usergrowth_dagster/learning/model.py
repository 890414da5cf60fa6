"""What is saved, loaded and asked for scores: a fitted pipeline with its calibration map."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.calibration import apply_knots, logit

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

PART_ROWS = 20_000


class CalibratedModel:
    """A fitted pipeline and its calibration map; what is saved, loaded and asked for scores.

    Attributes:
        pipeline: the scikit-learn pipeline, or the :class:`Blend`, on the flat frame.
        knots: the calibration map of :mod:`calibration`; None leaves raw probabilities.
        judged: the map from before the test slice, which the figures are of; a later training
            compares itself with that one. None where it is ``knots``.
        classes_: 0 and 1, as scikit-learn classifiers have them.
    """

    judged: "tuple[Any, Any] | None" = None  # versions saved before there were two maps have none

    def __init__(
        self,
        pipeline: Any,
        knots: "tuple[Any, Any] | None" = None,
        judged: "tuple[Any, Any] | None" = None,
    ) -> None:
        import numpy as np

        self.pipeline = pipeline
        self.knots = knots
        self.judged = judged
        self.classes_ = np.array([0, 1])

    def score(self, frame: "pd.DataFrame") -> "NDArray[np.float64]":
        """Calibrated probability of the label, shape (n,)."""
        return self.calibrated(positive_share(self.pipeline, frame))

    def calibrated(self, raw: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """Calibrated probabilities of what the pipeline gave, shape (n,)."""
        return raw if self.knots is None else apply_knots(raw, self.knots)

    def as_judged(self) -> "CalibratedModel":
        """The model with the map that its figures on the test slice are of."""
        return self if self.judged is None else CalibratedModel(self.pipeline, self.judged)

    def predict_proba(self, frame: "pd.DataFrame") -> "NDArray[np.float64]":
        """Probabilities of 0 and 1, shape (n, 2)."""
        import numpy as np

        p = self.score(frame)
        return np.column_stack([1 - p, p])

    def predict(self, frame: "pd.DataFrame") -> "NDArray[np.int64]":
        """The likelier label, shape (n,)."""
        return (self.score(frame) >= 0.5).astype("int64")


class Blend:
    """The mean of several fitted pipelines' log-odds; stands where a pipeline does.

    Attributes:
        members: scikit-learn pipelines on the same flat frame.
    """

    def __init__(self, members: Sequence[Any]) -> None:
        self.members = list(members)

    def predict_proba(self, frame: "pd.DataFrame") -> "NDArray[np.float64]":
        """Probabilities of 0 and 1, shape (n, 2)."""
        import numpy as np

        p = self.pool([positive_share(member, frame) for member in self.members])
        return np.column_stack([1 - p, p])

    @staticmethod
    def pool(scores: "Sequence[NDArray[np.float64]]") -> "NDArray[np.float64]":
        """The members' probabilities, each of shape (n,), as one: the mean on the logit scale."""
        import numpy as np

        mean = np.mean([logit(score) for score in scores], axis=0)
        pooled: NDArray[np.float64] = 1 / (1 + np.exp(-mean))
        return pooled


def positive_share(pipeline: Any, frame: "pd.DataFrame") -> "NDArray[np.float64]":
    """A pipeline's raw probability of the label, shape (n,).

    A row's probability depends on that row only, so many rows are asked in parts: their matrices
    are much larger than the frame.
    """
    import numpy as np

    raw = np.empty(len(frame), dtype=np.float64)
    with quiet():
        for first in range(0, len(frame), PART_ROWS):
            part = frame.iloc[first : first + PART_ROWS]
            raw[first : first + PART_ROWS] = pipeline.predict_proba(part)[:, 1]
    return raw


@contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' remarks on constant bins, unseen categories and feature names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
