"""The candidate models of amounts: a past average, Tweedie LightGBM, and LightGBM in two stages.

Whatever is chosen (the number of trees) is chosen inside the train slice on its latest days. The
level, one factor, is fitted on rows that the estimator was not fitted on: the later slice, else
forward folds of the train slice.

The candidates are compared on the test slice, simplest first. A more complex one takes the place of
the best so far when its mean Tweedie deviance is smaller with a paired 95 % interval (bootstrap by
user) that leaves out 0. On a tie the simpler one wins.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from usergrowth_dagster.learning.amounts.metrics import POWER
from usergrowth_dagster.learning.amounts.model import (
    AmountModel,
    PastAverage,
    TwoStage,
    raw_amounts,
)
from usergrowth_dagster.learning.encoding import FeatureSpec
from usergrowth_dagster.learning.estimators import (
    LEAVES,
    MANY_ROWS,
    MANY_THREADS,
    MAX_TREES,
    PATIENCE,
    matrix_columns,
    tree_settings,
)
from usergrowth_dagster.learning.metrics import Evaluation, Interval
from usergrowth_dagster.learning.model import quiet
from usergrowth_dagster.learning.rows import Slice
from usergrowth_dagster.learning.splits import forward_folds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

AmountKind = Literal["past_average", "tweedie", "two_stage"]
_KINDS: tuple[AmountKind, ...] = ("past_average", "tweedie", "two_stage")  # simplest first
FOLDS = 4
FEWEST_TREES = 20

NAMES: dict[AmountKind, str] = {
    "past_average": "the past average",
    "tweedie": "Tweedie LightGBM",
    "two_stage": "LightGBM in two stages",
}
COMPARED = ("gini", "spearman", "decile_error", "deviance", "capture_40")


@dataclass(frozen=True)
class HeldAmounts:
    """Amounts of rows that an estimator was not fitted on, and what it said, each of shape (n,)."""

    raw: "Floats"
    amount: "Floats"

    def with_rows(self, other: "HeldAmounts") -> "HeldAmounts":
        """These rows and others."""
        import numpy as np

        return HeldAmounts(
            np.concatenate([self.raw, other.raw]), np.concatenate([self.amount, other.amount])
        )

    @property
    def level(self) -> float:
        """The factor that makes the sum of the amounts right; 1 where it is unknown."""
        promised, real = float(self.raw.sum()), float(self.amount.sum())
        return real / promised if promised > 0 and real > 0 else 1.0


@dataclass(frozen=True)
class FittedAmounts:
    """A candidate with its level, and the rows that the level rests on."""

    kind: AmountKind
    model: AmountModel
    params: dict[str, Any]
    held: HeldAmounts | None

    def closed(self, test: HeldAmounts) -> AmountModel:
        """The model as it is saved: its level fitted again, with the rows of the test slice."""
        rows = test if self.held is None else self.held.with_rows(test)
        return AmountModel(self.model.estimator, rows.level, self.model.level)


def fit_candidates(
    spec: FeatureSpec,
    train: Slice,
    calibrate: Slice | None,
    *,
    past: tuple[str, str | None] | None,
    horizon_days: int,
    seed: int,
    threads: int,
    started: Callable[[str], None] = lambda _: None,
) -> dict[AmountKind, FittedAmounts]:
    """Choose, fit and level every candidate.

    Args:
        spec: the flat columns, fitted on the train slice.
        train: rows fitted on; labels are amounts.
        calibrate: later rows that the level is fitted on; None fits it on forward folds.
        past: column and key of the amount of as many days before; None: there is none.
        horizon_days: days until a label is closed.
        seed: of LightGBM's sampling.
        threads: of LightGBM.
        started: called with the kind that is fitted next.
    """
    folds = _folds(train, horizon_days)
    threads = threads if len(train.label) >= MANY_THREADS else 1
    leaves = LEAVES[len(train.label) >= MANY_ROWS]
    known = [f.name for f in spec.features if past and (f.column, f.key) == past]

    def average(rows: Slice) -> PastAverage:
        return PastAverage.fitted(known[0] if known else "", rows.frame, rows.label)

    def tweedie(trees: int) -> Callable[[Slice], Any]:
        def fit(rows: Slice) -> Any:
            from sklearn.pipeline import make_pipeline

            columns = matrix_columns(spec)
            matrix = columns.fit_transform(rows.frame)
            model = _regressor("tweedie", trees, leaves, seed, threads)
            return make_pipeline(columns, model.fit(matrix, rows.label))

        return fit

    def two_stage(chance_trees: int, size_trees: int) -> Callable[[Slice], Any]:
        def fit(rows: Slice) -> Any:
            columns = matrix_columns(spec)
            matrix = columns.fit_transform(rows.frame)
            some = rows.label > 0
            chance = None
            if not some.all():
                chance = _classifier(chance_trees, leaves, seed, threads)
                chance.fit(matrix, some.astype(int))
            size = _regressor("gamma", size_trees, leaves, seed, threads)
            return TwoStage(columns, chance, size.fit(matrix[some], rows.label[some]))

        return fit

    out: dict[AmountKind, FittedAmounts] = {}
    out["past_average"] = _fit("past_average", average, train, calibrate, folds, {})
    started("tweedie")
    trees = _trees(spec, folds, lambda n: _regressor("tweedie", n, leaves, seed, threads))
    settings: dict[str, Any] = {"trees": trees, "leaves": leaves, "power": POWER}
    out["tweedie"] = _fit("tweedie", tweedie(trees), train, calibrate, folds, settings)
    started("two_stage")
    chance = _trees(
        spec, folds, lambda n: _classifier(n, leaves, seed, threads), _whether, "binary_logloss"
    )
    size = _trees(
        spec, folds, lambda n: _regressor("gamma", n, leaves, seed, threads), _how_much, "gamma"
    )
    settings = {"chance_trees": chance, "size_trees": size, "leaves": leaves}
    out["two_stage"] = _fit("two_stage", two_stage(chance, size), train, calibrate, folds, settings)
    return out


def _regressor(objective: str, trees: int, leaves: int, seed: int, threads: int) -> Any:
    from lightgbm import LGBMRegressor

    own = {"tweedie_variance_power": POWER} if objective == "tweedie" else {}
    return LGBMRegressor(objective=objective, **own, **tree_settings(trees, leaves, seed, threads))


def _classifier(trees: int, leaves: int, seed: int, threads: int) -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(**tree_settings(trees, leaves, seed, threads))


def _folds(train: Slice, horizon_days: int) -> list[tuple[Slice, Slice]]:
    """Forward folds of a slice with amounts on both sides, of users with and without one."""
    pairs = forward_folds(train.days(), horizon_days, FOLDS)
    made = [(train.on(fit), train.on(block)) for fit, block in pairs]
    return [pair for pair in made if all((rows.label > 0).sum() > 0 for rows in pair)]


def _whole(rows: Slice) -> "tuple[NDArray[np.bool_], Floats]":
    return rows.label >= 0, rows.label


def _whether(rows: Slice) -> "tuple[NDArray[np.bool_], Floats]":
    return rows.label >= 0, (rows.label > 0).astype(float)


def _how_much(rows: Slice) -> "tuple[NDArray[np.bool_], Floats]":
    return rows.label > 0, rows.label


def _trees(
    spec: FeatureSpec,
    folds: Sequence[tuple[Slice, Slice]],
    made: Callable[[int], Any],
    answers: "Callable[[Slice], tuple[NDArray[np.bool_], Floats]]" = _whole,
    metric: str = "tweedie",
) -> int:
    """The number of trees with the least loss on the newest fold's later days; 100 without one."""
    import lightgbm

    if not folds:
        return 100
    earlier, later = folds[-1]
    columns = matrix_columns(spec)
    fit_rows, fit_label = answers(earlier)
    rows, label = answers(later)
    if metric == "binary_logloss" and len(set(fit_label)) < 2:
        return FEWEST_TREES
    with quiet():
        fit = columns.fit_transform(earlier.frame)[fit_rows]
        model = made(MAX_TREES).fit(
            fit,
            fit_label[fit_rows],
            eval_set=[(columns.transform(later.frame)[rows], label[rows])],
            eval_metric=metric,
            callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
        )
    return max(int(model.best_iteration_ or MAX_TREES), FEWEST_TREES)


