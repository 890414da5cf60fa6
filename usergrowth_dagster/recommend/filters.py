"""What a list leaves out: more of one category than wanted, and all behind the first n.

Items that a user has taken, and those that may not be shown, never become candidates; see
:mod:`usergrowth_dagster.recommend.recall`.
"""

from typing import TYPE_CHECKING

from usergrowth_dagster.recommend.recall import Candidates

if TYPE_CHECKING:
    from usergrowth_dagster.recommend.history import Floats, Ints


def first_items(
    candidates: Candidates, scores: "Floats", n: int, group: "Ints", most: int | None = None
) -> "Ints":
    """The rows of the first ``n`` candidates of each user, by user and then by place.

    Args:
        candidates: of any number of users.
        scores: of each candidate; within a user, the greatest is first.
        n: items of a user.
        group: number of each item's first category; -1: it has none, and no cap holds for it.
        most: items of one category in a user's list; None: any number.
    """
    import numpy as np

    rows = np.lexsort((candidates.item, -scores, candidates.user))
    if most is not None:
        kind = group[candidates.item[rows]]
        rows = rows[(places(candidates.user[rows], kind) < most) | (kind < 0)]
    return rows[places(candidates.user[rows], np.zeros(len(rows), dtype=np.int64)) < n]


def places(user: "Ints", kind: "Ints") -> "Ints":
    """How many rows of the same user and kind stand before each row.

    Args:
        user: of each row.
        kind: of each row.
    """
    import numpy as np

    order = np.lexsort((np.arange(len(user)), kind, user))
    begins = np.ones(len(user), dtype=bool)
    begins[1:] = (np.diff(user[order]) != 0) | (np.diff(kind[order]) != 0)
    at = np.arange(len(user))
    made = np.empty(len(user), dtype=np.int64)
    made[order] = at - np.maximum.accumulate(np.where(begins, at, 0))
    return made
