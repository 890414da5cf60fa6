"""One training of amounts: rows, slices, models, figures, champion. Nothing is written anywhere."""

from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from usergrowth_dagster.learning.amounts.candidates import (
    AmountKind,
    FittedAmounts,
    HeldAmounts,
    choose_champion,
    fit_candidates,
)
from usergrowth_dagster.learning.amounts.metrics import deciles, evaluate_amounts
from usergrowth_dagster.learning.amounts.model import AmountModel, PastAverage, TwoStage
from usergrowth_dagster.learning.amounts.plots import draw_amounts
from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.dataset import TestRows, job_rows, load_slices, on_days
from usergrowth_dagster.learning.drift import Drift, drift_of_frame
from usergrowth_dagster.learning.encoding import FeatureSpec, fit_spec
from usergrowth_dagster.learning.importance import tree_owners
from usergrowth_dagster.learning.metrics import Interval
from usergrowth_dagster.learning.origin import NOT_TOLD, Clock, MadeFrom, Progress, Trained
from usergrowth_dagster.learning.plots import draw_drift
from usergrowth_dagster.learning.reference import Reference, histogram, make_reference
from usergrowth_dagster.learning.rows import Slice
from usergrowth_dagster.learning.splits import newest_days, split_by_time, user_scopes
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 300


@dataclass(frozen=True, kw_only=True)
class TrainedAmounts(Trained):
    """Everything that a training of amounts found out.

    Attributes:
        champion: the best of ``models`` by the rule.
        models: the fitted candidates by kind.
        closed: the champion as it is saved, its level fitted again on every closed label.
        paired: kind → metric → the candidate less the past average.
        bins: the champion's predictions and the amounts by tenth of the test rows.
        importance: feature → share of what the champion's trees gain by it, largest first.
        alone: feature → normalized Gini of the test rows ordered by it, the better way round.
        counts: slice → (rows, rows with an amount, sum of the amounts).
        reference: the histograms that scored rows will be compared with.
        drift: of the test slice from the train slice.
        test: the test rows, for comparing with other models.
    """

    champion: AmountKind
    models: dict[AmountKind, FittedAmounts]
    closed: AmountModel
    paired: dict[str, dict[str, Interval]]
    bins: list[dict[str, float]]
    importance: dict[str, float]
    alone: dict[str, float]
    counts: dict[str, tuple[int, int, float]]
    reference: Reference
    drift: Drift
    test: TestRows = field(repr=False)

    @property
    def metrics(self) -> dict[str, Interval]:
        """The champion's figures with intervals."""
        return self.evaluation.metrics[self.champion]


