"""The estimators: logistic regression on one-hot features, and LightGBM.

Each takes a matrix that a transformer makes of the flat pandas frame of :mod:`encoding`; the two
together are a scikit-learn pipeline. Whatever is chosen
(strength of the penalty, number of trees) is chosen inside the train slice, on its latest days.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.encoding import FeatureSpec
from usergrowth_dagster.learning.model import quiet
from usergrowth_dagster.learning.onehot import OneHotColumns
from usergrowth_dagster.learning.rows import Slice
from usergrowth_dagster.learning.splits import forward_folds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PENALTIES = (0.0001, 0.0003, 0.001, 0.002, 0.005, 0.01, 0.03)
MANY_ROWS = 20_000  # from here on one fold of later days is enough to choose by
LEAVES = (7, 15)  # of one tree, with few and with many rows
MAX_TREES = 600
PATIENCE = 40
MANY_THREADS = 200_000  # rows from which LightGBM's threads are worth their waiting


def logistic_columns(spec: FeatureSpec) -> OneHotColumns:
    """The transformer to the matrix that the logistic regression takes."""
    return OneHotColumns(spec.numbers, spec.categories)


def logistic_model(c: float) -> Any:
    """Logistic regression on the matrix of :func:`logistic_columns`.

    Args:
        c: inverse strength of the ridge penalty.
    """
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=c, max_iter=300, tol=1e-4)


def matrix_columns(spec: FeatureSpec) -> Any:
    """The transformer to a matrix: numbers as they are (NULL stays missing), categories one-hot.

    All of it is of single precision, which holds the flat numbers as they are.
    """
    import numpy as np
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import OneHotEncoder

    onehot = OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32)
    return ColumnTransformer(
        [("number", "passthrough", spec.numbers), ("category", onehot, spec.categories)],
        sparse_threshold=0.0,
        verbose_feature_names_out=False,
    )


def lightgbm_model(trees: int, leaves: int, seed: int, threads: int) -> Any:
    """LightGBM on the matrix of :func:`matrix_columns`.

    Deterministic for a seed and a number of threads.
    """
    from lightgbm import LGBMClassifier

    return LGBMClassifier(**tree_settings(trees, leaves, seed, threads))


def tree_settings(trees: int, leaves: int, seed: int, threads: int) -> dict[str, Any]:
    """What all of LightGBM's estimators here have in common."""
    return {
        "n_estimators": trees,
        "learning_rate": 0.03,
        "num_leaves": leaves,
        "min_child_samples": 50,
        "subsample": 0.8,
        "subsample_freq": 1,
        "colsample_bytree": 0.4,
        "reg_lambda": 10.0,
        "max_bin": 127,
        "random_state": seed,
        "n_jobs": threads,
        "deterministic": True,
        "force_col_wise": True,
        "verbosity": -1,
    }


Folds = list[tuple[Slice, Slice]]


def time_folds(rows: Slice, horizon_days: int, folds: int) -> Folds:
    """Forward folds of a slice that hold both classes on both sides."""
    pairs = forward_folds(rows.days(), horizon_days, folds)
    made = [(rows.on(fit), rows.on(block)) for fit, block in pairs]
    return [(a, b) for a, b in made if a.both_classes() and b.both_classes()]


def user_folds(rows: Slice, folds: int) -> Folds:
    """Folds of a slice by user, for rows that are too close together for forward folds.

    Raises:
        ValueError: the slice names no users; a bug of the caller.
    """
    import numpy as np

    if rows.user is None:
        raise ValueError("folds by user need the user of each row")
    who = np.unique(rows.user, return_inverse=True)[1]
    fold = (who * 2_654_435_761 >> 7) % folds  # scattered, the same for all rows of a user
    made = [
        (rows.where(np.flatnonzero(fold != one)), rows.where(np.flatnonzero(fold == one)))
        for one in range(folds)
    ]
    return [(a, b) for a, b in made if a.both_classes() and b.both_classes()]


