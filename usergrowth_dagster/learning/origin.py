"""What a training was made from, and what every kind of training can tell of itself."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

from usergrowth_dagster.learning.config import TrainingConfig, last_label_day
from usergrowth_dagster.learning.encoding import FeatureSpec
from usergrowth_dagster.learning.metrics import Evaluation
from usergrowth_dagster.learning.splits import TimeSplit, is_by_user
from usergrowth_dagster.settings import LearningSettings, Settings

Progress = Callable[[str], None]


@dataclass(frozen=True)
class MadeFrom:
    """Which data and which code a training goes by, and who runs it.

    Attributes:
        data_versions: table → Delta version that the rows were built from.
        data_mark: hash of the rows' files, which tells the same data from other data; versions
            also change when other days are written.
        code_version: hash of what the code and SQL do.
        earlier_code_versions: what earlier versions of the product called the same code.
        dagster_run_id: the orchestrator's run, for the record.
        vouch: called with the MLflow run and the digest of its model's files before a version is
            made of them, so that whoever trains can put them on record.
    """

    data_versions: Mapping[str, int] = field(default_factory=dict)
    data_mark: str = ""
    code_version: str = ""
    earlier_code_versions: tuple[str, ...] = ()
    dagster_run_id: str | None = None
    vouch: Callable[[str, str], None] = lambda _run, _digest: None

    def fingerprints(
        self, config: TrainingConfig, execution_date: date, settings: Settings
    ) -> list[str]:
        """Fingerprints of equal results: the present one first, then those of earlier versions."""
        return [
            replace(self, code_version=version).fingerprint(config, execution_date, settings)
            for version in (self.code_version, *self.earlier_code_versions)
        ]

    def fingerprint(self, config: TrainingConfig, execution_date: date, settings: Settings) -> str:
        """Hash of everything that a training's result depends on."""
        text = json.dumps(
            {
                "config": config.model_dump(mode="json"),
                "execution_date": execution_date.isoformat(),
                "data": self.data_mark or dict(sorted(self.data_versions.items())),
                "code_version": self.code_version,
                "settings": [
                    *(settings.seed, settings.top_n, settings.max_training_rows),
                    *([settings.boosting_rows] if settings.boosting_rows else []),
                ],
                "bounds": {
                    name: value
                    for name, value in settings.model_dump(mode="json").items()
                    if name in LearningSettings.model_fields
                },
            },
            sort_keys=True,
        )
        return hashlib.sha256(text.encode()).hexdigest()[:24]


NOT_TOLD = MadeFrom()
"""Of a training that is not kept."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What every training found out, whatever the kind of model.

    Attributes:
        config, execution_date, made_from: what it was made from.
        split: snapshot days of the slices.
        spec: the features.
        evaluation: figures with intervals on the test slice, of the candidates and of baselines.
        sentence: what was chosen and why, in words.
        figures: picture name → PNG bytes.
        warnings: sentences for the job's history.
        seconds: wall time of each stage.
        fingerprint: of everything the result depends on.
    """

    config: TrainingConfig
    execution_date: date
    made_from: MadeFrom
    split: TimeSplit
    spec: FeatureSpec
    evaluation: Evaluation
    sentence: str
    figures: dict[str, bytes] = field(repr=False)
    warnings: tuple[str, ...]
    seconds: dict[str, float]
    fingerprint: str

    @property
    def last_label_day(self) -> date:
        """Last day that any label looked at."""
        return last_label_day(self.config, self.split.test)

    @property
    def fit_last_label_day(self) -> date:
        """The same without the test slice."""
        return last_label_day(self.config, [*self.split.train, *self.split.calibrate])

    def summary(self, champion: str) -> dict[str, Any]:
        """What it tells of itself, as JSON-ready values; a kind of model adds its own."""
        return {
            "algorithm": self.config.algorithm,
            "config": self.config.model_dump(mode="json"),
            "config_hash": self.config.config_hash(),
            "execution_date": self.execution_date.isoformat(),
            "last_label_day": self.last_label_day.isoformat(),
            "champion": champion,
            "metrics": {
                name: {metric: figure.as_dict() for metric, figure in figures.items()}
                for name, figures in self.evaluation.metrics.items()
            },
            "sentence": self.sentence,
            "slices": self.split.as_dict(),
            "features": len(self.spec.features),
            "data_versions": dict(self.made_from.data_versions),
            "code_version": self.made_from.code_version,
            "dagster_run_id": self.made_from.dagster_run_id,
            "warnings": list(self.warnings),
            "seconds": self.seconds,
        }


class Clock:
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


def label_gap_holds(trained: Trained) -> bool:
    """Whether every slice's labels closed before the next slice, and the last before D.

    Slices of different users need no gap between them.
    """
    horizon = timedelta(days=trained.config.horizon_days)
    if is_by_user(trained.split):
        return max(trained.split.test) + horizon <= trained.execution_date
    slices = [s for s in (trained.split.train, trained.split.calibrate, trained.split.test) if s]
    gaps = all(max(a) + horizon <= min(b) for a, b in pairwise(slices))
    return gaps and max(trained.split.test) + horizon <= trained.execution_date
