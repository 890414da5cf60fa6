"""The calibration map once it is chosen: fitted again on every label that is closed by D.

The figures of the test slice are of the map from before it. What scores after D has a newer one, of
all closed rows that the pipeline was not fitted on, the test slice included. :func:`replayed` says
how good that habit is: within the test slice each stretch of days is scored by the map that could
have been fitted on its first morning.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usergrowth_dagster.learning.calibration import (
    METHODS,
    Method,
    apply_knots,
    fit_knots,
    level_of,
    shift_level,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RAW, BEFORE = "no map", "map from before the test slice"
AGAIN, LEVEL = "map fitted again as labels close", "level refreshed as labels close"
STRETCHES = 8  # of the test slice, at most
LEAST_OF_CLASS = 20  # rows of each class that a level rests on


@dataclass(frozen=True)
class Held:
    """Raw scores of rows that a pipeline was not fitted on, in order of time.

    Attributes:
        score: raw probabilities, shape (n,).
        label: 0/1, shape (n,).
        day: snapshot of each row, shape (n,) as datetime64[D].
    """

    score: "Floats"
    label: "NDArray[np.int64]"
    day: "NDArray[np.datetime64]"

    def with_rows(self, other: "Held") -> "Held":
        """These rows and others."""
        import numpy as np

        return Held(
            np.concatenate([self.score, other.score]),
            np.concatenate([self.label, other.label]),
            np.concatenate([self.day, other.day]),
        )

    def closed_by(self, day: "np.datetime64", horizon_days: int) -> "Held":
        """The rows whose labels are closed on the morning of a day."""
        import numpy as np

        return self._where(self.day + np.timedelta64(horizon_days, "D") <= day)

    def newest(self, days: int) -> "Held":
        """The rows of the newest ``days`` days, and of earlier ones until both classes are there in
        :data:`LEAST_OF_CLASS` rows; empty where they never are.
        """
        import numpy as np

        wanted = self.day.max() - np.timedelta64(days - 1, "D")
        for first in np.unique(self.day)[::-1]:
            rows = self._where(self.day >= min(first, wanted))
            positives = int(rows.label.sum())
            if min(positives, len(rows.label) - positives) >= LEAST_OF_CLASS:
                return rows
        return self._where(self.day != self.day)

    def _where(self, keep: "NDArray[np.bool_]") -> "Held":
        return Held(self.score[keep], self.label[keep], self.day[keep])


def refitted(held: Held | None, test: Held, method: str) -> "tuple[Floats, Floats] | None":
    """The map of a chosen method on all closed rows; None where no method was chosen."""
    if held is None or method not in METHODS:
        return None
    rows = held.with_rows(test)
    return fit_knots(rows.score, rows.label, method)


def replayed(
    held: Held | None, test: Held, method: str, *, horizon_days: int, level_days: int
) -> "dict[str, Floats]":
    """Scores of the test rows by what could have been known on each morning.

    Args:
        held: what the map was fitted on; None where there was nothing.
        test: the test rows, scored by the pipeline.
        method: that was chosen before the test slice.
        horizon_days: days until a label is closed.
        level_days: days of the newest closed labels that a level is taken from.

    Returns:
        :data:`RAW`, :data:`AGAIN` and :data:`LEVEL` → scores, shape (n,). A stretch before which
        nothing is closed has the raw score.
    """
    import numpy as np

    rows = test if held is None else held.with_rows(test)
    chosen: Method = next((m for m in METHODS if m == method), "identity")
    again, level = test.score.copy(), test.score.copy()
    for days in np.array_split(np.unique(test.day), STRETCHES):
        if not len(days):
            continue
        here = (test.day >= days[0]) & (test.day <= days[-1])
        known = rows.closed_by(days[0], horizon_days)
        if not 0 < known.label.sum() < len(known.label):
            continue
        knots = fit_knots(known.score, known.label, chosen)
        again[here] = level[here] = apply_knots(test.score[here], knots)
        newest = known.newest(level_days)
        if len(newest.label):
            shift = level_of(apply_knots(newest.score, knots), newest.label)
            level[here] = shift_level(again[here], shift)
    return {RAW: test.score, AGAIN: again, LEVEL: level}
