"""What users have taken, in order: users and items as numbers, the newest last.

A route learns from a history and scores users by the same. Nothing here knows a file or a table.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float32]

CELLS = 8_000_000
"""Cells of users x items that are scored at once: 32 MB of 4-byte numbers."""


@dataclass(frozen=True)
class History:
    """Interactions, sorted by user and then by time; an item counts once for a user.

    Attributes:
        user: number of the user of each interaction, ascending.
        item: number of its item.
        age: days from it to the moment of the history; zeros where no time is known.
        users: how many users there are, those without an interaction included.
        categories: sparse items x categories, 1 where an item has one.
    """

    user: "Ints"
    item: "Ints"
    age: "Floats"
    users: int
    categories: Any

    @property
    def items(self) -> int:
        """How many items there are, those without an interaction included."""
        return int(self.categories.shape[0])

    @cached_property
    def counts(self) -> "Ints":
        """Interactions of each user."""
        import numpy as np

        return np.bincount(self.user, minlength=self.users).astype(np.int64)

    @cached_property
    def _starts(self) -> "Ints":
        """The row of each user's first interaction."""
        import numpy as np

        starts: Ints = np.cumsum(self.counts) - self.counts
        return starts

    @cached_property
    def place(self) -> "Ints":
        """How many later interactions its user has, of each interaction: 0 for the newest."""
        import numpy as np

        ends = np.cumsum(self.counts)
        return ends[self.user] - 1 - np.arange(len(self.user))

    @cached_property
    def taken(self) -> Any:
        """Sparse users x items: 1 where a user has taken an item."""
        return self.weighed(1.0)

    def weighed(self, decay: float) -> Any:
        """Sparse users x items: a user's newest item weighs 1, and each older one ``decay`` less.

        Args:
            decay: factor from one item to the one before it, from 0 to 1.
        """
        import numpy as np
        from scipy import sparse

        weights = np.power(np.float32(decay), self.place.astype(np.float32))
        shape = (self.users, self.items)
        return sparse.csr_matrix((weights, (self.user, self.item)), shape=shape)

    def before(self, last: int) -> "History":
        """The history without each user's ``last`` newest interactions."""
        return self.where(self.place >= last)

    def where(self, kept: "npt.NDArray[np.bool_]") -> "History":
        """The history of the interactions that are kept; users and items keep their numbers."""
        kept_rows = (self.user[kept], self.item[kept], self.age[kept])
        return History(*kept_rows, self.users, self.categories)

    def of_users(self, rows: "Ints") -> "History":
        """The history of some users, who become the users 0, 1, ... in the order given."""
        import numpy as np

        counts = self.counts[rows]
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        at = np.repeat(self._starts[rows], counts) + offsets
        user = np.repeat(np.arange(len(rows)), counts)
        return History(user, self.item[at], self.age[at], len(rows), self.categories)

    def newest(self, back: int = 0) -> "Ints":
        """The item of each user that has ``back`` later ones; -1 where there is none."""
        import numpy as np

        made = np.full(self.users, -1, dtype=np.int64)
        at = self.place == back
        made[self.user[at]] = self.item[at]
        return made

    def chunks(self) -> "Iterator[Ints]":
        """The users in runs whose scores of all items are :data:`CELLS` at most."""
        import numpy as np

        step = max(1, CELLS // max(self.items, 1))
        for start in range(0, self.users, step):
            yield np.arange(start, min(start + step, self.users))


def history_of(user: "Ints", item: "Ints", age: "Floats", users: int, categories: Any) -> History:
    """A history of interactions in order of time; a repeated item of a user counts at its newest.

    Args:
        user: number of the user of each interaction, in any order.
        item: number of its item; within a user, the order is that of time.
        age: days from it to the moment of the history.
        users: how many users there are.
        categories: sparse items x categories.
    """
    import numpy as np

    order = np.argsort(user, kind="stable")
    user, item, age = user[order], item[order], age[order]
    pair = user * np.int64(categories.shape[0]) + item
    _, newest = np.unique(pair[::-1], return_index=True)
    kept = np.zeros(len(pair), dtype=bool)
    kept[len(pair) - 1 - newest] = True
    return History(user[kept], item[kept], age[kept], users, categories)


def empty_history(categories: Any, *, users: int) -> History:
    """The history of users without a history."""
    import numpy as np

    none = np.zeros(0, dtype=np.int64)
    return History(none, none, np.zeros(0, dtype=np.float32), users, categories)
