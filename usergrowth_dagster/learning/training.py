"""One training: rows, slices, models, figures, champion. Nothing is written anywhere."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from usergrowth_dagster.learning.baselines import RANKING_ONLY, baseline_scores
from usergrowth_dagster.learning.candidates import (
    FittedModel,
    ModelKind,
    fit_candidates,
)
from usergrowth_dagster.learning.champion import choose_champion
from usergrowth_dagster.learning.config import TrainingConfig, last_label_day
from usergrowth_dagster.learning.dataset import TestRows, job_rows, load_slices, on_days
from usergrowth_dagster.learning.drift import (
    Drift,
    Reference,
    drift_of_frame,
    histogram,
    make_reference,
)
from usergrowth_dagster.learning.encoding import FeatureSpec
from usergrowth_dagster.learning.fitting import fit_spec
from usergrowth_dagster.learning.gains import Gain, gains
from usergrowth_dagster.learning.importance import Lean, lean
from usergrowth_dagster.learning.leakage import Screening, screen
from usergrowth_dagster.learning.metrics import Evaluation, Interval, evaluate
from usergrowth_dagster.learning.plots import draw_all, draw_drift
from usergrowth_dagster.learning.slices import Part, by_slice
from usergrowth_dagster.learning.splits import TimeSplit, split_by_time
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.settings.learning import LearningSettings
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Progress = Callable[[str], None]
RESAMPLES = 500


@dataclass(frozen=True)
class TrainedModels:
    """Everything one training found out.

    Attributes:
        config, execution_date, code_version, data_versions, dagster_run_id: what it was made from.
        split: snapshot days of the slices.
        spec: the features.
        models: the fitted candidates by kind; ``champion`` names the best by the rule.
        evaluation: figures with intervals of the candidates and the baselines.
        paired: LightGBM minus logistic, by metric, with intervals.
        sentence: what boosting gained and what blending gained, in words.
        leans: feature → how the champion leans on it, largest first.
        parts: the champion's figures by part of the users.
        gains: the champion's capture, lift and response from the top tenth to everyone.
        screening: what single features tell, for the leakage gate.
        reference: the histograms that scored rows will be compared with.
        drift: of the test slice from the train slice.
        figures: picture name → PNG bytes.
        counts: slice → (rows, positive rows).
        last_label_day: last day any label looked at.
        fit_last_label_day: the same without the test slice.
        warnings: sentences for the job's history.
        seconds: wall time of each stage.
        test: the test rows, for comparing with other models.
        fingerprint: of everything the result depends on.
    """

    config: TrainingConfig
    execution_date: date
    data_versions: dict[str, int]
    code_version: str
    dagster_run_id: str | None
    split: TimeSplit
    spec: FeatureSpec
    champion: ModelKind
    models: dict[ModelKind, FittedModel]
    evaluation: Evaluation
    paired: dict[str, Interval]
    sentence: str
    leans: dict[str, Lean]
    parts: list[Part]
    gains: list[Gain]
    screening: Screening
    reference: Reference
    drift: Drift
    figures: dict[str, bytes] = field(repr=False)
    counts: dict[str, tuple[int, int]]
    last_label_day: date
    fit_last_label_day: date
    warnings: tuple[str, ...]
    seconds: dict[str, float]
    test: TestRows = field(repr=False)
    fingerprint: str

    @property
    def metrics(self) -> dict[str, Interval]:
        """The champion's figures with intervals."""
        return self.evaluation.metrics[self.champion]

    @property
    def importance(self) -> dict[str, float]:
        """Feature → spread of its part in the champion's score in logits, largest first."""
        return {label: found.weight for label, found in self.leans.items()}


