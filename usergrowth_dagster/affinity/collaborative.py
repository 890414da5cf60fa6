"""What a user takes next by what others took: EASE with attributes, or a truncated SVD.

EASE (Steck 2019, "Embarrassingly shallow autoencoders for sparse data") has a closed form. With the
Gram matrix G = XᵀX + βAAᵀ + λI and P = G⁻¹, the weights are B = -P / diag(P) by column, with a zero
diagonal; X is users x items and A items x attribute values, so that items with few interactions
learn from their attributes. A user's mass on items is x·B. Where there are too many items to invert
G, the weights are VVᵀ of the truncated SVD of X with βA beneath it (PureSVD).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.affinity.log import Log

if TYPE_CHECKING:
    from usergrowth_dagster.affinity.log import Bools, Floats

EASE_ITEMS = 2500
"""Items up to which G is inverted: 2,500 take two seconds on two slow cores."""

_RIDGE = 200.0
_ATTRIBUTE_WEIGHT = 2.0
_FACTORS = 48
_CHUNK = 8192


@dataclass(frozen=True)
class Weights:
    """How much each item a user has taken speaks for another one.

    Attributes:
        kind: ``EASE`` or ``SVD``.
        full: EASE's B, items x items; None for an SVD.
        factors: items x factors of the SVD; None for EASE.
    """

    kind: str
    full: Any
    factors: Any

    def mass(self, taken: Any, group: "Bools") -> "tuple[Floats, Floats, Floats]":
        """The mass of each user on a group of items.

        Args:
            taken: sparse users x items, 1 where a user has taken an item.
            group: which items.

        Returns:
            Mass on the group, on all items, and on those of the group that are not taken yet.
        """
        import numpy as np

        ones, inside = np.ones(len(group)), group.astype(float)
        within = taken @ _diagonal(inside)
        if self.full is not None:
            on_group = taken @ (self.full @ inside)
            on_all = taken @ (self.full @ ones)
            seen = np.zeros(taken.shape[0])
            for start in range(0, taken.shape[0], _CHUNK):
                rows = slice(start, start + _CHUNK)
                spread = np.asarray(taken[rows] @ self.full)
                seen[rows] = np.asarray(within[rows].multiply(spread).sum(axis=1)).ravel()
        else:
            people = taken @ self.factors
            on_group = people @ (self.factors.T @ inside)
            on_all = people @ (self.factors.T @ ones)
            seen = np.einsum("uk,uk->u", people, within @ self.factors)
        return on_group, on_all, on_group - seen


def _diagonal(values: "Floats") -> Any:
    from scipy import sparse

    return sparse.diags(values, format="csr")


def taken_items(log: Log) -> Any:
    """Sparse users x items: 1 where a user has taken an item in the log."""
    import numpy as np
    from scipy import sparse

    ones = np.ones(len(log.user), dtype=np.float32)
    taken = sparse.csr_matrix((ones, (log.user, log.item)), shape=(log.users, log.items))
    taken.data[:] = 1.0
    return taken


def learn_weights(log: Log, *, seed: int, most: int = EASE_ITEMS) -> Weights:
    """The weights of a log, from all that it holds.

    Args:
        log: cut at the moment as of which the weights are used.
        seed: of the SVD's random start.
        most: items up to which EASE is used.
    """
    taken = taken_items(log)
    if log.items <= most:
        return Weights("EASE", _ease(taken, log.attributes), None)
    return Weights("SVD", None, _svd(taken, log.attributes, seed))


def _ease(taken: Any, attributes: Any) -> Any:
    import numpy as np

    gram = np.asarray((taken.T @ taken).todense(), dtype=np.float32)
    gram += _ATTRIBUTE_WEIGHT * np.asarray((attributes @ attributes.T).todense(), dtype=np.float32)
    return ease_weights(gram, _RIDGE)


def ease_weights(gram: Any, ridge: float) -> Any:
    """EASE's B, items x items with a zero diagonal, of a dense Gram matrix, which is overwritten.

    Args:
        gram: items x items, without λ.
        ridge: λ.
    """
    import numpy as np
    from scipy import linalg

    gram[np.diag_indices_from(gram)] += ridge
    inverse = linalg.inv(gram, overwrite_a=True, check_finite=False)
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights


def _svd(taken: Any, attributes: Any, seed: int) -> Any:
    import numpy as np
    from scipy import sparse
    from sklearn.utils.extmath import randomized_svd

    side = (np.sqrt(_ATTRIBUTE_WEIGHT) * attributes.T).astype(np.float32)
    stacked = sparse.vstack([taken, side], format="csr")
    count = min(_FACTORS, *(size - 1 for size in stacked.shape))
    return randomized_svd(stacked, max(count, 1), n_iter=2, random_state=seed)[2].T
