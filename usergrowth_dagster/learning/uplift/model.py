"""What is saved, loaded and asked for effects: columns, a ranking, and the scale of its effect."""

from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.model import quiet
from usergrowth_dagster.learning.uplift.learners import Learner
from usergrowth_dagster.learning.uplift.scale import EffectScale

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


class UpliftModel:
    """Effects of a text on the rows of a flat frame.

    Attributes:
        columns: the fitted transformer from the flat frame to a matrix.
        learner: the ranking.
        scale: from its score to an effect.
    """

    def __init__(self, columns: Any, learner: Learner, scale: EffectScale) -> None:
        self.columns = columns
        self.learner = learner
        self.scale = scale

    def score(self, frame: "pd.DataFrame") -> "NDArray[np.float64]":
        """By how much a text changes the probability of a return, shape (n,)."""
        return self.scale(self.learner.uplift(matrix(self.columns, frame)))

    def predict(self, frame: "pd.DataFrame") -> "NDArray[np.float64]":
        """The same, under the name that MLflow asks for."""
        return self.score(frame)


def matrix(columns: Any, frame: "pd.DataFrame") -> "NDArray[np.float64]":
    """The matrix of a flat frame, shape (n, columns)."""
    import numpy as np

    with quiet():
        return np.asarray(columns.transform(frame), dtype=np.float64)
