"""LightGBM for outcomes and for effects, kept small: what is to be found is smaller than the noise.

Few leaves, large ones, a strong ridge on their values, and as many trees as predict unseen users
best; how many leaves and trees is chosen by folds of users inside the rows that are fitted on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.model import quiet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

LEAVES = (3, 6)
MAX_TREES, MIN_TREES = 150, 10
RATE = 0.05
LEAF_SHARE, MIN_LEAF = 100, 20  # a leaf holds at least 1 % of the rows, and never fewer than 20
FOLDS = 3


@dataclass(frozen=True)
class Boost:
    """How large a booster is grown: number of trees, and of leaves in one."""

    trees: int
    leaves: int


class Booster:
    """A booster of a 0/1 outcome or of an effect; a constant where there is nothing to tell apart.

    Attributes:
        model: the LightGBM estimator, None for a constant.
        constant: the mean it falls back to.
        binary: whether it is one of probabilities.
    """

    def __init__(self, binary: bool) -> None:
        self.binary = binary
        self.model: Any = None
        self.constant = 0.0

    def fit(
        self,
        x: "Floats",
        target: "Floats",
        weight: "Floats | None",
        size: Boost,
        seed: int,
        threads: int = 1,
    ) -> "Booster":
        """Fit on rows of shape (n, columns) with targets (n,) and weights (n,)."""
        import numpy as np

        if len(target):
            self.constant = float(np.average(target, weights=weight))
        if len(target) >= 2 * MIN_LEAF and len(np.unique(target[:1000])) + np.ptp(target) > 1:
            self.model = _estimator(self.binary, size, len(target), seed, threads)
            with quiet():
                self.model.fit(x, target, sample_weight=weight)
        return self

    def predict(self, x: "Floats") -> "Floats":
        """Probability or effect of each row, shape (n,)."""
        import numpy as np

        if self.model is None:
            return np.full(len(x), self.constant)
        with quiet():
            predicted = self.model.predict_proba(x)[:, 1] if self.binary else self.model.predict(x)
        return np.asarray(predicted, dtype=np.float64)


def _estimator(binary: bool, size: Boost, rows: int, seed: int, threads: int) -> Any:
    from lightgbm import LGBMClassifier, LGBMRegressor

    return (LGBMClassifier if binary else LGBMRegressor)(
        n_estimators=size.trees,
        num_leaves=size.leaves,
        learning_rate=RATE,
        min_child_samples=max(MIN_LEAF, rows // LEAF_SHARE),
        subsample=0.8,
        subsample_freq=1,
        reg_lambda=10.0,
        max_bin=63,
        random_state=seed,
        n_jobs=threads,
        deterministic=True,
        force_col_wise=True,
        verbosity=-1,
    )


def choose_size(
    x: "Floats",
    target: "Floats",
    weight: "Floats | None",
    users: "Ints",
    *,
    binary: bool,
    seed: int,
    threads: int = 1,
) -> Boost:
    """The size with the least loss (log-loss, or squared) on users that were not fitted on."""
    import lightgbm
    import numpy as np

    best, least = Boost(MIN_TREES, LEAVES[0]), np.inf
    for leaves in LEAVES:
        total: Any = 0.0
        for fit, held in user_folds(users, FOLDS, seed):
            if binary and not _both(target[fit], target[held]):
                continue
            model = _estimator(binary, Boost(MAX_TREES, leaves), len(fit), seed, threads)
            history: dict[str, Any] = {}
            with quiet():
                model.fit(
                    x[fit],
                    target[fit],
                    sample_weight=None if weight is None else weight[fit],
                    eval_set=[(x[held], target[held])],
                    eval_sample_weight=None if weight is None else [weight[held]],
                    callbacks=[lightgbm.record_evaluation(history)],
                )
            curve = next(iter(next(iter(history.values())).values()))
            total = total + np.array(curve) * len(held)
        if np.ndim(total) == 0:
            continue
        trees = max(MIN_TREES, int(np.argmin(total)) + 1)
        if total[trees - 1] < least:
            best, least = Boost(trees, leaves), total[trees - 1]
    return best


def _both(*targets: "Floats") -> bool:
    return all(0 < target.sum() < len(target) for target in targets)


def user_folds(
    users: "Ints", folds: int, seed: int, treated: "NDArray[Any] | None" = None
) -> "Iterator[tuple[Ints, Ints]]":
    """Rows to fit on and rows held, by users drawn at random into folds of like size.

    Args:
        users: number of the user of each row, 0 … count - 1.
        folds: how many; each row is held once.
        seed: of the draw.
        treated: 1 where texted, shape (n,); then the users of either arm are dealt out evenly, and
            each fold has both arms where each arm has as many users as there are folds.
    """
    import numpy as np

    count = int(users.max()) + 1
    rng = np.random.default_rng(seed)
    if treated is None:
        fold = rng.permutation(np.arange(count) % folds)
    else:
        order = rng.permutation(count)
        share = np.bincount(users, weights=treated) / np.bincount(users)
        kind = np.sign(share[order]) + (share[order] == 1)  # held out, either by turns, texted
        fold = np.empty(count, dtype=np.int64)
        fold[order[np.argsort(kind, kind="stable")]] = np.arange(count) % folds
    for held in range(folds):
        yield np.flatnonzero(fold[users] != held), np.flatnonzero(fold[users] == held)
