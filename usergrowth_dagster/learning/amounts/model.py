"""What is saved, loaded and asked for amounts: an estimator on the flat frame, and its level."""

from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.model import PART_ROWS, quiet

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


class PastAverage:
    """What a user came to in as many days before; stands where a pipeline does.

    Attributes:
        column: flat column of the past amount; empty: everybody has the mean.
        rest: mean amount of users whose past amount is 0 or unknown, or of everybody.
        factor: mean amount of the others for each unit of the past one.
    """

    def __init__(self, column: str, rest: float, factor: float) -> None:
        self.column = column
        self.rest = rest
        self.factor = factor

    @classmethod
    def fitted(cls, column: str, frame: "pd.DataFrame", amount: "Floats") -> "PastAverage":
        """Learn the level of both kinds of user."""
        import numpy as np

        if not column:
            return cls("", float(amount.mean()), 0.0)
        past = np.nan_to_num(frame[column].to_numpy(dtype=np.float64))
        some = past > 0
        rest = amount[~some]
        total = float(past[some].sum())
        factor = float(amount[some].sum()) / total if total else 0.0
        return cls(column, float(rest.mean()) if len(rest) else float(amount.mean()), factor)

    def predict(self, frame: "pd.DataFrame") -> "Floats":
        """Amounts, shape (n,)."""
        import numpy as np

        if not self.column:
            return np.full(len(frame), self.rest)
        past = np.nan_to_num(frame[self.column].to_numpy(dtype=np.float64))
        out: Floats = np.where(past > 0, past * self.factor, self.rest)
        return out


class TwoStage:
    """Whether a user comes to anything, times how much; stands where a pipeline does.

    Attributes:
        columns: the fitted transformer from the flat frame to a matrix.
        chance: classifier of amounts above 0; None where everybody has one.
        size: regressor of the amount of those who have one.
    """

    def __init__(self, columns: Any, chance: Any, size: Any) -> None:
        self.columns = columns
        self.chance = chance
        self.size = size

    def predict(self, frame: "pd.DataFrame") -> "Floats":
        """Amounts, shape (n,)."""
        import numpy as np

        matrix = self.columns.transform(frame)
        size = np.asarray(self.size.predict(matrix), dtype=np.float64)
        if self.chance is None:
            return size
        return np.asarray(self.chance.predict_proba(matrix)[:, 1] * size, dtype=np.float64)


class AmountModel:
    """A fitted estimator and its level; what is saved, loaded and asked for scores.

    Attributes:
        estimator: has ``predict`` on the flat frame.
        level: what its amounts are multiplied by, so that their sum is right on later rows.
        judged: the level from before the test slice, which the figures are of.
    """

    def __init__(self, estimator: Any, level: float = 1.0, judged: float | None = None) -> None:
        self.estimator = estimator
        self.level = level
        self.judged = level if judged is None else judged

    def score(self, frame: "pd.DataFrame") -> "Floats":
        """Expected amount, shape (n,), 0 or more."""
        return raw_amounts(self.estimator, frame) * self.level

    def predict(self, frame: "pd.DataFrame") -> "Floats":
        """The same, under the name that MLflow asks for."""
        return self.score(frame)

    def as_judged(self) -> "AmountModel":
        """The model with the level that its figures on the test slice are of."""
        return AmountModel(self.estimator, self.judged)


def raw_amounts(estimator: Any, frame: "pd.DataFrame") -> "Floats":
    """An estimator's amounts, shape (n,), in parts: their matrices are larger than the frame."""
    import numpy as np

    raw = np.empty(len(frame), dtype=np.float64)
    with quiet():
        for first in range(0, len(frame), PART_ROWS):
            part = frame.iloc[first : first + PART_ROWS]
            raw[first : first + PART_ROWS] = estimator.predict(part)
    return np.maximum(raw, 0.0)
