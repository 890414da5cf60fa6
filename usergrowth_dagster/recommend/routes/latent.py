"""u2i: what a user takes by what everybody took: EASE, or a truncated SVD where items are many.

EASE (Steck 2019) has a closed form: with P = (XᵀX + λI)⁻¹ the weights are B = -P / diag(P) by
column, with a zero diagonal. Its memory is the square of the items, so that above a number of them
the weights are VVᵀ of the truncated SVD of X (PureSVD), of which only V is kept.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.affinity.collaborative import ease_weights
from usergrowth_dagster.recommend.history import History

if TYPE_CHECKING:
    from usergrowth_dagster.recommend.history import Floats

EASE_ITEMS = 6000
"""Items up to which EASE is used: 6,000 take 150 MB and some ten seconds on one slow core."""

_FACTORS = 128


@dataclass(frozen=True)
class Latent:
    """Weights between all items.

    Attributes:
        name: of the route.
        kind: ``EASE`` or ``SVD``.
        weights: items x items of EASE, or items x factors of an SVD.
        decay: weight of an item of a user beside the next newer one.
    """

    name: str
    kind: str
    weights: Any
    decay: float

    def scores(self, people: History) -> "Floats":
        """A user's weight on each item; see :class:`Route`."""
        import numpy as np

        spread = people.weighed(self.decay) @ self.weights
        made = spread if self.kind == "EASE" else spread @ self.weights.T
        return np.ascontiguousarray(made, dtype=np.float32)


def learn_latent(
    history: History, *, seed: int, ridge: float = 100.0, decay: float = 1.0, most: int = EASE_ITEMS
) -> Latent:
    """The weights of a history.

    Args:
        history: what is known.
        seed: of the SVD's random start.
        ridge: λ of EASE.
        decay: weight of an item of a user beside the next newer one.
        most: items up to which EASE is used.
    """
    if history.items <= most:
        return Latent("u2i", "EASE", _ease(history.taken, ridge), decay)
    return Latent("u2i", "SVD", _svd(history.taken, seed), decay)


def _ease(taken: Any, ridge: float) -> Any:
    import numpy as np

    weights = ease_weights((taken.T @ taken).toarray().astype(np.float32), ridge)
    # LAPACK leaves columns together, which each product of one user would copy into rows.
    return np.ascontiguousarray(weights)


def _svd(taken: Any, seed: int) -> Any:
    import numpy as np
    from sklearn.utils.extmath import randomized_svd

    count = max(min(_FACTORS, *(size - 1 for size in taken.shape)), 1)
    factors = randomized_svd(taken, count, n_iter=2, random_state=seed)[2].T
    return np.ascontiguousarray(factors, dtype=np.float32)
