"""The routes of a history, and what of them a ranker looks at."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usergrowth_dagster.recommend.history import History
from usergrowth_dagster.recommend.recall import Candidates
from usergrowth_dagster.recommend.routes.base import Route
from usergrowth_dagster.recommend.routes.categories import learn_categories
from usergrowth_dagster.recommend.routes.latent import learn_latent
from usergrowth_dagster.recommend.routes.neighbours import Neighbours, learn_neighbours
from usergrowth_dagster.recommend.routes.popular import (
    learn_new,
    learn_popular,
    recent_counts,
)

if TYPE_CHECKING:
    from usergrowth_dagster.recommend.history import Floats, Ints

PERSONAL = ("i2i", "next", "u2i", "c2i")
"""Routes that need something of a user; the others are for everybody."""


@dataclass(frozen=True)
class Learned:
    """The routes of a history.

    Attributes:
        routes: in the order of :data:`PERSONAL`, then popular and new.
        near: the neighbours of i2i.
        counts: recent interactions of each item.
    """

    routes: tuple[Route, ...]
    near: Neighbours
    counts: "Floats"

    def route(self, name: str) -> Route:
        """The route of a name."""
        return next(route for route in self.routes if route.name == name)


def learn(history: History, *, seed: int) -> Learned:
    """The routes of a history; c2i where an item has a category, new where times are known.

    Args:
        history: what is known.
        seed: of everything that draws at random.
    """
    near = learn_neighbours(history)
    following = learn_neighbours(history, name="next", span=0.9)
    routes: list[Route] = [near, following, learn_latent(history, seed=seed)]
    if history.categories.nnz:
        routes.append(learn_categories(history))
    routes.append(learn_popular(history))
    new = learn_new(history)
    if new is not None:
        routes.append(new)
    return Learned(tuple(routes), near, recent_counts(history))


def features(learned: Learned, people: History, candidates: Candidates) -> "Floats":
    """What a ranker looks at, as candidates x features.

    Of each route the reciprocal of the place and the score as a share of the user's greatest; the
    routes that recall the item; its recent count; the user's interactions; how near it is to the
    user's newest item and the one before; and the share of the newest item's categories it has.

    Args:
        learned: the routes that recalled.
        people: the histories that they were asked about.
        candidates: what they recalled.
    """
    import numpy as np

    user, item = candidates.user, candidates.item
    greatest = np.zeros((people.users, len(candidates.routes)), dtype=np.float32)
    np.maximum.at(greatest, user, candidates.score)
    share = candidates.score / np.maximum(greatest[user], np.float32(1e-12))
    columns = [
        np.where(candidates.place > 0, 1.0 / candidates.place.clip(1), 0.0),
        share,
        candidates.fused()[:, None],
        (candidates.place > 0).sum(axis=1, keepdims=True),
        np.log1p(learned.counts[item])[:, None],
        np.log1p(people.counts[user])[:, None],
        _near(learned, people.newest(0)[user], item)[:, None],
        _near(learned, people.newest(1)[user], item)[:, None],
        _common(people, people.newest(0)[user], item)[:, None],
    ]
    return np.hstack(columns).astype(np.float32)


def _near(learned: Learned, one: "Ints", other: "Ints") -> "Floats":
    """How near the second item of each pair is to the first; 0 where there is no first."""
    import numpy as np

    if not len(one):
        return np.zeros(0, dtype=np.float32)
    made = np.asarray(learned.near.near[np.maximum(one, 0), other]).ravel()
    return np.where(one >= 0, made, np.float32(0))


def _common(people: History, one: "Ints", other: "Ints") -> "Floats":
    """Share of the first item's categories that the second has; 0 where there is none."""
    import numpy as np

    if not len(one) or not people.categories.nnz:
        return np.zeros(len(one), dtype=np.float32)
    has = people.categories
    both = np.asarray(has[np.maximum(one, 0)].multiply(has[other]).sum(axis=1)).ravel()
    of = np.diff(has.indptr)[np.maximum(one, 0)]
    return np.where(one >= 0, both / np.maximum(of, 1), 0.0).astype(np.float32)
