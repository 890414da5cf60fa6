"""One training of a model of effects: rows, choice, figures on later days. Nothing is written.

Features made from a user's own touches are left out: the same people may be held out in every
round, and then those features tell the arm and not the effect (:mod:`assignment`).
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.dataset import job_rows, on_days
from usergrowth_dagster.learning.encoding import FeatureSpec, fit_spec
from usergrowth_dagster.learning.estimators import matrix_columns
from usergrowth_dagster.learning.gates import Gate
from usergrowth_dagster.learning.metrics import Evaluation, Interval
from usergrowth_dagster.learning.origin import NOT_TOLD, MadeFrom, Progress, Trained
from usergrowth_dagster.learning.reference import Reference, make_reference
from usergrowth_dagster.learning.splits import BY_USER, TimeSplit, is_by_user, user_scopes
from usergrowth_dagster.learning.uplift.assignment import Foretold, foretold, touch_features
from usergrowth_dagster.learning.uplift.choose import Choice, choose
from usergrowth_dagster.learning.uplift.controls import SingleFeature, strongest_features
from usergrowth_dagster.learning.uplift.curves import arms
from usergrowth_dagster.learning.uplift.gates import Judged, judge, shown_by
from usergrowth_dagster.learning.uplift.metrics import (
    RANDOM,
    UpliftBin,
    UpliftCalibration,
    calibration,
    evaluate_uplift,
    uplift_by_bin,
)
from usergrowth_dagster.learning.uplift.model import UpliftModel, matrix
from usergrowth_dagster.learning.uplift.plots import draw_deciles, draw_qini
from usergrowth_dagster.learning.uplift.rows import (
    LeftOut,
    UpliftRows,
    left_out,
    load_rows,
    require_arms,
    split_days,
)
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

CHOSEN = "chosen"
RESAMPLES = 200
SHOWN_FEATURES = 3
MANY_THREADS = 100_000  # rows from which LightGBM's threads are worth their waiting


@dataclass(frozen=True, kw_only=True)
class TrainedUplift(Trained):
    """Everything that a training of effects found out.

    The figures of the chosen one's effects are named ``chosen`` in the evaluation, beside those of
    every candidate, the strongest features and a random ranking.

    Attributes:
        model: the model of effects.
        choice: what was compared where it was learned, and chosen.
        bins, calibration: its effects by decile, predicted and measured.
        gates: what it passed and failed.
        importance: feature → rank correlation with the predicted effect, strongest first.
        rows: slice → arm → rows and returns.
        without: rows that could not be learned from.
        reference: the train slice's features and the test slice's effects, which rows to be scored
            are held against.
        example: some rows of the flat frame.
    """

    model: UpliftModel
    choice: Choice
    bins: list[UpliftBin]
    calibration: UpliftCalibration
    gates: list[Gate]
    importance: dict[str, float]
    rows: dict[str, dict[str, dict[str, int]]]
    without: LeftOut
    reference: Reference
    example: "pd.DataFrame" = field(repr=False)


def train_uplift(
    engine: Engine,
    relation: str,
    config: TrainingConfig,
    execution_date: date,
    settings: Settings,
    *,
    made_from: MadeFrom = NOT_TOLD,
    progress: Progress = lambda _: None,
) -> TrainedUplift:
    """Choose among learners and controls on earlier days, and measure the choice on later ones.

    Arguments as in :func:`usergrowth_dagster.learning.training.train`; ``relation`` is
    ``uplift_training``.

    Raises:
        UserError: too little to learn from; the sentence says what to change.
    """
    began = time.perf_counter()
    progress("rows")
    snaps, counts, scope = job_rows(engine, relation, config, execution_date, settings)
    split = split_days(counts, config)
    scopes = user_scopes(scope, split, settings.seed)
    where = f"{scopes['train']} and {on_days(split.train)}"
    spec = fit_spec(engine, relation, where=where, exclude=touch_features(), top_n=settings.top_n)
    slices = {
        name: load_rows(engine, relation, spec, config, scopes[name], days)
        for name, days in (("train", split.train), ("test", split.test))
    }
    for name, rows in slices.items():
        require_arms(rows, name)
    train, test = slices["train"], slices["test"]
    columns = matrix_columns(spec).fit(train.frame)
    names = [column_label(spec, name) for name in columns.get_feature_names_out()]
    choice = choose(
        matrix(columns, train.frame),
        train.y,
        train.treated,
        train.propensity,
        train.user,
        seed=settings.seed,
        threads=settings.threads if len(train.y) >= MANY_THREADS else 1,
        names=names,
        progress=progress,
    )
    chosen_at = time.perf_counter()
    progress("evaluate")
    model = UpliftModel(columns, choice.chosen.learner, choice.scale)
    effects = model.score(test.frame)
    tested = arms(test.y, test.treated, test.propensity)
    scores = _scores(choice, columns, names, train, test) | {CHOSEN: effects}
    evaluation = evaluate_uplift(tested, scores, test.user, resamples=RESAMPLES, seed=settings.seed)
    calibrated = calibration(tested, effects, test.user)
    bins = uplift_by_bin(tested, effects, test.user, predicted=effects)
    without = left_out(engine, relation, config, snaps.days)
    own, chance = evaluation.metrics[CHOSEN]["qini"], evaluation.metrics[RANDOM]["qini"]
    foretold = _foretold(columns, names, train, test, settings)
    gates = judge(
        Judged(
            *(config, execution_date, split, train, test, without),
            *(choice, own, chance, calibrated, foretold),
        ),
        settings,
    )
    progress("pictures")
    title = f"uplift on {execution_date}"
    return TrainedUplift(
        config=config,
        execution_date=execution_date,
        made_from=made_from,
        split=split,
        spec=spec,
        model=model,
        choice=choice,
        evaluation=evaluation,
        bins=bins,
        calibration=calibrated,
        gates=gates,
        sentence=f"{choice.sentence} {_verdict(choice, own, chance, split)}",
        importance=_importance(matrix(columns, test.frame), names, effects),
        rows={name: rows.counts() for name, rows in slices.items()},
        without=without,
        reference=make_reference(spec, train.frame, effects, weights={}),
        figures={
            "qini": draw_qini(tested, _drawn(evaluation, scores), title),
            "uplift_by_decile": draw_deciles(bins, title),
        },
        example=test.frame.head(5),
        warnings=(*snaps.warnings, *((BY_USER,) if is_by_user(split) else ())),
        seconds={
            "choose": round(chosen_at - began, 2),
            "evaluate": round(time.perf_counter() - chosen_at, 2),
        },
        fingerprint=made_from.fingerprint(config, execution_date, settings),
    )


def _foretold(
    columns: Any, names: list[str], train: UpliftRows, test: UpliftRows, settings: Settings
) -> Foretold:
    """How well the features of both slices foretell the arm."""
    import numpy as np

    many = len(train.y) + len(test.y) >= MANY_THREADS
    return foretold(
        np.vstack([matrix(columns, rows.frame) for rows in (train, test)]),
        np.concatenate([train.treated, test.treated]),
        np.concatenate([train.propensity, test.propensity]),
        np.concatenate([train.user, test.user]),
        names,
        seed=settings.seed,
        threads=settings.threads if many else 1,
    )


def column_label(spec: FeatureSpec, column: str) -> str:
    """A matrix column as people read it: the feature's label, and its category if it has one."""
    for feature in spec.features:
        if column == feature.name:
            return feature.label
        if feature.kind == "category" and column.startswith(f"{feature.name}_"):
            return f"{feature.label} = {column.removeprefix(f'{feature.name}_')}"
    return column


