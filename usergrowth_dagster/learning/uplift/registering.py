"""From a training of effects to a registered version of ``uplift``, the same inputs once."""

from datetime import date
from typing import Any

from usergrowth_dagster.learning.artifacts import REFERENCE_FILE
from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.lifecycle import Registered, made_once
from usergrowth_dagster.learning.origin import MadeFrom, Progress
from usergrowth_dagster.learning.recording import SavedModel, record
from usergrowth_dagster.learning.registry import decide
from usergrowth_dagster.learning.store import ModelRef
from usergrowth_dagster.learning.uplift.card import write_uplift_card
from usergrowth_dagster.learning.uplift.training import CHOSEN, TrainedUplift, train_uplift
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine


def train_and_register_uplift(
    engine: Engine,
    relation: str,
    config: TrainingConfig,
    execution_date: date,
    settings: Settings,
    *,
    made_from: MadeFrom,
    progress: Progress = lambda _: None,
) -> Registered:
    """Train, judge and register, or return the version made before from the same inputs.

    Raises:
        UserError: too little to learn from; nothing is registered then.
    """

    def make() -> ModelRef:
        job = (engine, relation, config, execution_date, settings)
        trained = train_uplift(*job, made_from=made_from, progress=progress)
        progress("register")
        return register_uplift(trained, settings)

    marks = made_from.fingerprints(config, execution_date, settings)
    return made_once(settings, config.algorithm, marks, make)


def register_uplift(trained: TrainedUplift, settings: Settings) -> ModelRef:
    """Log a training and register its model as the next version of ``uplift``."""
    summary = summarize_uplift(trained)
    return record(
        settings,
        trained,
        SavedModel(
            model=trained.model,
            example=trained.example,
            predict="predict",
            files={f"model/{REFERENCE_FILE}": trained.reference.model_dump_json()},
        ),
        summary,
        verdict=decide(trained.gates, trained.config, settings)[1],
        own=CHOSEN,
        params={},
        card=write_uplift_card(summary),
        description=trained.sentence,
    )


def summarize_uplift(trained: TrainedUplift) -> dict[str, Any]:
    """What a training found out, as JSON-ready values, in the shape of the other models'."""
    return {
        **trained.summary(trained.choice.chosen.name),
        "paired": {
            f"chosen against {name}": trained.evaluation.difference("qini", CHOSEN, name).as_dict()
            for name in trained.evaluation.metrics
            if name != CHOSEN
        },
        "choice": [vars(figure) for figure in trained.choice.figures],
        "params": {
            name: {part: vars(size) for part, size in learner.sizes.items()}
            for name, learner in trained.choice.fitted.items()
        },
        "rows": {
            name: {
                "rows": sum(arm["rows"] for arm in found.values()),
                "positives": sum(arm["returns"] for arm in found.values()),
                **found,
            }
            for name, found in trained.rows.items()
        },
        "left_out": vars(trained.without),
        "deciles": [found.as_dict() for found in trained.bins],
        "calibration": trained.calibration.as_dict(),
        "importance": dict(list(trained.importance.items())[:50]),
        "gates": [gate.as_dict() for gate in trained.gates],
    }
