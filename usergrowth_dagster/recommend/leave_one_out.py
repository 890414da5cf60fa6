"""How good routes and orders are, by leaving out each user's newest item and looking for it.

The routes that are tested learn from all but the newest item of each user; the order was chosen one
item earlier, so that it never sees what it is tested on. The ranking is full: of all items that a
user has not taken, none is left out. Items of one score are parted by a draw. Intervals are
percentiles of a Poisson bootstrap over users, with the same draws for all orders.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from usergrowth_dagster.affinity.figures import Interval, interval_of
from usergrowth_dagster.recommend.history import History
from usergrowth_dagster.recommend.learned import Learned, learn
from usergrowth_dagster.recommend.ranker import (
    FUSED,
    RANKED,
    Order,
    answer_places,
    choose_order,
    order_scores,
)
from usergrowth_dagster.recommend.recall import QUOTA, Candidates, hide, recall

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from numpy.random import Generator

    from usergrowth_dagster.affinity.log import Bools
    from usergrowth_dagster.recommend.history import Floats, Ints
    from usergrowth_dagster.recommend.routes.base import Route

    Table = npt.NDArray[np.float64]

COSINE, SHIPPED = "cosine kNN", "shipped"

_DRAWS = 200
_WITHOUT = "-"
"""Begins the name of the fusion without a route."""

_SLICES = {"1 to 4": (1, 5), "5 to 9": (5, 10), "10 and more": (10, 1 << 40)}
"""By how many items are known of a user: from the first number to before the second."""


@dataclass(frozen=True)
class Figures:
    """How often an order has the item that a user took next among its first.

    Attributes:
        order: its name.
        users: how many were asked about.
        hr5, hr10: share of users whose item is among the first 5, or 10.
        ndcg5, ndcg10: 1 / log2(1 + place) of the item, averaged; 0 behind the first 5, or 10.
        recall: share of users whose item is among the first 200.
    """

    order: str
    users: int
    hr5: Interval
    ndcg5: Interval
    hr10: Interval
    ndcg10: Interval
    recall: Interval


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        users: who were asked about.
        items: that were ranked.
        interactions: that were learned from.
        latent: EASE or SVD.
        shipped: name of the order that was chosen one item earlier.
        tried: NDCG@10 of the orders there.
        union: share of users whose item is among the 200 of any route.
        figures: of the naive orders, the routes, the fusion, the ranker and the shipped order.
        without: of the fusion without one route each; the order is the route's name.
        slices: of the shipped order, by how much is known of a user.
    """

    users: int
    items: int
    interactions: int
    latent: str
    shipped: str
    tried: dict[str, float]
    union: Interval
    figures: tuple[Figures, ...]
    without: tuple[Figures, ...]
    slices: tuple[Figures, ...]


def leave_one_out(history: History, *, seed: int, most: int | None = None) -> Evaluation:
    """Choose an order one item early, and test it with the routes on everybody's newest item.

    Args:
        history: every user with three items at least.
        seed: of everything that draws at random.
        most: users who are asked about at most, drawn at random; None: all.
    """
    import numpy as np

    early = history.before(2)
    order = choose_order(learn(early, seed=seed), early, history.newest(1), seed=seed)
    known, answer = history.before(1), history.newest(0)
    learned = learn(known, seed=seed)
    random = np.random.default_rng(seed)
    asked = np.sort(random.permutation(history.users)[:most])
    places = _places(learned, order, known.of_users(asked), answer[asked], random)
    counts = known.counts[asked]
    figures = _Bootstrap(len(asked), seed)
    slices = {name: (counts >= low) & (counts < high) for name, (low, high) in _SLICES.items()}
    return Evaluation(
        len(asked),
        history.items,
        len(known.user),
        str(getattr(learned.route("u2i"), "kind", "")),
        order.name,
        order.tried,
        figures.of("union", np.minimum(places[FUSED], 1)).recall,
        tuple(figures.of(name, one) for name, one in places.items() if name[0] != _WITHOUT),
        tuple(figures.of(name[1:], one) for name, one in places.items() if name[0] == _WITHOUT),
        tuple(
            figures.of(name, places[SHIPPED], among)
            for name, among in slices.items()
            if among.any()
        ),
    )


def _places(
    learned: Learned, order: Order, people: History, answer: "Ints", random: "Generator"
) -> "dict[str, Ints]":
    """The place of each user's answer in every order, 0 where it is in none."""
    import numpy as np

    naive: Route = replace(learned.near, name=COSINE, decay=1.0)
    made: dict[str, list[Ints]] = {}
    for rows in people.chunks():
        some, wanted = people.of_users(rows), answer[rows]
        for route in (naive, *learned.routes):
            made.setdefault(route.name, []).append(_full(route, some, wanted, random))
        candidates = recall(learned.routes, some)
        for name, scores in _orders(learned, order, some, candidates).items():
            made.setdefault(name, []).append(answer_places(candidates, scores, wanted))
    return {name: np.concatenate(parts) for name, parts in made.items()}


def _orders(
    learned: Learned, order: Order, people: History, candidates: Candidates
) -> "dict[str, Floats]":
    """The scores of each order of the candidates, and with a dash those without one route."""
    made = {FUSED: candidates.fused()}
    if order.booster is not None:
        made[RANKED] = order_scores(RANKED, order.booster, learned, people, candidates)
    made[SHIPPED] = order.scores(learned, people, candidates)
    for name in candidates.routes:
        made[_WITHOUT + name] = candidates.fused(without=[name])
    return made


def _full(route: "Route", people: History, answer: "Ints", random: "Generator") -> "Ints":
    """The place of each user's answer among all items by a route, ties parted by a draw."""
    import numpy as np

    scores = route.scores(people)
    hide(scores, people)
    own = scores[np.arange(len(answer)), answer][:, None]
    same = (scores == own).sum(axis=1) - 1
    drawn = np.floor(random.random(len(answer)) * (same + 1))
    made: Ints = (1 + (scores > own).sum(axis=1) + drawn).astype(np.int64)
    return made


class _Bootstrap:
    """Figures with intervals of draws of users, the same draws for all orders."""

    def __init__(self, users: int, seed: int) -> None:
        self.users, self.seed = users, seed

    def of(self, order: str, place: "Ints", among: "Bools | None" = None) -> Figures:
        """The figures of one order.

        Args:
            order: its name.
            place: of each user's answer, from 1; 0: nowhere.
            among: which users count; None: all.
        """
        import numpy as np

        gain = np.where(place > 0, 1 / np.log2(place.clip(1) + 1.0), 0.0)
        within = {n: (place > 0) & (place <= n) for n in (5, 10, QUOTA)}
        columns = np.column_stack(
            [within[5], gain * within[5], within[10], gain * within[10], within[QUOTA]]
        ).astype(float)
        counted = np.ones(self.users) if among is None else among.astype(float)
        drawn = np.vstack([self._means(columns, counted, draw) for draw in range(_DRAWS)])
        point = self._means(columns, counted, None)
        parts = (interval_of(point[k], drawn[:, k]) for k in range(5))
        return Figures(order, int(counted.sum()), *parts)

    def _means(
        self, columns: "np.ndarray", counted: "np.ndarray", draw: int | None
    ) -> "np.ndarray":
        import numpy as np

        if draw is None:
            weights = counted
        else:
            weights = counted * np.random.default_rng((self.seed, draw)).poisson(1.0, self.users)
        total = weights.sum()
        return weights @ columns / total if total else np.full(columns.shape[1], np.nan)