def _scores(
    choice: Choice, columns: Any, names: list[str], train: UpliftRows, test: UpliftRows
) -> "dict[str, NDArray[np.float64]]":
    """Test scores of every candidate but chance, and of the strongest features of the train slice.

    The features are found on the train slice, so their test figures are honest.
    """
    x = matrix(columns, test.frame)
    scores = {
        name: learner.uplift(x)
        for name, learner in choice.fitted.items()
        if name not in (RANDOM, SingleFeature.name)
    }
    strongest = strongest_features(
        matrix(columns, train.frame), train.y, train.treated, train.propensity, SHOWN_FEATURES
    )
    for column, sign in strongest:
        ranking = SingleFeature(column=column, sign=sign)
        direction = "highest" if sign > 0 else "lowest"
        scores[f"{names[column]} ({direction} first)"] = ranking.uplift(x)
    return scores


def _drawn(
    evaluation: Evaluation, scores: "Mapping[str, NDArray[np.float64]]"
) -> "dict[str, NDArray[np.float64]]":
    """The chosen ranking and the best others of the test slice, for the picture."""
    others = sorted(
        (name for name in scores if name != CHOSEN),
        key=lambda name: -evaluation.metrics[name]["qini"].value,
    )
    return {name: scores[name] for name in (CHOSEN, *others[:4])}


def _verdict(choice: Choice, own: Interval, chance: Interval, split: TimeSplit) -> str:
    where = "users that it did not learn from" if is_by_user(split) else "later days"
    verdict = {
        "later days": "uplift is shown.",
        "folds": f"uplift is shown by the folds, and {where} do not speak against it.",
        "": "no uplift is shown.",
    }[shown_by(choice, own, chance)]
    return (
        f"On {where} its Qini is {own.value:.4f} [{own.low:.4f}, {own.high:.4f}], that of a "
        f"random ranking {chance.value:.4f} [{chance.low:.4f}, {chance.high:.4f}]: {verdict}"
    )


def _importance(
    x: "NDArray[np.float64]", names: list[str], effects: "NDArray[np.float64]"
) -> dict[str, float]:
    """Spearman's correlation of each column with the predicted effect, 0 where either is level."""
    import numpy as np
    from scipy.stats import rankdata

    ranked = rankdata(effects) - (len(effects) + 1) / 2
    spread = math.sqrt(float(ranked @ ranked))
    importance = {}
    for column, name in enumerate(names):
        values = np.nan_to_num(x[:, column], nan=-np.inf, neginf=-1e30)
        own = rankdata(values) - (len(values) + 1) / 2
        size = math.sqrt(float(own @ own)) * spread
        importance[name] = float(own @ ranked) / size if size else 0.0
    return dict(sorted(importance.items(), key=lambda pair: -abs(pair[1])))
