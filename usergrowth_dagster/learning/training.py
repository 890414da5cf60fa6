"""One training: rows, slices, models, figures, champion. Nothing is written anywhere."""

from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from usergrowth_dagster.learning.calibration import (
    AGAIN,
    BEFORE,
    LEVEL,
    RAW,
    Held,
    refitted,
    replayed,
)
from usergrowth_dagster.learning.candidates import (
    FittedModel,
    ModelKind,
    choose_champion,
    fit_candidates,
)
from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.dataset import TestRows, draw_sql, load_slices, on_days
from usergrowth_dagster.learning.drift import Drift, drift_of_frame
from usergrowth_dagster.learning.encoding import FeatureSpec, fit_spec
from usergrowth_dagster.learning.importance import Lean, lean
from usergrowth_dagster.learning.leakage import Screening, screen
from usergrowth_dagster.learning.metrics import WITHIN, Gain, Interval, evaluate, gains
from usergrowth_dagster.learning.model import Blend, CalibratedModel, positive_share
from usergrowth_dagster.learning.origin import NOT_TOLD, Clock, MadeFrom, Progress, Trained
from usergrowth_dagster.learning.plots import draw_all, draw_drift
from usergrowth_dagster.learning.reference import Reference, histogram, make_reference
from usergrowth_dagster.learning.rows import Slice
from usergrowth_dagster.learning.sample import Sample, sampled_rows
from usergrowth_dagster.learning.slices import Part, by_slice
from usergrowth_dagster.learning.splits import (
    BY_USER,
    TimeSplit,
    is_by_user,
    newest_days,
    require_classes,
    split_rows,
    user_scopes,
)
from usergrowth_dagster.learning.streamed import AllRows, Batches
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESAMPLES = 500
LEVEL_DAYS = 7  # of the newest closed labels, for the figure where the setting is off


@dataclass(frozen=True, kw_only=True)
class TrainedModels(Trained):
    """Everything that a training of propensities found out.

    Attributes:
        models: the fitted candidates by kind; ``champion`` names the best by the rule.
        upkeep: the champion's figures by the way its calibration map is kept (:mod:`calibration`).
        paired: LightGBM minus logistic, by metric, with intervals.
        leans: feature → how the champion leans on it, largest first.
        parts: the champion's figures by part of the users.
        gains: the champion's capture, lift and response from the top tenth to everyone.
        screening: what single features tell, for the leakage gate.
        reference: the histograms that scored rows will be compared with.
        drift: of the test slice from the train slice.
        counts: slice → (rows, positive rows).
        sample: what the rows were drawn from; None where they are all.
        test: the test rows, for comparing with other models.
        held_out: the champion's raw scores of the test rows.
    """

    champion: ModelKind
    models: dict[ModelKind, FittedModel]
    upkeep: dict[str, dict[str, Interval]]
    paired: dict[str, Interval]
    leans: dict[str, Lean]
    parts: list[Part]
    gains: list[Gain]
    screening: Screening
    reference: Reference
    drift: Drift
    counts: dict[str, tuple[int, int]]
    sample: Sample | None = None
    test: TestRows = field(repr=False)
    held_out: Held = field(repr=False)

    @property
    def metrics(self) -> dict[str, Interval]:
        """The champion's figures with intervals."""
        return self.evaluation.metrics[self.champion]

    @property
    def closed(self) -> CalibratedModel:
        """The champion as it is saved: its map fitted again on every closed label."""
        return closed_model(self.models[self.champion], self.held_out)

    @property
    def importance(self) -> dict[str, float]:
        """Feature → spread of its part in the champion's score in logits, largest first."""
        return {label: feature.weight for label, feature in self.leans.items()}


