"""The candidate models of a training, from recency alone to the blend of two, and the best of them.

Recency and RFM are logistic regressions of few columns: what anyone could do without a model of
many features, and hard to beat on few rows or where the world changes. A question may add its own
(:meth:`Problem.baseline_scores`). Each is left out where the data has none of its columns. Each
candidate is fitted on the train slice and calibrated on rows it was not fitted on. Whatever is
chosen is chosen there; the test slice only compares the finished candidates.

They are compared simplest first: recency, RFM, logistic regression, LightGBM, the blend of both. A
more complex one takes the place of the best so far when its log-loss is smaller with a paired 95 %
interval (bootstrap by user) that leaves out 0. On a tie the simpler one wins, so on small or
drifting data a baseline may be the champion.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from usergrowth_dagster.learning.calibration import Held, choose_method, fit_knots
from usergrowth_dagster.learning.encoding import FeatureSpec
from usergrowth_dagster.learning.estimators import (
    LEAVES,
    MANY_ROWS,
    MANY_THREADS,
    Folds,
    Preparation,
    choose_penalty,
    choose_trees,
    lightgbm_model,
    logistic_columns,
    logistic_model,
    matrix_columns,
    time_folds,
    user_folds,
)
from usergrowth_dagster.learning.metrics import Evaluation, Interval
from usergrowth_dagster.learning.model import Blend, CalibratedModel, positive_share, quiet
from usergrowth_dagster.learning.rows import Slice
from usergrowth_dagster.learning.streamed import (
    Batches,
    StreamedPipeline,
    StreamedTrees,
    fit_streamed,
)

RECENCY_COLUMNS = ("recency_days",)
RFM_COLUMNS = (
    "recency_days",
    "events_30d",
    "events_90d",
    "active_days_30d",
    "active_days_90d",
    "amount_30d",
    "amount_90d",
)

ModelKind = Literal["recency", "rfm", "logistic", "lightgbm", "blend"]
LATER, FOLDS, USER_FOLDS = "later slice", "forward folds", "folds of users"
"""What a calibration map may be fitted on."""
_SIMPLE: tuple[ModelKind, ...] = ("recency", "rfm")  # those that the data has the columns of
_KINDS: tuple[ModelKind, ...] = (*_SIMPLE, "logistic", "lightgbm", "blend")  # simplest first
SIMPLE_PENALTY = 0.1  # of a few columns, which need no more

NAMES: dict[ModelKind, str] = {
    "recency": "recency alone",
    "rfm": "RFM (recency, frequency and money)",
    "logistic": "the logistic regression",
    "lightgbm": "LightGBM",
    "blend": "the blend of both",
}
COMPARED = ("auc", "pr_auc", "log_loss", "ece", "capture_40")


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
    every: Batches | None = None,
    started: Callable[[str], None] = lambda _: None,
) -> dict[ModelKind, FittedModel]:
    """Choose, fit and calibrate every candidate.

    Args:
        spec: the flat columns, fitted on the train slice.
        train: rows fitted on.
        calibrate: later rows the calibration map is fitted on; None fits it on forward folds of the
            train slice instead (each fold's model sees only labels closed before the fold), or on
            folds by user where the slice names them.
        horizon_days: days until a label is closed.
        seed: of LightGBM's sampling.
        threads: of LightGBM.
        every: opens a pass over all rows that the train slice is a sample of, which LightGBM is
            fitted on; None: it is fitted on the slice.
        started: told the kind that is fitted next.
    """
    by_user = train.user is not None
    folds = user_folds(train, 4) if by_user else time_folds(train, horizon_days, 4)
    many = len(train.label) >= MANY_ROWS
    threads = threads if len(train.label) >= MANY_THREADS else 1

    def prepared(columns: Callable[[], Any]) -> Preparation:
        return Preparation(columns, folds, kept=calibrate is None and not many)

    few = _simple_specs(spec)
    simple = {
        kind: _fit(
            prepared(partial(logistic_columns, few[kind])),
            partial(logistic_model, SIMPLE_PENALTY),
            *(train, calibrate, folds),
            {"C": SIMPLE_PENALTY, "columns": len(few[kind].features)},
        )
        for kind in _SIMPLE
        if kind in few
    }
    started("logistic")
    ready = prepared(partial(logistic_columns, spec))
    chosen_on = ready.newest(1 if many else len(folds))
    c = choose_penalty(ready, chosen_on)
    logistic = _fit(ready, partial(logistic_model, c), train, calibrate, folds, {"C": c})
    started("lightgbm")
    leaves = LEAVES[many]
    ready = prepared(partial(matrix_columns, spec))
    trees, grown = choose_trees(ready, chosen_on, leaves, seed, threads)
    boosted = _fit(
        ready,
        partial(lightgbm_model, trees, leaves, seed, threads),
        *(train, calibrate, folds),
        {"trees": trees, "leaves": leaves},
        {
            place: partial(model.predict_proba, num_iteration=trees)
            for place, model in grown.items()
        },
        None if every is None else partial(_grow_on, every, trees, leaves, seed, threads),
    )
    del ready, grown
    started("blend")
    source = LATER if calibrate is not None else USER_FOLDS if by_user else FOLDS
    fitted: dict[ModelKind, _Uncalibrated] = {
        **simple,
        "logistic": logistic,
        "lightgbm": boosted,
        "blend": _blend(logistic, boosted),
    }
    return {kind: _calibrated(kind, one, source, horizon_days) for kind, one in fitted.items()}


def _fit(
    ready: Preparation,
    made: Callable[[], Any],
    train: Slice,
    calibrate: Slice | None,
    folds: Folds,
    params: dict[str, Any],
    known: Mapping[int, Callable[[Any], Any]] | None = None,
    on_all: Callable[[Any], StreamedTrees] | None = None,
) -> _Uncalibrated:
    """Fit on the train slice, and score rows that the scoring pipeline did not see.

    ``known`` are the answers of models of ``params`` that a choice has fitted on folds before;
    ``on_all`` fits on all rows that the slice is a sample of, given the fitted columns.
    """
    import numpy as np
    from sklearn.pipeline import make_pipeline

    with quiet():
        columns = ready.columns()
        pipeline: Any
        if on_all is None:
            matrix = columns.fit_transform(train.frame)
            pipeline = make_pipeline(columns, made().fit(matrix, train.label, train.weight))
            del matrix
        else:
            trees = on_all(columns.fit(train.frame))
            pipeline, params = StreamedPipeline(columns, trees), params | {"rows": trees.rows}
        if calibrate is not None:
            score = positive_share(pipeline, calibrate.frame)
            held = Held(score, calibrate.label, calibrate.day, calibrate.weight)
            return _Uncalibrated(pipeline, params, held)
        if not folds:
            return _Uncalibrated(pipeline, params)
        scores = []
        for place in range(len(folds)):
            rows = ready.fold(place)
            asked = (known or {}).get(place)
            if asked is None:
                asked = made().fit(rows.fit, rows.fit_label, rows.fit_weight).predict_proba
            scores.append(np.asarray(asked(rows.later)[:, 1], dtype=np.float64))
    held = Held(
        np.concatenate(scores),
        np.concatenate([later.label for _, later in folds]),
        np.concatenate([later.day for _, later in folds]),
        None if train.weight is None else np.concatenate([later.weight for _, later in folds]),
    )
    return _Uncalibrated(pipeline, params, held)


def _grow_on(
    every: Batches, trees: int, leaves: int, seed: int, threads: int, columns: Any
) -> StreamedTrees:
    """LightGBM on all rows; the file that they pass through lies where temporary files do."""
    return fit_streamed(every, columns, trees=trees, leaves=leaves, seed=seed, threads=threads)


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
        weight=held.weight,
        horizon_days=horizon_days,
        same_model=source == LATER,
    )
    knots = fit_knots(held.score, held.label, method, held.weight)
    how = {"calibration": method, "calibrated_on": source, "calibration_rows": len(held.label)}
    return FittedModel(kind, CalibratedModel(fitted.pipeline, knots), fitted.params | how, held)


def choose_champion(evaluation: Evaluation) -> tuple[ModelKind, dict[str, Interval], str]:
    """The champion by the rule, LightGBM minus logistic by metric, and what each step gained.

    Returns:
        Kind of the champion, paired differences with intervals, a sentence a step.
    """
    present = [kind for kind in _KINDS if kind in evaluation.metrics]
    champion = present[0]
    said = []
    for rival in present[1:]:
        loss = evaluation.difference("log_loss", rival, champion)
        auc = evaluation.difference("auc", rival, champion)
        wins = loss.value < 0 and loss.excludes_zero()
        said.append(
            f"{NAMES[rival][0].upper()}{NAMES[rival][1:]} {'beats' if wins else 'does not beat'} "
            f"{NAMES[champion]} on the test slice: AUC {auc.value:+.4f} "
            f"[{auc.low:+.4f}, {auc.high:+.4f}], log-loss {loss.value:+.4f} "
            f"[{loss.low:+.4f}, {loss.high:+.4f}] (paired 95 % interval by user)"
            + ("." if wins else ", so the simpler model stands.")
        )
        champion = rival if wins else champion
    if champion in _SIMPLE:
        said.insert(
            0,
            f"A baseline scores: {NAMES[champion]}, since no model of more features is better on "
            "these rows by more than chance.",
        )
    paired = {m: evaluation.difference(m, "lightgbm", "logistic") for m in COMPARED}
    return champion, paired, " ".join(said)


def _simple_specs(spec: FeatureSpec) -> dict[str, FeatureSpec]:
    """The features of the candidates of few columns, those that the data has.

    * ``recency``: days since the last behavior alone
    * ``rfm``: recency, frequency and money of 30 and 90 days
    """
    specs: dict[str, FeatureSpec] = {}
    for name, columns in (("recency", RECENCY_COLUMNS), ("rfm", RFM_COLUMNS)):
        kept = tuple(f for f in spec.features if f.column in columns)
        if kept and kept not in [known.features for known in specs.values()]:
            specs[name] = spec.model_copy(update={"features": kept})
    return specs
