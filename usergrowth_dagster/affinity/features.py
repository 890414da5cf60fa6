"""What is known of each user and a group of items as of a moment; nothing at or after it counts."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usergrowth_dagster.affinity.collaborative import Weights, learn_weights, taken_items
from usergrowth_dagster.affinity.log import Log

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from usergrowth_dagster.affinity.log import Bools, Floats, Ints

    Matrix = npt.NDArray[np.float64]

HALF_LIVES = (0.5, 2.0, 8.0)
"""Half-lives of decayed counts, in periods."""

_SHRINKAGE = 5.0
"""Decayed interactions at the base rate that a user's share starts with."""

_PROFILE = 20
"""Attribute values of a user's profile, the commonest first."""


@dataclass(frozen=True)
class AsOf:
    """What all expressions share as of a moment.

    Attributes:
        past: interactions before it.
        moment: unix seconds.
        period: seconds of the period that is foretold.
        active: numbers of the users with an interaction before it.
        weights: the collaborative part, learned from the past.
    """

    past: Log
    moment: float
    period: float
    active: "Ints"
    weights: Weights

    def decay(self, half_life: float) -> "Floats":
        """Weight of each interaction of the past.

        Args:
            half_life: in periods.
        """
        import numpy as np

        return np.asarray(0.5 ** ((self.moment - self.past.time) / (half_life * self.period)))

    def per_user(self, weights: "Floats") -> "Floats":
        """Sums by active user of a number for each interaction."""
        import numpy as np

        sums = np.bincount(self.past.user, weights, minlength=self.past.users)
        return sums[self.active].astype(np.float64)


def as_of(log: Log, moment: float, period: float, *, seed: int) -> AsOf:
    """The state of a log as of a moment."""
    import numpy as np

    past = log.before(moment)
    active = np.unique(past.user).astype(np.int32)
    return AsOf(past, moment, period, active, learn_weights(past, seed=seed))


def outcomes(state: AsOf, log: Log, group: "Bools") -> "Bools":
    """Whether each active user interacts with an item of a group in the period that follows."""
    import numpy as np

    after = log.between(state.moment, state.moment + state.period)
    took = np.zeros(log.users, dtype=np.bool_)
    took[after.user[group[after.item]]] = True
    return took[state.active]


def recent_share(state: AsOf, group: "Bools", half_life: float) -> "Floats":
    """Share of a user's decayed interactions that fall on a group, shrunk to the base rate."""
    import numpy as np

    decay = state.decay(half_life)
    inside = decay * group[state.past.item]
    base = inside.sum() / max(decay.sum(), 1e-12)
    shrunk = state.per_user(inside) + _SHRINKAGE * base
    return np.asarray(shrunk / (state.per_user(decay) + _SHRINKAGE))


def expected(state: AsOf, group: "Bools", half_life: float) -> "Floats":
    """Popularity: a user's decayed interactions times the base rate of a group."""
    import numpy as np

    decay = state.decay(half_life)
    base = (decay * group[state.past.item]).sum() / max(decay.sum(), 1e-12)
    return np.asarray(state.per_user(decay) * max(base, 1e-12))


def history_features(state: AsOf, group: "Bools") -> "Matrix":
    """Activity, interactions with the group, their share, and how long ago the last ones were.

    Returns:
        Active users x features.
    """
    import numpy as np

    inside = group[state.past.item]
    columns = []
    for half_life in HALF_LIVES:
        decay = state.decay(half_life)
        columns += [np.log1p(state.per_user(decay)), np.log1p(state.per_user(decay * inside))]
    for half_life in HALF_LIVES[1:]:
        share = np.clip(recent_share(state, group, half_life), 1e-6, 1 - 1e-6)
        columns.append(np.log(share / (1 - share)))
    columns += [_since_last(state), _since_last(state, inside), _since_first(state)]
    return np.column_stack(columns)


def _since_last(state: AsOf, inside: "Bools | None" = None) -> "Floats":
    """Logarithm of the periods since a user's last interaction; never counts as 64 periods."""
    import numpy as np

    last = np.full(state.past.users, state.moment - 64 * state.period)
    rows = slice(None) if inside is None else inside
    np.maximum.at(last, state.past.user[rows], state.past.time[rows])
    return np.asarray(np.log1p((state.moment - last[state.active]) / state.period))


def _since_first(state: AsOf) -> "Floats":
    import numpy as np

    first = np.full(state.past.users, state.moment)
    np.minimum.at(first, state.past.user, state.past.time)
    return np.asarray(np.log1p((state.moment - first[state.active]) / state.period))


def mass_features(state: AsOf, group: "Bools") -> "Matrix":
    """The collaborative mass on the group: in all, of the whole, and on items not taken yet.

    Returns:
        Active users x features.
    """
    import numpy as np

    taken = taken_items(state.past)[state.active]
    on_group, on_all, unseen = state.weights.mass(taken, group)
    share = on_group / np.where(np.abs(on_all) > 1e-9, on_all, np.inf)
    return np.column_stack(
        [
            np.log1p(np.clip(on_group, 0, None)),
            np.clip(share, -1, 2),
            np.log1p(np.clip(unseen, 0, None)),
        ]
    )


def profile_features(state: AsOf) -> "Matrix":
    """Shares of the commonest attribute values in a user's interactions, shrunk to their rates.

    Returns:
        Active users x values.
    """
    import numpy as np
    from scipy import sparse

    decay = state.decay(HALF_LIVES[-1])
    attributes = state.past.attributes[:, :_PROFILE]
    events = sparse.csr_matrix(
        (decay, (state.past.user, state.past.item)), shape=(state.past.users, state.past.items)
    )
    counts = np.asarray((events @ attributes).todense())[state.active]
    base = counts.sum(axis=0) / max(decay.sum(), 1e-12)
    return np.asarray((counts + _SHRINKAGE * base) / (state.per_user(decay)[:, None] + _SHRINKAGE))