def train(
    engine: Engine,
    relation: str,
    config: TrainingConfig,
    execution_date: date,
    settings: Settings,
    *,
    made_from: MadeFrom = NOT_TOLD,
    progress: Progress = lambda _: None,
) -> TrainedModels:
    """Train, calibrate and evaluate the models and the baselines at an execution date.

    Args:
        engine: holds the training relation.
        relation: ``churn_training`` or ``winback_training``; only snapshots S of the job with
            ``S + horizon <= execution_date`` are read.
        config: the job.
        execution_date: D.
        settings: seed, threads, top_n and max_training_rows are used.
        made_from: the rows and the code, for the record.
        progress: told what is being done.

    Raises:
        UserError: too little to learn from; the sentence says what to change.
    """
    clock = Clock(progress)
    clock.start("rows")
    job = (engine, relation, config, execution_date, settings)
    snaps, counts, scope, sample = sampled_rows(*job)
    split = split_rows(counts, config)
    scopes = user_scopes(scope, split, settings.seed)
    newest = None
    if not config.problem.by_touch:  # a key may miss a campaign without being gone
        newest = f"{scopes['train']} and {on_days(newest_days(split.train, counts))}"
    spec = fit_spec(
        engine,
        relation,
        where=f"{scopes['train']} and {on_days(split.train)}",
        newest=newest,
        top_n=settings.top_n,
    )
    weights = sample.weights if sample else None
    slices, test = load_slices(engine, relation, config, spec, split, scopes, weights)
    for name, part in slices.items():
        rows, positives = len(part.label), int(part.label.sum())
        require_classes(name, rows, {"positive": positives, "negative": rows - positives}, config)
    models = fit_candidates(
        spec,
        slices["train"],
        slices.get("calibrate"),
        horizon_days=config.horizon_days,
        seed=settings.seed,
        threads=settings.threads,
        every=_every_row(engine, relation, spec, config, split, sample, settings),
        started=clock.start,
    )
    clock.start("evaluate")
    raw = _raw_scores(models, test)
    every = {str(kind): fitted.model.calibrated(raw[kind]) for kind, fitted in models.items()}
    every |= config.problem.baseline_scores(spec, slices["test"])
    evaluation = evaluate(
        test.label,
        every,
        test.user,
        groups=test.item,
        not_probabilities=config.problem.ranking_only,
        weight=test.weight,
        resamples=RESAMPLES,
        seed=settings.seed,
    )
    champion, paired, sentence = choose_champion(evaluation)
    chosen, early = models[champion].model, slices["train"].frame
    clock.start("look closer")
    own = every[champion]
    held_out = Held(raw[champion], test.label, test.day, test.weight)
    upkeep = {BEFORE: _without_groups(evaluation.metrics[champion])}
    upkeep |= _upkeep(models[champion], held_out, test, config, settings, is_by_user(split))
    now = closed_model(models[champion], held_out).calibrated(held_out.score)
    least = settings.min_positives_slice
    also = config.problem.parts_by
    parts = by_slice(spec, early, test, own, least=least, seed=settings.seed, also=also)
    table = gains(
        test.label,
        own,
        test.user,
        weight=test.weight,
        resamples=RESAMPLES,
        seed=settings.seed,
    )
    screening = screen(spec, slices["train"], test, settings)
    leans = lean(chosen, spec, test.frame)
    strength = {label: feature.weight for label, feature in leans.items()}
    reference = make_reference(
        *(spec, early, now, strength),
        train_weight=slices["train"].weight,
        test_weight=test.weight,
    )
    drift = _own_drift(reference, spec, slices["train"], test, chosen.score(early), own, settings)
    clock.start("pictures")
    first: list[str] = [champion, *(k for k in models if k != champion)]
    title = f"{config.algorithm} on {execution_date}"
    figures = draw_all(
        test.label,
        {name: every[name] for name in [*first, *(n for n in every if n not in first)]},
        strength,
        weight=test.weight,
        ranking_only=config.problem.ranking_only,
        title=title,
    )
    bounds = settings.drift_notice, settings.drift_warning
    figures["drift"] = draw_drift(drift, f"{title}, test slice", *bounds)
    clock.stop()
    return TrainedModels(
        config=config,
        execution_date=execution_date,
        made_from=made_from,
        split=split,
        spec=spec,
        champion=champion,
        models=models,
        evaluation=evaluation,
        upkeep=upkeep,
        paired=paired,
        sentence=sentence,
        leans=leans,
        parts=parts,
        gains=table,
        screening=screening,
        reference=reference,
        drift=drift,
        figures=figures,
        counts={n: (len(s.label), int(s.label.sum())) for n, s in slices.items()},
        sample=sample,
        warnings=(*snaps.warnings, *((BY_USER,) if is_by_user(split) else ())),
        seconds=clock.seconds,
        test=test,
        held_out=held_out,
        fingerprint=made_from.fingerprint(config, execution_date, settings),
    )


