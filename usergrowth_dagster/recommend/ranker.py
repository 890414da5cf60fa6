"""Ranks what the routes recall: LightGBM's lambdarank, fitted on a later slice than the routes.

The routes learn from all but the slice, so that what they say of it is what they will say of the
future. The ranker only ships where it beats both the fusion and the best route on users that it was
not fitted on; else the best of those orders the candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.recommend.history import History
from usergrowth_dagster.recommend.learned import PERSONAL, Learned, features
from usergrowth_dagster.recommend.recall import Candidates, recall

if TYPE_CHECKING:
    from usergrowth_dagster.recommend.history import Floats, Ints

RANKED, FUSED = "ranked", "fused"

FIT_USERS = 6000
"""A ranker is fitted on so many users at most, drawn at random."""

_NEGATIVES = 60
"""Candidates of a user that were not taken, drawn at random beside the one that was."""

_QUOTA = 100
_TREES = 120
_LEAST = 50
"""Fewer users with their item among the candidates, and no ranker is fitted."""


@dataclass(frozen=True)
class Order:
    """How candidates are ordered.

    Attributes:
        name: ranked, fused, or that of a route.
        booster: LightGBM's model; None where no ranker was fitted.
        tried: NDCG@10 of each order on the slice, of users it was not fitted on.
    """

    name: str
    booster: Any
    tried: dict[str, float]

    def scores(self, learned: Learned, people: History, candidates: Candidates) -> "Floats":
        """A score for each candidate; within a user, the greatest is first."""
        return order_scores(self.name, self.booster, learned, people, candidates)


def order_scores(
    name: str, booster: Any, learned: Learned, people: History, candidates: Candidates
) -> "Floats":
    """The scores of an order of a name; that of a route has the fusion behind it.

    Args:
        name: ranked, fused, or that of a route.
        booster: LightGBM's model, where the order is ranked.
        learned: the routes that recalled.
        people: the histories that they were asked about.
        candidates: what they recalled.
    """
    import numpy as np

    fused = candidates.fused()
    if not len(fused) or name == FUSED:
        return fused
    if name == RANKED:
        values = features(learned, people, candidates)
        # Threads that wait for each other cost one user more than they save.
        made: Floats = booster.predict(values, num_threads=1).astype(np.float32)
        # No ranker is fitted on users without a history: they get the popular items.
        return np.where(people.counts[candidates.user] > 0, made, fused)
    place = candidates.place[:, candidates.routes.index(name)]
    # What the route does not recall stands behind what it does, in the order of the fusion.
    return np.where(place > 0, 1.0 + 1.0 / place.clip(1), fused).astype(np.float32)


def ndcg(candidates: Candidates, scores: "Floats", answer: "Ints", n: int = 10) -> "Floats":
    """1 / log2(1 + place) of each user's answer, 0 where it is not among the first ``n``."""
    import numpy as np

    places = answer_places(candidates, scores, answer)
    gain = np.where((places > 0) & (places <= n), 1 / np.log2(places.clip(1) + 1.0), 0.0)
    return gain.astype(np.float32)


def answer_places(candidates: Candidates, scores: "Floats", answer: "Ints") -> "Ints":
    """The place from 1 of each user's answer among its candidates; 0 where it is none of them.

    Candidates are sorted by item within a user, so that items of one score would stand by their
    numbers; the answer stands in their middle.
    """
    import numpy as np

    hit = candidates.item == answer[candidates.user]
    reached = np.full(len(answer), np.nan)
    reached[candidates.user[hit]] = scores[hit]
    own = reached[candidates.user]
    before = np.bincount(candidates.user, weights=scores > own, minlength=len(answer))
    same = np.bincount(candidates.user, weights=scores == own, minlength=len(answer))
    place = 1 + before + (same - 1) // 2
    return np.where(np.isnan(reached), 0, place).astype(np.int64)


