"""c2i: the items of a user's categories that are taken most of late."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.recommend.history import History
from usergrowth_dagster.recommend.routes.neighbours import strongest
from usergrowth_dagster.recommend.routes.popular import recent_counts

if TYPE_CHECKING:
    from usergrowth_dagster.recommend.history import Floats

FIRST = 200
"""Items of a category that are kept."""


@dataclass(frozen=True)
class Categories:
    """Categories with their items.

    Attributes:
        name: of the route.
        of_items: sparse items x categories; a row sums to 1, and a rare category weighs more.
        first: sparse categories x items: the share of the category's recent interactions.
        decay: weight of an item of a user beside the next newer one.
    """

    name: str
    of_items: Any
    first: Any
    decay: float

    def scores(self, people: History) -> "Floats":
        """A user's weight on each category, spread over its items; see :class:`Route`."""
        weights = people.weighed(self.decay) @ self.of_items
        made: Floats = (weights @ self.first).toarray()
        return made


def learn_categories(history: History, *, decay: float = 0.8, first: int = FIRST) -> Categories:
    """The items of each category.

    Args:
        history: what is known, with the categories of its items.
        decay: weight of an item of a user beside the next newer one.
        first: items of a category that are kept.
    """
    import numpy as np
    from scipy import sparse

    has = history.categories.astype(np.float32).tocsr()
    sizes = np.asarray(has.sum(axis=0)).ravel()
    rarity = np.log1p(history.items / np.maximum(sizes, 1)).astype(np.float32)
    of_items = _scaled(has @ sparse.diags(rarity))
    taken = sparse.diags(recent_counts(history)) @ has
    return Categories("c2i", of_items, strongest(_scaled(taken.T), first), decay)


def _scaled(matrix: Any) -> Any:
    """A sparse matrix whose rows sum to 1; an empty row stays empty."""
    import numpy as np
    from scipy import sparse

    totals = np.asarray(matrix.sum(axis=1)).ravel()
    factors = np.divide(1.0, totals, out=np.zeros_like(totals), where=totals > 0)
    return (sparse.diags(factors) @ matrix).tocsr().astype(np.float32)
