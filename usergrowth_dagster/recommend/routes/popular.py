"""popular and new: items that are popular of late, and those that came of late.

They need nothing of a user, so that a user without a history gets them too.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usergrowth_dagster.recommend.history import History

if TYPE_CHECKING:
    from usergrowth_dagster.recommend.history import Floats

HALF_LIFE = 30.0
"""Days in which an interaction loses half of its weight."""

NEW_DAYS = 14.0
"""Days since an item's first interaction up to which it is new."""


@dataclass(frozen=True)
class Popular:
    """The same items for everybody.

    Attributes:
        name: of the route: popular or new.
        weights: of each item.
    """

    name: str
    weights: "Floats"

    def scores(self, people: History) -> "Floats":
        """The weights, once a user; see :class:`Route`."""
        import numpy as np

        return np.tile(self.weights, (people.users, 1))


def recent_counts(history: History, half_life: float = HALF_LIFE) -> "Floats":
    """Interactions of each item, where one loses half of its weight in ``half_life`` days."""
    import numpy as np

    weights = np.exp2(-history.age / half_life)
    counts = np.bincount(history.item, weights=weights, minlength=history.items)
    return counts.astype(np.float32)


def learn_popular(history: History) -> Popular:
    """The items that are taken most of late."""
    return Popular("popular", recent_counts(history))


def learn_new(history: History, days: float = NEW_DAYS) -> Popular | None:
    """The items that were first taken in the last ``days``; None without any, or without times."""
    import numpy as np

    first = np.full(history.items, -1.0, dtype=np.float32)
    np.maximum.at(first, history.item, history.age)
    fresh = (first >= 0) & (first <= days)
    if not history.age.any() or not fresh.any():
        return None
    return Popular("new", np.where(fresh, recent_counts(history), np.float32(0)))
