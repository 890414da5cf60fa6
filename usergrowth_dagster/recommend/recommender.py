"""Recommends items to a user: recall, filters, order, diversity; of a new user the popular items.

One value holds all that an answer needs, so that a nightly run, a file and a door of a service ask
the same function.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from usergrowth_dagster.recommend.filters import first_items, places
from usergrowth_dagster.recommend.history import History, empty_history, history_of
from usergrowth_dagster.recommend.learned import Learned
from usergrowth_dagster.recommend.ranker import Order, order_scores
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
        places: its place, from 1, in each route that recalled it.
    """

    item_id: str
    score: float
    places: Mapping[str, int]

    @property
    def routes(self) -> tuple[str, ...]:
        """Names of the routes that recalled it."""
        return tuple(self.places)


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
        known = {user_id: number for number, user_id in enumerate(self.user_ids)}
        known.pop(NOBODY, None)
        return known

    @cached_property
    def items(self) -> Mapping[str, int]:
        """The number of each item."""
        return {item_id: number for number, item_id in enumerate(self.item_ids)}

    def taken(self, user_id: str) -> frozenset[str]:
        """Ids of the items that a user has taken."""
        return frozenset(self.item_ids[item] for item in self._person(user_id, ()).item)

    def recommend(
        self,
        user_id: str,
        n: int,
        *,
        exclude: Collection[str] = (),
        recent: Sequence[str] = (),
        order: str | None = None,
    ) -> tuple[Item, ...]:
        """The first items of one user; of an unknown one, the popular ones.

        Args:
            user_id: the user.
            n: items at most.
            exclude: ids of items that may not be shown.
            recent: ids of items that the user has taken since, the newest last.
            order: name of another order than the chosen one: fused, or that of a route.
        """
        barred = self.barred.copy()
        barred[self._numbers(exclude)] = True
        return self._answer(self._person(user_id, recent), n, barred, order, self.per_category)

    def rank(
        self,
        user_id: str,
        item_ids: Sequence[str],
        *,
        recent: Sequence[str] = (),
        order: str | None = None,
    ) -> tuple[Item, ...]:
        """Items in the order of a user, without those that nothing speaks for.

        Args:
            user_id: the user.
            item_ids: the items; those that the user has taken, or may not be shown, are left out.
            recent: as for :meth:`recommend`.
            order: as for :meth:`recommend`.
        """
        import numpy as np

        barred = np.ones_like(self.barred)
        numbers = self._numbers(item_ids)
        barred[numbers] = self.barred[numbers]
        return self._answer(self._person(user_id, recent), len(item_ids), barred, order, None)

    def everybody(self) -> tuple[Item, ...]:
        """All items that are recalled for a user without a history, with no cap on a category."""
        people = empty_history(self.history.categories, users=1)
        return self._answer(people, len(self.item_ids), self.barred, None, None)

    def capped(self, items: Iterable[Item], n: int) -> tuple[Item, ...]:
        """The first items with no more of one category than a list may have."""
        counts: Counter[int] = Counter()
        kept: list[Item] = []
        for item in items:
            group = int(self.group[self.items[item.item_id]])
            counts[group] += 1
            if self.per_category is None or group < 0 or counts[group] <= self.per_category:
                kept.append(item)
        return tuple(kept[:n])

    def _answer(
        self,
        people: History,
        n: int,
        barred: "npt.NDArray[np.bool_]",
        order: str | None,
        per_category: int | None,
    ) -> tuple[Item, ...]:
        """The first items of one user."""
        first, scores = self._first(people, n, barred, order, per_category)
        names = first.routes
        return tuple(
            Item(
                self.item_ids[item],
                score,
                {name: place for name, place in zip(names, places, strict=True) if place},
            )
            for item, score, places in zip(
                first.item.tolist(), scores.tolist(), first.place.tolist(), strict=True
            )
        )

    def _person(self, user_id: str, recent: Sequence[str]) -> History:
        """The history of one user with the items that it has taken since."""
        import numpy as np

        number = self.users.get(user_id)
        people = (
            empty_history(self.history.categories, users=1)
            if number is None
            else self.history.of_users(np.array([number]))
        )
        since = self._numbers(recent)
        if not since:
            return people
        item = np.concatenate([people.item, np.array(since)])
        age = np.concatenate([people.age, np.zeros(len(since), dtype=np.float32)])
        return history_of(np.zeros_like(item), item, age, 1, people.categories)

    def _numbers(self, item_ids: Collection[str]) -> list[int]:
        return [self.items[one] for one in item_ids if one in self.items]

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

        first, scores = self._first(people, n, self.barred, None, self.per_category)
        items = np.array(self.item_ids, dtype=object)[first.item]
        rank = places(first.user, np.zeros_like(first.user)) + 1
        return Lists(names[first.user], rank, items, scores, route_names(first))

    def _first(
        self,
        people: History,
        n: int,
        barred: "npt.NDArray[np.bool_]",
        order: str | None,
        per_category: int | None,
    ) -> "tuple[Candidates, Floats]":
        """The first candidates of each user, the best first, with their scores."""
        candidates = recall(self.learned.routes, people, barred=barred, seed=self.seed)
        name = self.order.name if order is None else order
        scores = order_scores(name, self.order.booster, self.learned, people, candidates)
        rows = first_items(candidates, scores, n, self.group, per_category)
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