def _fit(
    kind: AmountKind,
    fit: Callable[[Slice], Any],
    train: Slice,
    calibrate: Slice | None,
    folds: Sequence[tuple[Slice, Slice]],
    params: dict[str, Any],
) -> FittedAmounts:
    """Fit on the train slice, and take the level from rows that were not fitted on."""
    import numpy as np

    with quiet():
        estimator = fit(train)
        held: HeldAmounts | None = None
        if calibrate is not None:
            raw = raw_amounts(estimator, calibrate.frame)
            held = HeldAmounts(raw, calibrate.label.astype(np.float64))
        else:
            for earlier, later in folds:
                raw = raw_amounts(fit(earlier), later.frame)
                part = HeldAmounts(raw, later.label.astype(np.float64))
                held = part if held is None else held.with_rows(part)
    level = 1.0 if held is None else held.level
    on = {"level": round(level, 6)}
    on |= {} if held is None else {"level_rows": len(held.amount)}
    return FittedAmounts(kind, AmountModel(estimator, level), params | on, held)


def choose_champion(
    evaluation: Evaluation,
) -> tuple[AmountKind, dict[str, dict[str, Interval]], str]:
    """The champion by the rule.

    Returns:
        Its kind; every other candidate less the past average, metric by metric; a sentence a step.
    """
    champion = _KINDS[0]
    sentences = []
    for rival in _KINDS[1:]:
        loss = evaluation.difference("deviance", rival, champion)
        gini = evaluation.difference("gini", rival, champion)
        wins = loss.value < 0 and loss.excludes_zero()
        name = NAMES[rival]
        sentences.append(
            f"{name[0].upper()}{name[1:]} {'beats' if wins else 'does not beat'} "
            f"{NAMES[champion]} on the test slice: normalized Gini {gini.value:+.4f} "
            f"[{gini.low:+.4f}, {gini.high:+.4f}], deviance {loss.value:+.4f} "
            f"[{loss.low:+.4f}, {loss.high:+.4f}] (paired 95 % interval by user)"
            + ("." if wins else ", so the simpler model stands.")
        )
        champion = rival if wins else champion
    paired: dict[str, dict[str, Interval]] = {
        rival: {metric: evaluation.difference(metric, rival, _KINDS[0]) for metric in COMPARED}
        for rival in _KINDS[1:]
    }
    return champion, paired, " ".join(sentences)
