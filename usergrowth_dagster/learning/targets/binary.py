"""A probability: logistic regression, LightGBM and their blend, calibrated."""

import math
from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.targets.base import Before, Target
from usergrowth_dagster.settings import Settings

if TYPE_CHECKING:
    from usergrowth_dagster.learning.gates import Gate
    from usergrowth_dagster.learning.origin import MadeFrom, Progress
    from usergrowth_dagster.learning.recording import SavedModel
    from usergrowth_dagster.learning.training import TrainedModels
    from usergrowth_dagster.warehouse.engine import Engine


class Binary(Target["TrainedModels"]):
    """The probability that the label is true."""

    name = "binary"
    levels = True
    contributes = True
    learners = (
        "Logistic regression and LightGBM, calibrated and evaluated on later days; the better one "
        "by the rule is registered in MLflow."
    )

    def train(
        self,
        engine: "Engine",
        relation: str,
        config: TrainingConfig,
        execution_date: date,
        settings: Settings,
        *,
        made_from: "MadeFrom",
        progress: "Progress",
    ) -> "TrainedModels":
        from usergrowth_dagster.learning.training import train

        job = (engine, relation, config, execution_date, settings)
        return train(*job, made_from=made_from, progress=progress)

    def judge(
        self,
        engine: "Engine",
        relation: str,
        trained: "TrainedModels",
        settings: Settings,
        *,
        serving: Mapping[str, str] | None,
        before: Before | None,
    ) -> "list[Gate]":
        from usergrowth_dagster.learning.gates import (
            calibration_gate,
            champion_gate,
            features_gate,
            leakage_gate,
            positives_gate,
        )

        model, summary = (before.model, before.summary) if before else (None, None)
        return [
            positives_gate(trained, settings),
            features_gate(trained, serving),
            leakage_gate(trained, settings, summary),
            calibration_gate(trained, settings),
            champion_gate(engine, relation, trained, model, settings),
        ]

    def summarize(self, trained: "TrainedModels", gates: "list[Gate]") -> dict[str, Any]:
        return {
            **trained.summary(trained.champion),
            "paired": {metric: figure.as_dict() for metric, figure in trained.paired.items()},
            "params": {kind: fitted.params for kind, fitted in trained.models.items()},
            "rows": {
                name: {"rows": rows, "positives": positives}
                for name, (rows, positives) in trained.counts.items()
            },
            "sample": _sample(trained),
            "test": {"users": len(set(trained.test.user.tolist()))},
            "importance": dict(list(trained.importance.items())[:50]),
            "directions": {n: feature.direction for n, feature in list(trained.leans.items())[:50]},
            "parts": [_finite(part.as_dict()) for part in trained.parts],
            "gains": [_finite(gain.as_dict()) for gain in trained.gains],
            "reliability": _reliability(trained),
            "upkeep": {
                way: {name: figure.as_dict() for name, figure in figures.items()}
                for way, figures in trained.upkeep.items()
            },
            "drift": trained.drift.as_dict(),
            "alone": {n: round(auc, 4) for n, auc in trained.screening.alone.items()},
            "screened": list(trained.screening.seen),
            "gates": [gate.as_dict() for gate in gates],
        }

    def saved(self, trained: "TrainedModels") -> "SavedModel":
        from usergrowth_dagster.learning.artifacts import REFERENCE_FILE
        from usergrowth_dagster.learning.recording import SavedModel

        return SavedModel(
            model=trained.closed,
            example=trained.test.frame.head(5),
            predict="predict_proba",
            files={f"model/{REFERENCE_FILE}": trained.reference.model_dump_json()},
        )

    def chosen(self, trained: "TrainedModels") -> str:
        return trained.champion

    def params(self, trained: "TrainedModels") -> dict[str, str]:
        fitted = trained.models
        params = {f"{k}.{n}": str(v) for k, one in fitted.items() for n, v in one.params.items()}
        if trained.sample:
            params |= {f"sample.{name}": str(v) for name, v in trained.sample.as_dict().items()}
        return params

    def card(self, summary: Mapping[str, Any]) -> str:
        from usergrowth_dagster.learning.card import write_card

        return write_card(summary)

    def headline(self, summary: Mapping[str, Any], status: str) -> str:
        from usergrowth_dagster.learning.card import headline

        return headline(summary, status)


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    """A record whose figures JSON can hold."""
    return {
        name: {k: v if math.isfinite(v) else None for k, v in value.items()}
        if isinstance(value, dict)
        else value
        for name, value in record.items()
    }


def _sample(trained: "TrainedModels") -> dict[str, Any] | None:
    """What the rows were drawn from: how many there are, and the shares of positives of all."""
    sample = trained.sample
    if sample is None:
        return None
    split = trained.split
    slices = {"train": split.train, "calibrate": split.calibrate, "test": split.test}
    shares = {name: sample.share(days) for name, days in slices.items() if days}
    return {**sample.as_dict(), "shares": shares}


def _reliability(trained: "TrainedModels") -> list[dict[str, float]]:
    """The champion's calibration by tenth of the test rows, highest scores first."""
    from usergrowth_dagster.learning.metrics import reliability

    score = trained.models[trained.champion].model.calibrated(trained.held_out.score)
    bins = reliability(trained.test.label, score, trained.test.weight)
    return [
        dict(zip(bins, map(float, row), strict=True)) for row in zip(*bins.values(), strict=True)
    ]
