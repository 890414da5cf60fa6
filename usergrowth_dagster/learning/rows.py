"""Rows that models are fitted to and tested on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Slice:
    """Rows of the flat frame: features, labels or amounts (n,), and days (n,) as datetime64[D].

    ``user`` is the user of each row (n,), where slices hold different users; else None. ``weight``
    is how many rows of the population each one stands for, 1 on average; None: one each.
    """

    frame: "pd.DataFrame"
    label: "NDArray[Any]"
    day: "NDArray[np.datetime64]"
    user: "NDArray[Any] | None" = None
    weight: "NDArray[np.float64] | None" = None

    def on(self, days: Sequence[date]) -> "Slice":
        """The rows of some days; without a copy where they stand together."""
        import numpy as np

        keep = np.flatnonzero(np.isin(self.day, np.array(days, dtype="datetime64[D]")))
        if len(keep) and keep[-1] - keep[0] == len(keep) - 1:
            run = slice(int(keep[0]), int(keep[-1]) + 1)
            return self._of(run)
        return self.where(keep)

    def where(self, keep: "NDArray[Any]") -> "Slice":
        """Some rows, by their places."""
        return self._of(keep)

    def _of(self, places: "NDArray[Any] | slice") -> "Slice":
        weight = None if self.weight is None else self.weight[places]
        return Slice(self.frame.iloc[places], self.label[places], self.day[places], weight=weight)

    def both_classes(self) -> bool:
        """Whether there is something to tell apart."""
        return 0 < int(self.label.sum()) < len(self.label)

    def days(self) -> list[date]:
        """The days present, in order."""
        import numpy as np

        return [day.item() for day in np.unique(self.day)]