@dataclass(frozen=True)
class Prepared:
    """A fold as an estimator takes it: matrices and labels of its earlier and its later rows.

    Weights are None where each row stands for itself.
    """

    fit: Any
    fit_label: "NDArray[np.int64]"
    later: Any
    later_label: "NDArray[np.int64]"
    fit_weight: "NDArray[np.float64] | None" = None
    later_weight: "NDArray[np.float64] | None" = None

    @property
    def later_rows(self) -> float:
        """The later rows by weight."""
        if self.later_weight is None:
            return len(self.later_label)
        return float(self.later_weight.sum())


class Preparation:
    """The folds as one kind of estimator takes them.

    What a matrix needs to know is fitted on a fold's earlier rows alone. A fold is prepared once
    where ``kept``: then its matrices stay in memory.

    Attributes:
        columns: makes a transformer that is not fitted.
    """

    def __init__(self, columns: Callable[[], Any], folds: Folds, *, kept: bool) -> None:
        self.columns = columns
        self._folds, self._kept = folds, kept
        self._known: dict[int, Prepared] = {}

    def __len__(self) -> int:
        return len(self._folds)

    def newest(self, count: int) -> list[int]:
        """Places of the newest folds."""
        return list(range(len(self._folds)))[-count:]

    def fold(self, place: int) -> Prepared:
        """A fold by its place."""
        if place in self._known:
            return self._known[place]
        fit, later = self._folds[place]
        columns = self.columns()
        with quiet():
            matrix = columns.fit_transform(fit.frame)
            made = Prepared(
                *(matrix, fit.label, columns.transform(later.frame), later.label),
                *(fit.weight, later.weight),
            )
        if self._kept:
            self._known[place] = made
        return made


def choose_penalty(folds: Preparation, chosen_on: Sequence[int]) -> float:
    """The inverse penalty with the least log-loss on later days; the middle one without folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    if not chosen_on:
        return PENALTIES[len(PENALTIES) // 2]
    losses = dict.fromkeys(PENALTIES, 0.0)
    for place in chosen_on:
        rows = folds.fold(place)
        with quiet():
            model = LogisticRegression(max_iter=200, tol=1e-3, warm_start=True)
            for c in PENALTIES:
                model.set_params(C=c).fit(rows.fit, rows.fit_label, rows.fit_weight)
                share = model.predict_proba(rows.later)[:, 1]
                loss = log_loss(rows.later_label, share, sample_weight=rows.later_weight)
                losses[c] += loss * rows.later_rows
    return min(PENALTIES, key=lambda c: losses[c])


def choose_trees(
    folds: Preparation, chosen_on: Sequence[int], leaves: int, seed: int, threads: int
) -> tuple[int, dict[int, Any]]:
    """The number of trees with the least log-loss on later days; 100 without folds.

    One fold stops early, for speed; several folds are few rows, so all trees are grown and the
    folds' losses summed tree by tree.

    Returns:
        The number, and the models by their folds' places. Each has as many trees or more; its first
        ones are those that it has where it is grown to that number.
    """
    import lightgbm
    import numpy as np

    if not chosen_on:
        return 100, {}
    total: Any = 0.0
    grown = {}
    for place in chosen_on:
        rows = folds.fold(place)
        history: dict[str, Any] = {}
        watch = [lightgbm.record_evaluation(history)]
        if len(chosen_on) == 1:
            watch.append(lightgbm.early_stopping(PATIENCE, verbose=False))
        with quiet():
            grown[place] = lightgbm_model(MAX_TREES, leaves, seed, threads).fit(
                rows.fit,
                rows.fit_label,
                sample_weight=rows.fit_weight,
                eval_set=[(rows.later, rows.later_label)],
                eval_sample_weight=None if rows.later_weight is None else [rows.later_weight],
                eval_metric="binary_logloss",
                callbacks=watch,
            )
        curve = next(iter(history.values()))["binary_logloss"]
        total = total + np.array(curve) * rows.later_rows
    return int(np.argmin(total)) + 1, grown
