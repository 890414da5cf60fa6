"""What the routes recall for users: the first items of each, together, with place and score.

A user's own items and those that may not be shown are left out before the first are counted, so
that they take no place from others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usergrowth_dagster.recommend.history import History
from usergrowth_dagster.recommend.routes.base import Route

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from usergrowth_dagster.recommend.history import Floats, Ints

QUOTA = 200
"""Items of a route for a user at most."""

DAMPING = 60
"""Places that are added to a place before its reciprocal is taken (Cormack et al. 2009)."""


@dataclass(frozen=True)
class Candidates:
    """Items that some route recalls for a user, sorted by user and then by item.

    Attributes:
        user: number of the user of each candidate.
        item: number of its item.
        place: candidates x routes: the place in a route from 1; 0 where it does not recall it.
        score: candidates x routes: the route's score; 0 where it does not recall it.
        routes: names of the routes.
    """

    user: "Ints"
    item: "Ints"
    place: "Ints"
    score: "Floats"
    routes: tuple[str, ...]

    def fused(self, without: Sequence[str] = ()) -> "Floats":
        """Reciprocal-rank fusion: 1 / (60 + place), summed over the routes.

        Args:
            without: routes that do not count.
        """
        import numpy as np

        counts = np.array([name not in without for name in self.routes])
        parts = np.where(self.place > 0, 1.0 / (DAMPING + self.place), 0.0)
        fused: Floats = (parts @ counts).astype(np.float32)
        return fused

    def where(self, kept: "npt.NDArray[np.bool_] | Ints") -> "Candidates":
        """Some of the candidates."""
        rows = (self.user[kept], self.item[kept], self.place[kept], self.score[kept])
        return Candidates(*rows, self.routes)


def recall(
    routes: Sequence[Route],
    people: History,
    *,
    quota: int = QUOTA,
    barred: "npt.NDArray[np.bool_] | None" = None,
    seed: int = 0,
) -> Candidates:
    """The candidates of some users.

    Args:
        routes: that recall.
        people: the histories of the users; as many as :meth:`History.chunks` gives at once.
        quota: items of a route for a user at most.
        barred: which items may not be shown; None: all may.
        seed: of the draw by which items of one score are ordered.
    """
    import numpy as np

    lists = [_first(route.scores(people), people, quota, barred, seed) for route in routes]
    keys = np.unique(np.concatenate([key for key, _, _ in lists]))
    place = np.zeros((len(keys), len(routes)), dtype=np.int64)
    score = np.zeros((len(keys), len(routes)), dtype=np.float32)
    for column, (key, places, scores) in enumerate(lists):
        at = np.searchsorted(keys, key)
        place[at, column], score[at, column] = places, scores
    names = tuple(route.name for route in routes)
    return Candidates(keys // people.items, keys % people.items, place, score, names)


def _first(
    scores: "Floats",
    people: History,
    quota: int,
    barred: "npt.NDArray[np.bool_] | None",
    seed: int,
) -> "tuple[Ints, Ints, Floats]":
    """The first items of one route, as user * items + item, with place and score."""
    import numpy as np

    hide(scores, people, barred)
    most = min(quota, people.items)
    # Items of one score stand in the order of a draw: their numbers may follow time or fame.
    drawn = np.random.default_rng(seed).permutation(people.items)
    mixed = scores[:, drawn]
    some = np.argpartition(-mixed, most - 1, axis=1)[:, :most]
    values = np.take_along_axis(mixed, some, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    values = np.take_along_axis(values, order, axis=1)
    item = drawn[np.take_along_axis(some, order, axis=1)]
    user, column = np.nonzero(values > 0)
    return user * people.items + item[user, column], column + 1, values[user, column]


def hide(scores: "Floats", people: History, barred: "npt.NDArray[np.bool_] | None" = None) -> None:
    """Put the items that users have taken, and those that are barred, behind all others."""
    import numpy as np

    scores[people.user, people.item] = -np.inf
    if barred is not None:
        scores[:, barred] = -np.inf
