"""The candidate models of a training: logistic regression, LightGBM, and the blend of both.

Each is fitted on the train slice and calibrated on rows it was not fitted on. Whatever is chosen is
chosen there; the test slice only compares the finished candidates.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from usergrowth_dagster.learning.calibration import choose_method, fit_knots
from usergrowth_dagster.learning.encoding import FeatureSpec
from usergrowth_dagster.learning.estimators import (
    LEAVES,
    MANY_ROWS,
    MANY_THREADS,
    Folds,
    Slice,
    choose_penalty,
    choose_trees,
    lightgbm_pipeline,
    logistic_pipeline,
    time_folds,
)
from usergrowth_dagster.learning.model import Blend, CalibratedModel, positive_share, quiet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ModelKind = Literal["logistic", "lightgbm", "blend"]
LATER, FOLDS = "later slice", "forward folds"  # what a calibration map may be fitted on
KINDS: tuple[ModelKind, ...] = ("logistic", "lightgbm", "blend")  # simplest first


@dataclass(frozen=True)
class FittedModel:
    """A calibrated model and how it came to be."""

    kind: ModelKind
    model: CalibratedModel
    params: dict[str, Any]


@dataclass(frozen=True)
class _Uncalibrated:
    """A fitted pipeline, and its raw scores of ``held_label`` rows that it was not fitted on.

    Both are None where there were no such rows.
    """

    pipeline: Any
    params: dict[str, Any]
    held_score: "NDArray[np.float64] | None" = None
    held_label: "NDArray[np.int64] | None" = None


def fit_candidates(
    spec: FeatureSpec,
    train: Slice,
    calibrate: Slice | None,
    *,
    horizon_days: int,
    seed: int,
    threads: int,
    started: Callable[[str], None] = lambda _: None,
) -> dict[ModelKind, FittedModel]:
    """Choose, fit and calibrate every candidate.

    Args:
        spec: the flat columns, fitted on the train slice.
        train: rows fitted on.
        calibrate: later rows the calibration map is fitted on; None fits it on forward folds of the
            train slice instead (each fold's model sees only labels closed before the fold).
        horizon_days: days until a label is closed.
        seed: of LightGBM's sampling.
        threads: of LightGBM.
        started: told the kind that is fitted next.
    """
    folds = time_folds(train, horizon_days, 4)
    chosen_on = folds[-1:] if len(train.label) >= MANY_ROWS else folds
    threads = threads if len(train.label) >= MANY_THREADS else 1
    started("logistic")
    c = choose_penalty(spec, chosen_on)
    logistic = _fit(lambda: logistic_pipeline(spec, c), train, calibrate, folds, {"C": c})
    started("lightgbm")
    leaves = LEAVES[len(train.label) >= MANY_ROWS]
    trees = choose_trees(spec, chosen_on, leaves, seed, threads)
    boosted = _fit(
        lambda: lightgbm_pipeline(spec, trees, leaves, seed, threads),
        train,
        calibrate,
        folds,
        {"trees": trees, "leaves": leaves},
    )
    started("blend")
    source = FOLDS if calibrate is None else LATER
    found = {"logistic": logistic, "lightgbm": boosted, "blend": _blend(logistic, boosted)}
    return {kind: _calibrated(kind, found[kind], source) for kind in KINDS}


def _fit(
    made: Callable[[], Any],
    train: Slice,
    calibrate: Slice | None,
    folds: Folds,
    params: dict[str, Any],
) -> _Uncalibrated:
    """Fit on the train slice, and score rows that the scoring pipeline did not see."""
    import numpy as np

    with quiet():
        pipeline = made().fit(train.frame, train.label)
        if calibrate is not None:
            held = positive_share(pipeline, calibrate.frame)
            return _Uncalibrated(pipeline, params, held, calibrate.label)
        if not folds:
            return _Uncalibrated(pipeline, params)
        scores = [positive_share(made().fit(a.frame, a.label), b.frame) for a, b in folds]
    labels = np.concatenate([later.label for _, later in folds])
    return _Uncalibrated(pipeline, params, np.concatenate(scores), labels)


def _blend(first: _Uncalibrated, second: _Uncalibrated) -> _Uncalibrated:
    """The mean of two models' log-odds.

    Nothing is fitted: equal weights are hard to beat by fitted ones on few rows (Clemen 1989), and
    averaging log-odds is the logarithmic opinion pool (Genest & Zidek 1986).
    """
    pipeline = Blend([first.pipeline, second.pipeline])
    if first.held_score is None or second.held_score is None:
        return _Uncalibrated(pipeline, {})
    held = Blend.pool([first.held_score, second.held_score])
    return _Uncalibrated(pipeline, {}, held, first.held_label)


def _calibrated(kind: ModelKind, fitted: _Uncalibrated, source: str) -> FittedModel:
    if fitted.held_score is None or fitted.held_label is None:
        model = CalibratedModel(fitted.pipeline)
        return FittedModel(kind, model, fitted.params | {"calibration": "none"})
    method = choose_method(fitted.held_score, fitted.held_label, same_model=source == LATER)
    knots = fit_knots(fitted.held_score, fitted.held_label, method)
    rows = len(fitted.held_label)
    how = {"calibration": method, "calibrated_on": source, "calibration_rows": rows}
    return FittedModel(kind, CalibratedModel(fitted.pipeline, knots), fitted.params | how)