def train_amounts(
    engine: Engine,
    relation: str,
    config: TrainingConfig,
    execution_date: date,
    settings: Settings,
    *,
    made_from: MadeFrom = NOT_TOLD,
    progress: Progress = lambda _: None,
) -> TrainedAmounts:
    """Train and evaluate the models of amounts and the baseline at an execution date.

    Arguments as in :func:`usergrowth_dagster.learning.training.train`; the label of ``config`` is
    an amount of 0 or more.

    Raises:
        UserError: too little to learn from; the sentence says what to change.
    """
    clock = Clock(progress)
    clock.start("rows")
    snaps, counts, scope = job_rows(engine, relation, config, execution_date, settings)
    split = split_by_time(counts, config, both=False)
    newest = None
    if not config.problem.by_touch:
        newest = f"{scope} and {on_days(newest_days(split.train, counts))}"
    where = f"{scope} and {on_days(split.train)}"
    spec = fit_spec(engine, relation, where=where, newest=newest, top_n=settings.top_n)
    scopes = user_scopes(scope, split, settings.seed)
    slices, test = load_slices(engine, relation, config, spec, split, scopes)
    models = fit_candidates(
        spec,
        slices["train"],
        slices.get("calibrate"),
        past=config.problem.past_feature,
        horizon_days=config.horizon_days,
        seed=settings.seed,
        threads=settings.threads,
        started=clock.start,
    )
    clock.start("evaluate")
    scores = {str(kind): fitted.model.score(test.frame) for kind, fitted in models.items()}
    evaluation = evaluate_amounts(
        test.label, scores, test.user, resamples=RESAMPLES, seed=settings.seed
    )
    champion, paired, sentence = choose_champion(evaluation)
    chosen, own = models[champion], scores[champion]
    clock.start("look closer")
    raw = HeldAmounts(own / (chosen.model.level or 1.0), test.label)
    closed = chosen.closed(raw)
    importance = _importance(chosen.model.estimator, spec)
    reference = make_reference(
        spec, slices["train"].frame, raw.raw * closed.level, weights=importance
    )
    early = chosen.model.score(slices["train"].frame)
    known = reference.model_copy(update={"score": histogram(early)})
    drift = drift_of_frame(known, spec, [test.frame], [own], settings)
    bins = deciles(test.label, own)
    clock.start("pictures")
    title = f"{config.algorithm} on {execution_date}"
    ordered = {champion: own} | {name: score for name, score in scores.items() if name != champion}
    figures = draw_amounts(test.label, ordered, bins, importance, title)
    bounds = settings.drift_notice, settings.drift_warning
    figures["drift"] = draw_drift(drift, f"{title}, test slice", *bounds)
    clock.stop()
    return TrainedAmounts(
        config=config,
        execution_date=execution_date,
        made_from=made_from,
        split=split,
        spec=spec,
        champion=champion,
        models=models,
        closed=closed,
        evaluation=evaluation,
        paired=paired,
        sentence=sentence,
        bins=bins,
        importance=importance,
        alone=_alone(spec, test),
        reference=reference,
        drift=drift,
        figures=figures,
        counts={name: _counts(rows) for name, rows in slices.items()},
        warnings=snaps.warnings,
        seconds=clock.seconds,
        test=test,
        fingerprint=made_from.fingerprint(config, execution_date, settings),
    )


def _counts(rows: Slice) -> tuple[int, int, float]:
    return len(rows.label), int((rows.label > 0).sum()), float(rows.label.sum())


def _importance(estimator: object, spec: FeatureSpec) -> dict[str, float]:
    """Feature → share of the gain of all splits, largest first; the two stages count alike."""
    import numpy as np

    if isinstance(estimator, PastAverage):
        label = {f.name: f.label for f in spec.features}
        return {label[estimator.column]: 1.0} if estimator.column else {}
    if isinstance(estimator, TwoStage):
        columns = estimator.columns
        models = [one for one in (estimator.chance, estimator.size) if one is not None]
    else:
        columns, model = estimator[0], estimator[-1]  # type: ignore[index]
        models = [model]
    owners = tree_owners(columns, spec)
    shares = np.zeros(len(spec.features))
    for model in models:
        gain = model.booster_.feature_importance(importance_type="gain")
        total = float(gain.sum())
        if total:
            shares += np.bincount(owners, weights=gain / total, minlength=len(spec.features))
    importance = {
        f.label: float(share / len(models)) for f, share in zip(spec.features, shares, strict=True)
    }
    return dict(sorted(importance.items(), key=lambda item: (-item[1], item[0])))


def _alone(spec: FeatureSpec, test: TestRows) -> dict[str, float]:
    """Normalized Gini of the test rows ordered by each number alone, largest first."""
    import numpy as np

    amount = test.label.astype(np.float64)
    scores: dict[str, NDArray[np.float64]] = {}
    for feature in spec.features:
        if feature.kind == "number":
            value = np.nan_to_num(test.frame[feature.name].to_numpy(dtype=np.float64))
            scores[f"+{feature.label}"] = value - value.min()
            scores[f"-{feature.label}"] = value.max() - value
    figures = evaluate_amounts(amount, scores, resamples=0).metrics
    best: dict[str, float] = {}
    for name, intervals in figures.items():
        best[name[1:]] = max(best.get(name[1:], 0.0), intervals["gini"].value)
    return dict(sorted(best.items(), key=lambda item: (-item[1], item[0])))
