"""The candidate models of a training, from recency alone to the blend of two rich models.

Recency and RFM are logistic regressions of few columns, which are hard to beat on few rows or where
the world changes. Each candidate is fitted on the train slice and calibrated on rows it was not
fitted on. Whatever is chosen is chosen there; the test slice only compares the finished candidates.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from usergrowth_dagster.learning.baselines import simple_specs
from usergrowth_dagster.learning.calibration import choose_method, fit_knots
from usergrowth_dagster.learning.closing import Held
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

ModelKind = Literal["recency", "rfm", "logistic", "lightgbm", "blend"]
LATER, FOLDS = "later slice", "forward folds"  # what a calibration map may be fitted on
SIMPLE: tuple[ModelKind, ...] = ("recency", "rfm")  # those that the data has the columns of
KINDS: tuple[ModelKind, ...] = (*SIMPLE, "logistic", "lightgbm", "blend")  # simplest first
SIMPLE_PENALTY = 0.1  # of a few columns, which need no more


@dataclass(frozen=True)
class FittedModel:
    """A calibrated model and how it came to be; ``held`` is what its map was fitted on."""

    kind: ModelKind
    model: CalibratedModel
    params: dict[str, Any]
    held: Held | None = None


@dataclass(frozen=True)
class _Uncalibrated:
    """A fitted pipeline, and its raw scores of rows that it was not fitted on, if there are any."""

    pipeline: Any
    params: dict[str, Any]
    held: Held | None = None


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
    few = simple_specs(spec)
    simple = {
        kind: _fit(
            partial(logistic_pipeline, few[kind], SIMPLE_PENALTY),
            *(train, calibrate, folds),
            {"C": SIMPLE_PENALTY, "columns": len(few[kind].features)},
        )
        for kind in SIMPLE
        if kind in few
    }
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
    found: dict[ModelKind, _Uncalibrated] = {
        **simple,
        "logistic": logistic,
        "lightgbm": boosted,
        "blend": _blend(logistic, boosted),
    }
    return {kind: _calibrated(kind, one, source, horizon_days) for kind, one in found.items()}


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
            score = positive_share(pipeline, calibrate.frame)
            return _Uncalibrated(pipeline, params, Held(score, calibrate.label, calibrate.day))
        if not folds:
            return _Uncalibrated(pipeline, params)
        scores = [positive_share(made().fit(a.frame, a.label), b.frame) for a, b in folds]
    held = Held(
        np.concatenate(scores),
        np.concatenate([later.label for _, later in folds]),
        np.concatenate([later.day for _, later in folds]),
    )
    return _Uncalibrated(pipeline, params, held)


def _blend(first: _Uncalibrated, second: _Uncalibrated) -> _Uncalibrated:
    """The mean of two models' log-odds.

    Nothing is fitted: equal weights are hard to beat by fitted ones on few rows (Clemen 1989), and
    averaging log-odds is the logarithmic opinion pool (Genest & Zidek 1986).
    """
    pipeline = Blend([first.pipeline, second.pipeline])
    if first.held is None or second.held is None:
        return _Uncalibrated(pipeline, {})
    pooled = Blend.pool([first.held.score, second.held.score])
    return _Uncalibrated(pipeline, {}, replace(first.held, score=pooled))


def _calibrated(
    kind: ModelKind, fitted: _Uncalibrated, source: str, horizon_days: int
) -> FittedModel:
    held = fitted.held
    if held is None:
        model = CalibratedModel(fitted.pipeline)
        return FittedModel(kind, model, fitted.params | {"calibration": "none"})
    method = choose_method(
        *(held.score, held.label, held.day),
        horizon_days=horizon_days,
        same_model=source == LATER,
    )
    knots = fit_knots(held.score, held.label, method)
    how = {"calibration": method, "calibrated_on": source, "calibration_rows": len(held.label)}
    return FittedModel(kind, CalibratedModel(fitted.pipeline, knots), fitted.params | how, held)