def choose_order(learned: Learned, history: History, answer: "Ints", *, seed: int) -> Order:
    """The order that does best on a slice later than what the routes learned.

    Args:
        learned: the routes of ``history``.
        history: what was known before the slice.
        answer: the item that each user took first in the slice; -1: none.
        seed: of the draws.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    asked = np.flatnonzero(answer >= 0)
    if not len(asked):
        return Order(FUSED, None, {})
    asked = np.sort(random.permutation(asked)[:FIT_USERS])
    rows = _Rows(learned, history, asked, answer)
    personal = [route.name for route in learned.routes if route.name in PERSONAL]
    tried = {
        name: rows.quality(order_scores(name, None, learned, rows.people, rows.candidates))
        for name in (FUSED, *personal)
    }
    best = max(tried, key=lambda name: tried[name])
    if rows.hits < _LEAST:
        return Order(best, None, tried)
    half = random.permutation(len(asked)) % 2 == 0
    crossed = np.zeros(len(rows.candidates.user), dtype=np.float32)
    for fitted_on in (half, ~half):
        other = ~fitted_on[rows.candidates.user]
        crossed[other] = rows.fit(fitted_on, seed).predict(rows.values[other])
    tried[RANKED] = rows.quality(crossed)
    if tried[RANKED] <= tried[best]:
        return Order(best, None, tried)
    return Order(RANKED, rows.fit(np.ones(len(asked), dtype=bool), seed), tried)


class _Rows:
    """The candidates of the slice's users with their features, in chunks of bounded memory."""

    def __init__(self, learned: Learned, history: History, asked: "Ints", answer: "Ints") -> None:
        import numpy as np

        self.people, self.answer = history.of_users(asked), answer[asked]
        parts, values = [], []
        for rows in self.people.chunks():
            some = self.people.of_users(rows)
            candidates = recall(learned.routes, some, quota=_QUOTA)
            values.append(features(learned, some, candidates))
            parts.append(Candidates(rows[candidates.user], *_rest(candidates), candidates.routes))
        self.candidates = _joined(parts)
        self.values = np.vstack(values)
        self.label = self.candidates.item == self.answer[self.candidates.user]
        self.hits = int(self.label.sum())

    def quality(self, scores: "Floats") -> float:
        """NDCG@10 of an order over all users of the slice."""
        return float(ndcg(self.candidates, scores, self.answer).mean())

    def fit(self, users: Any, seed: int) -> Any:
        """A ranker of some users: of each the item that it took, and others drawn at random."""
        import numpy as np
        from lightgbm import Dataset, train

        user = self.candidates.user
        hit = np.bincount(user, weights=self.label, minlength=len(users)) > 0
        counts = np.bincount(user, minlength=len(users))
        chance = _NEGATIVES / np.maximum(counts, 1)
        drawn = np.random.default_rng(seed).random(len(user)) < chance[user]
        kept = (users & hit)[user] & (self.label | drawn)
        data = Dataset(
            self.values[kept],
            self.label[kept].astype(int),
            group=np.unique(user[kept], return_counts=True)[1],
            free_raw_data=True,
        )
        settings = {
            "objective": "lambdarank",
            "learning_rate": 0.06,
            "num_leaves": 15,
            "min_data_in_leaf": 100,
            "lambda_l2": 5.0,
            "lambdarank_truncation_level": 20,
            "bagging_fraction": 0.8,
            "bagging_freq": 1,
            "feature_fraction": 0.8,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "seed": seed,
            "verbosity": -1,
        }
        return train(settings, data, num_boost_round=_TREES)


def _rest(candidates: Candidates) -> "tuple[Ints, Ints, Floats]":
    return candidates.item, candidates.place, candidates.score


def _joined(parts: Sequence[Candidates]) -> Candidates:
    import numpy as np

    return Candidates(
        np.concatenate([one.user for one in parts]),
        np.concatenate([one.item for one in parts]),
        np.vstack([one.place for one in parts]),
        np.vstack([one.score for one in parts]),
        parts[0].routes,
    )
