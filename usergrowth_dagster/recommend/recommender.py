"""Recommends items to a user: recall, filters, order, diversity; of a new user what all take.

One value holds all that an answer needs, so that a nightly run, a file and a door of a service ask
the same function.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from usergrowth_dagster.recommend.filters import first_items, places
from usergrowth_dagster.recommend.history import History, empty_history
from usergrowth_dagster.recommend.learned import Learned
from usergrowth_dagster.recommend.ranker import Order
from usergrowth_dagster.recommend.recall import Candidates, recall
from usergrowth_dagster.warehouse.recommendations import NOBODY

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from usergrowth_dagster.recommend.history import Floats, Ints

    Texts = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Item:
    """One place of a list.

    Attributes:
        item_id: the item.
        score: of the order; comparable within a list only.
        routes: names of the routes that recalled it.
    """

    item_id: str
    score: float
    routes: tuple[str, ...]


@dataclass(frozen=True)
class Lists:
    """The lists of some users as columns, by user and then by place.

    Attributes:
        user_id: the user.
        rank: place in its list, from 1.
        item_id: the item.
        score: of the order.
        routes: names of the routes that recalled it, with commas between.
    """

    user_id: "Texts"
    rank: "Ints"
    item_id: "Texts"
    score: "Floats"
    routes: "Texts"


@dataclass(frozen=True)
class Recommender:
    """Everything that an answer needs.

    Attributes:
        user_ids: of the users of ``history``, by their numbers.
        item_ids: of the items, by their numbers.
        history: what is known of the users.
        learned: the routes.
        order: of the candidates.
        barred: which items may not be shown.
        group: number of each item's first category; -1: it has none.
        per_category: items of one category in a list at most; None: any number.
        seed: of the draw by which items of one score are ordered.
    """

    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    history: History
    learned: Learned
    order: Order
    barred: "npt.NDArray[np.bool_]"
    group: "Ints"
    per_category: int | None
    seed: int

    @cached_property
    def users(self) -> Mapping[str, int]:
        """The number of each user."""
        return {user_id: number for number, user_id in enumerate(self.user_ids)}

    @cached_property
    def _items(self) -> Mapping[str, int]:
        return {item_id: number for number, item_id in enumerate(self.item_ids)}

    def recommend(
        self, user_id: str, n: int, *, exclude: Collection[str] = (), ranked: bool = True
    ) -> tuple[Item, ...]:
        """The first items of one user; of an unknown one, those that everybody takes.

        Args:
            user_id: the user.
            n: items at most.
            exclude: ids of items that may not be shown.
            ranked: False: by the fusion alone, as when there is no time for the ranker.
        """
        import numpy as np

        number = self.users.get(user_id)
        people = (
            empty_history(self.history.categories, users=1)
            if number is None
            else self.history.of_users(np.array([number]))
        )
        barred = self.barred.copy()
        barred[[self._items[one] for one in exclude if one in self._items]] = True
        first, scores = self._first(people, n, barred, ranked)
        return tuple(
            Item(self.item_ids[item], float(score), tuple(names.split(",")))
            for item, score, names in zip(first.item, scores, route_names(first), strict=True)
        )

    def everyone(self, n: int) -> "Iterator[Lists]":
        """The lists of all users, and first that of :data:`NOBODY`, in parts of bounded memory.

        Args:
            n: items of a user at most.
        """
        import numpy as np

        nobody = empty_history(self.history.categories, users=1)
        yield self._list(nobody, np.array([NOBODY], dtype=object), n)
        for rows in self.history.chunks():
            names = np.array([self.user_ids[row] for row in rows], dtype=object)
            yield self._list(self.history.of_users(rows), names, n)

    def _list(self, people: History, names: "Texts", n: int) -> Lists:
        import numpy as np

        first, scores = self._first(people, n, self.barred, True)
        items = np.array(self.item_ids, dtype=object)[first.item]
        rank = places(first.user, np.zeros_like(first.user)) + 1
        return Lists(names[first.user], rank, items, scores, route_names(first))

    def _first(
        self, people: History, n: int, barred: "npt.NDArray[np.bool_]", ranked: bool
    ) -> "tuple[Candidates, Floats]":
        """The first candidates of each user, the best first, with their scores."""
        candidates = recall(self.learned.routes, people, barred=barred, seed=self.seed)
        scores = (
            self.order.scores(self.learned, people, candidates) if ranked else candidates.fused()
        )
        rows = first_items(candidates, scores, n, self.group, self.per_category)
        return candidates.where(rows), scores[rows]


def route_names(candidates: Candidates) -> "Texts":
    """The names of the routes that recall each candidate, with commas between."""
    import numpy as np

    recalled = candidates.place > 0
    mask = recalled @ (1 << np.arange(len(candidates.routes)))
    kinds, of = np.unique(mask, return_inverse=True)
    texts = [
        ",".join(name for bit, name in enumerate(candidates.routes) if kind >> bit & 1)
        for kind in kinds.tolist()
    ]
    return np.array(texts, dtype=object)[of]