def _every_row(
    engine: Engine,
    relation: str,
    spec: FeatureSpec,
    config: TrainingConfig,
    split: TimeSplit,
    sample: Sample | None,
    settings: Settings,
) -> Batches | None:
    """A pass over all rows of the train slice, where LightGBM is to learn from more than a sample.

    More than ``boosting_rows`` are drawn by whole users, each with the same chance.
    """
    if sample is None or settings.boosting_rows is None:
        return None
    where = f"{user_scopes(sample.scope, split, settings.seed)['train']} and {on_days(split.train)}"
    rows = sum(sample.whole[day][0] for day in split.train)
    if rows > settings.boosting_rows:
        where += f" and {draw_sql(settings)} < {1_000_000 * settings.boosting_rows // rows}"
    return AllRows(engine, relation, spec, config, where).batches


def _raw_scores(
    models: dict[ModelKind, FittedModel], test: TestRows
) -> "dict[ModelKind, NDArray[np.float64]]":
    """Raw scores of the test rows by every candidate; a blend asks nobody twice."""
    scores: dict[ModelKind, NDArray[np.float64]] = {}
    known: dict[int, NDArray[np.float64]] = {}
    for kind, fitted in models.items():
        pipeline = fitted.model.pipeline
        if isinstance(pipeline, Blend):
            scores[kind] = Blend.pool([known[id(member)] for member in pipeline.members])
        else:
            scores[kind] = known[id(pipeline)] = positive_share(pipeline, test.frame)
    return scores


def closed_model(fitted: FittedModel, rows: Held) -> CalibratedModel:
    """A candidate with its map fitted again on its held-out rows and those of the test slice."""
    knots = refitted(fitted.held, rows, str(fitted.params["calibration"]))
    if knots is None:
        return fitted.model
    return CalibratedModel(fitted.model.pipeline, knots, fitted.model.knots)


def _without_groups(figures: dict[str, Interval]) -> dict[str, Interval]:
    return {name: figure for name, figure in figures.items() if name != WITHIN}


def _upkeep(
    fitted: FittedModel,
    rows: Held,
    test: TestRows,
    config: TrainingConfig,
    settings: Settings,
    by_user: bool,
) -> dict[str, dict[str, Interval]]:
    """Figures of the test slice by the other ways that the calibration map may be kept.

    No label closes within a test slice of other users, so its map stays what it was.
    """
    if by_user:
        mapped = fitted.model.calibrated(rows.score)
        ways = {RAW: rows.score, AGAIN: mapped, LEVEL: mapped}
    else:
        ways = replayed(
            fitted.held,
            rows,
            str(fitted.params["calibration"]),
            horizon_days=config.horizon_days,
            level_days=settings.refresh_level_days or LEVEL_DAYS,
        )
    evaluation = evaluate(
        test.label,
        ways,
        test.user,
        weight=test.weight,
        resamples=RESAMPLES,
        seed=settings.seed,
    )
    return evaluation.metrics


def _own_drift(
    reference: Reference,
    spec: FeatureSpec,
    train: Slice,
    test: TestRows,
    early_score: "NDArray[np.float64]",
    score: "NDArray[np.float64]",
    settings: Settings,
) -> Drift:
    """The test slice against the train slice; for this the score's bins are the train slice's."""
    known = reference.model_copy(update={"score": histogram(early_score, weight=train.weight)})
    weights = None if test.weight is None else [test.weight]
    return drift_of_frame(known, spec, [test.frame], [score], settings, weights=weights)
