"""The estimators: logistic regression on one-hot features, and LightGBM.

Each is a scikit-learn pipeline on the flat pandas frame of :mod:`encoding`. Whatever is chosen
(strength of the penalty, number of trees) is chosen inside the train slice, on its latest days.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.encoding import FeatureSpec
from usergrowth_dagster.learning.model import quiet
from usergrowth_dagster.learning.splits import forward_folds

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

PENALTIES = (0.0001, 0.0003, 0.001, 0.002, 0.005, 0.01, 0.03)
BINS = 5
MANY_ROWS = 20_000  # from here on one fold of later days is enough to choose by
LEAVES = (7, 15)  # of one tree, with few and with many rows
MAX_TREES = 600
PATIENCE = 40
MANY_THREADS = 200_000  # rows from which LightGBM's threads are worth their waiting


def logistic_pipeline(spec: FeatureSpec, c: float) -> Any:
    """Logistic regression on one-hot features.

    Every numeric column enters twice: standardized on a signed log scale (arcsinh), and cut at its
    quintiles into one-hot bins; a NULL is the median plus a flag of its own. Categories are
    one-hot.

    Args:
        spec: the flat columns.
        c: inverse strength of the ridge penalty.
    """
    import numpy as np
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import (
        FunctionTransformer,
        KBinsDiscretizer,
        OneHotEncoder,
        StandardScaler,
    )

    def filled(indicator: bool) -> Any:
        return SimpleImputer(strategy="median", add_indicator=indicator, keep_empty_features=True)

    scaled = make_pipeline(filled(True), FunctionTransformer(np.arcsinh), StandardScaler())
    bins = make_pipeline(
        filled(False),
        KBinsDiscretizer(
            BINS,
            encode="onehot",
            strategy="quantile",
            quantile_method="averaged_inverted_cdf",
            subsample=50_000,
            random_state=0,
        ),
    )
    columns = ColumnTransformer(
        [
            ("scaled", scaled, spec.numbers),
            ("bins", bins, spec.numbers),
            ("category", OneHotEncoder(handle_unknown="ignore"), spec.categories),
        ],
        sparse_threshold=1.0,
    )
    return make_pipeline(columns, LogisticRegression(C=c, max_iter=300, tol=1e-4))


def matrix_columns(spec: FeatureSpec) -> Any:
    """The transformer to a matrix: numbers as they are (NULL stays missing), categories one-hot."""
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import OneHotEncoder

    onehot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return ColumnTransformer(
        [("number", "passthrough", spec.numbers), ("category", onehot, spec.categories)],
        sparse_threshold=0.0,
        verbose_feature_names_out=False,
    )


def lightgbm_pipeline(spec: FeatureSpec, trees: int, leaves: int, seed: int, threads: int) -> Any:
    """LightGBM on :func:`matrix_columns`.

    Deterministic for a seed and a number of threads.
    """
    from lightgbm import LGBMClassifier
    from sklearn.pipeline import make_pipeline

    booster = LGBMClassifier(
        n_estimators=trees,
        learning_rate=0.03,
        num_leaves=leaves,
        min_child_samples=50,
        subsample=0.8,
        subsample_freq=1,
        colsample_bytree=0.4,
        reg_lambda=10.0,
        max_bin=127,
        random_state=seed,
        n_jobs=threads,
        deterministic=True,
        force_col_wise=True,
        verbosity=-1,
    )
    return make_pipeline(matrix_columns(spec), booster)


@dataclass(frozen=True)
class Slice:
    """Rows of the flat frame: features, labels (n,) and snapshot days (n,) as datetime64[D]."""

    frame: "pd.DataFrame"
    label: "NDArray[np.int64]"
    day: "NDArray[np.datetime64]"

    def on(self, days: Sequence[date]) -> "Slice":
        """The rows of some days."""
        import numpy as np

        keep = np.isin(self.day, np.array(days, dtype="datetime64[D]"))
        return Slice(self.frame[keep], self.label[keep], self.day[keep])

    def both_classes(self) -> bool:
        """Whether there is something to tell apart."""
        return 0 < int(self.label.sum()) < len(self.label)

    def days(self) -> list[date]:
        """The days present, in order."""
        import numpy as np

        return [day.item() for day in np.unique(self.day)]


Folds = list[tuple[Slice, Slice]]


def time_folds(rows: Slice, horizon_days: int, folds: int) -> Folds:
    """Forward folds of a slice that hold both classes on both sides."""
    pairs = forward_folds(rows.days(), horizon_days, folds)
    made = [(rows.on(fit), rows.on(block)) for fit, block in pairs]
    return [(a, b) for a, b in made if a.both_classes() and b.both_classes()]


def choose_penalty(spec: FeatureSpec, folds: Folds) -> float:
    """The inverse penalty with the least log-loss on later days; the middle one without folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    if not folds:
        return PENALTIES[len(PENALTIES) // 2]
    losses = dict.fromkeys(PENALTIES, 0.0)
    for fit, later in folds:
        columns = logistic_pipeline(spec, 1.0)[0]
        with quiet():
            matrix, wanted = columns.fit_transform(fit.frame), columns.transform(later.frame)
            model = LogisticRegression(max_iter=200, tol=1e-3, warm_start=True)
            for c in PENALTIES:
                model.set_params(C=c).fit(matrix, fit.label)
                loss = log_loss(later.label, model.predict_proba(wanted)[:, 1])
                losses[c] += loss * len(later.label)
    return min(PENALTIES, key=lambda c: losses[c])


def choose_trees(spec: FeatureSpec, folds: Folds, leaves: int, seed: int, threads: int) -> int:
    """The number of trees with the least log-loss on later days; 100 without folds.

    One fold stops early, for speed; several folds are few rows, so all trees are grown and the
    folds' losses summed tree by tree.
    """
    import lightgbm
    import numpy as np

    if not folds:
        return 100
    total: Any = 0.0
    for fit, later in folds:
        pipeline = lightgbm_pipeline(spec, MAX_TREES, leaves, seed, threads)
        columns, booster = pipeline[0], pipeline[-1]
        history: dict[str, Any] = {}
        watch = [lightgbm.record_evaluation(history)]
        if len(folds) == 1:
            watch.append(lightgbm.early_stopping(PATIENCE, verbose=False))
        with quiet():
            matrix, wanted = columns.fit_transform(fit.frame), columns.transform(later.frame)
            booster.fit(
                matrix,
                fit.label,
                eval_set=[(wanted, later.label)],
                eval_metric="binary_logloss",
                callbacks=watch,
            )
        curve = next(iter(history.values()))["binary_logloss"]
        total = total + np.array(curve) * len(later.label)
    return int(np.argmin(total)) + 1
