"""i2i: items that were taken by those who took a user's items, the newest of which weigh most.

Two items are as near as the cosine of the sets of users who took them, divided by a shrinkage that
keeps two users from making two rare items alike. ``span`` says how a pair counts that a user took
with other items in between: at 1 as any other, below 1 the less the further apart.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.recommend.history import History

if TYPE_CHECKING:
    from usergrowth_dagster.recommend.history import Floats

NEAREST = 200
"""Neighbours of an item that are kept."""

_REACH = 20
"""Steps between two items of a user up to which a pair counts by its distance."""


@dataclass(frozen=True)
class Neighbours:
    """Decayed item-kNN.

    Attributes:
        name: of the route.
        near: sparse items x items: how near the second is to the first.
        decay: weight of an item of a user beside the next newer one.
    """

    name: str
    near: Any
    decay: float

    def scores(self, people: History) -> "Floats":
        """How near each item is to what a user has taken; see :class:`Route`."""
        made: Floats = (people.weighed(self.decay) @ self.near).toarray()
        return made


def learn_neighbours(
    history: History,
    *,
    name: str = "i2i",
    decay: float = 0.8,
    span: float = 1.0,
    shrinkage: float = 0.0,
    nearest: int = NEAREST,
) -> Neighbours:
    """The neighbours of each item.

    Args:
        history: what is known.
        name: of the route.
        decay: weight of an item of a user beside the next newer one.
        span: weight of a pair of items beside one that is a step nearer, from 0 to 1.
        shrinkage: users that are added to the root of the product of two items' users.
        nearest: neighbours of an item that are kept.
    """
    import numpy as np
    from scipy import sparse

    together = _together(history) if span == 1 else _by_distance(history, span)
    together = together.tocoo()
    apart = together.row != together.col
    row, column = together.row[apart], together.col[apart]
    takers = np.bincount(history.item, minlength=history.items).astype(np.float32)
    values = together.data[apart] / (np.sqrt(takers[row] * takers[column]) + shrinkage)
    near = sparse.csr_matrix((values, (row, column)), shape=together.shape, dtype=np.float32)
    return Neighbours(name, strongest(near, nearest), decay)


def _together(history: History) -> Any:
    """How many users took both of two items."""
    return history.taken.T @ history.taken


def _by_distance(history: History, span: float) -> Any:
    """As :func:`_together`, where a user counts ``span`` to the power of the items in between."""
    import numpy as np
    from scipy import sparse

    shape = (history.items, history.items)
    made = sparse.csr_matrix(shape, dtype=np.float32)
    longest = int(history.counts.max(initial=0))
    for step in range(1, min(_REACH, longest - 1) + 1):
        same = history.user[step:] == history.user[:-step]
        row, column = history.item[:-step][same], history.item[step:][same]
        weights = np.full(len(row), np.float32(span) ** (step - 1), dtype=np.float32)
        made = made + sparse.csr_matrix((weights, (row, column)), shape=shape)
    return made + made.T


def strongest(matrix: Any, most: int) -> Any:
    """The greatest ``most`` values of each row of a sparse matrix; ties go to the first column."""
    import numpy as np

    matrix = matrix.tocsr()
    counts = np.diff(matrix.indptr)
    if counts.max(initial=0) <= most:
        return matrix
    row = np.repeat(np.arange(matrix.shape[0]), counts)
    order = np.lexsort((matrix.indices, -matrix.data, row))
    rank = np.arange(len(order)) - np.repeat(matrix.indptr[:-1], counts)
    dropped = order[rank >= most]
    matrix.data[dropped] = 0
    matrix.eliminate_zeros()
    return matrix