def train(
    engine: Engine,
    relation: str,
    config: TrainingConfig,
    execution_date: date,
    settings: Settings,
    *,
    data_versions: Mapping[str, int] | None = None,
    data_mark: str = "",
    code_version: str = "",
    dagster_run_id: str | None = None,
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
        data_versions: table → Delta version the relation was built from.
        data_mark: hash of the rows' files, which tells the same data from other data.
        code_version: hash of the code and SQL.
        dagster_run_id: the orchestrator's run, for the record.
        progress: told what is being done.

    Raises:
        UserError: too little to learn from; the sentence says what to change.
    """
    clock = _Clock(progress)
    clock.start("rows")
    snaps, counts, scope = job_rows(engine, relation, config, execution_date, settings)
    split = split_by_time(counts, config)
    spec = fit_spec(
        engine, relation, where=f"{scope} and {on_days(split.train)}", top_n=settings.top_n
    )
    slices, test = load_slices(engine, relation, config, spec, split, scope)
    models = fit_candidates(
        spec,
        slices["train"],
        slices.get("calibrate"),
        horizon_days=config.horizon_days,
        seed=settings.seed,
        threads=settings.threads,
        started=clock.start,
    )
    clock.start("evaluate")
    every = {str(kind): fitted.model.score(test.frame) for kind, fitted in models.items()}
    every |= baseline_scores(config, spec, slices["train"], slices["test"])
    evaluation = evaluate(
        test.label,
        every,
        test.user,
        groups=test.item,
        not_probabilities=RANKING_ONLY,
        resamples=RESAMPLES,
        seed=settings.seed,
    )
    champion, paired, sentence = choose_champion(evaluation)
    chosen, early = models[champion].model, slices["train"].frame
    clock.start("look closer")
    own = every[champion]
    least = settings.min_positives_slice
    parts = by_slice(spec, early, test, own, least=least, seed=settings.seed)
    table = gains(test.label, own, test.user, resamples=RESAMPLES, seed=settings.seed)
    screening = screen(spec, slices["train"], test, settings)
    leans = lean(chosen, spec, test.frame)
    weights = {label: found.weight for label, found in leans.items()}
    reference = make_reference(spec, early, own, weights)
    drift = _own_drift(reference, spec, test, chosen.score(early), own, settings)
    clock.start("pictures")
    first: list[str] = [champion, *(k for k in models if k != champion)]
    title = f"{config.algorithm} on {execution_date}"
    figures = draw_all(
        test.label,
        {name: every[name] for name in [*first, *(n for n in every if n not in first)]},
        weights,
        ranking_only=RANKING_ONLY,
        title=title,
    )
    bounds = settings.drift_notice, settings.drift_warning
    figures["drift"] = draw_drift(drift, f"{title}, test slice", *bounds)
    clock.stop()
    fitted_days = [*split.train, *split.calibrate]
    return TrainedModels(
        config=config,
        execution_date=execution_date,
        data_versions=dict(data_versions or {}),
        code_version=code_version,
        dagster_run_id=dagster_run_id,
        split=split,
        spec=spec,
        champion=champion,
        models=models,
        evaluation=evaluation,
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
        last_label_day=last_label_day(config, split.test),
        fit_last_label_day=last_label_day(config, fitted_days),
        warnings=snaps.warnings,
        seconds=clock.seconds,
        test=test,
        fingerprint=fingerprint(
            config, execution_date, settings, data_mark or data_versions or {}, code_version
        ),
    )


def _own_drift(
    reference: Reference,
    spec: FeatureSpec,
    test: TestRows,
    early_score: "NDArray[np.float64]",
    score: "NDArray[np.float64]",
    settings: Settings,
) -> Drift:
    """The test slice against the train slice; for this the score's bins are the train slice's."""
    known = reference.model_copy(update={"score": histogram(early_score)})
    return drift_of_frame(known, spec, [test.frame], score, settings)


def fingerprint(
    config: TrainingConfig,
    execution_date: date,
    settings: Settings,
    data: str | Mapping[str, int],
    code_version: str,
) -> str:
    """Hash of everything a training's result depends on.

    ``data`` says which rows: a hash of the files read, else the versions of their tables. Versions
    also change when other days are written.
    """
    text = json.dumps(
        {
            "config": config.model_dump(mode="json"),
            "execution_date": execution_date.isoformat(),
            "data": data if isinstance(data, str) else dict(sorted(data.items())),
            "code_version": code_version,
            "settings": [settings.seed, settings.top_n, settings.max_training_rows],
            "bounds": {
                name: value
                for name, value in settings.model_dump(mode="json").items()
                if name in LearningSettings.model_fields
            },
        },
        sort_keys=True,
    )
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class _Clock:
    """Says what is being done and keeps the seconds of each stage."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}
        self._stage: tuple[str, float] | None = None

    def start(self, stage: str) -> None:
        self.stop()
        self.progress(stage)
        self._stage = (stage, time.perf_counter())

    def stop(self) -> None:
        if self._stage:
            name, began = self._stage
            self.seconds[name] = round(time.perf_counter() - began, 2)
        self._stage = None


def label_gap_holds(trained: "TrainedModels") -> bool:
    """Whether every slice's labels closed before the next slice, and the last before D."""
    horizon = timedelta(days=trained.config.horizon_days)
    slices = [s for s in (trained.split.train, trained.split.calibrate, trained.split.test) if s]
    gaps = all(max(a) + horizon <= min(b) for a, b in pairwise(slices))
    return gaps and max(trained.split.test) + horizon <= trained.execution_date
