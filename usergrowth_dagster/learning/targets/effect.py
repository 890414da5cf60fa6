"""What a text adds to a probability: learners of the effect, learned from both arms of draws."""

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.targets.base import Before, Table, Target
from usergrowth_dagster.ranks import UPLIFT
from usergrowth_dagster.settings import Settings

if TYPE_CHECKING:
    from usergrowth_dagster.learning.gates import Gate
    from usergrowth_dagster.learning.origin import MadeFrom, Progress
    from usergrowth_dagster.learning.recording import SavedModel
    from usergrowth_dagster.learning.uplift.training import TrainedUplift
    from usergrowth_dagster.warehouse.engine import Engine


class Effect(Target["TrainedUplift"]):
    """The effect of a text on the probability of a return.

    A campaign that asks for it names a fallback by score, which decides until a version shows an
    effect on later days; so no training that fails is a failure of the campaign.
    """

    name = "effect"
    compares = False
    required = False
    learners = (
        "Asked for by campaigns that choose by uplift; until a version shows uplift on later days, "
        "their fallback by score decides."
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
    ) -> "TrainedUplift":
        from usergrowth_dagster.learning.uplift.training import train_uplift

        job = (engine, relation, config, execution_date, settings)
        return train_uplift(*job, made_from=made_from, progress=progress)

    def judge(
        self,
        engine: "Engine",
        relation: str,
        trained: "TrainedUplift",
        settings: Settings,
        *,
        serving: Mapping[str, str] | None,
        before: Before | None,
    ) -> "list[Gate]":
        return trained.gates

    def summarize(self, trained: "TrainedUplift", gates: "list[Gate]") -> dict[str, Any]:
        """In the shape of the other kinds' summaries."""
        from usergrowth_dagster.learning.uplift.training import CHOSEN

        evaluation = trained.evaluation
        return {
            **trained.summary(trained.choice.chosen.name),
            "paired": {
                f"chosen against {name}": evaluation.difference("qini", CHOSEN, name).as_dict()
                for name in evaluation.metrics
                if name != CHOSEN
            },
            "choice": [vars(figure) for figure in trained.choice.figures],
            "params": {
                name: {part: vars(size) for part, size in learner.sizes.items()}
                for name, learner in trained.choice.fitted.items()
            },
            "rows": {
                name: {
                    "rows": sum(arm["rows"] for arm in arms.values()),
                    "positives": sum(arm["returns"] for arm in arms.values()),
                    **arms,
                }
                for name, arms in trained.rows.items()
            },
            "left_out": vars(trained.without),
            "deciles": [part.as_dict() for part in trained.bins],
            "calibration": trained.calibration.as_dict(),
            "importance": dict(list(trained.importance.items())[:50]),
            "gates": [gate.as_dict() for gate in gates],
        }

    def saved(self, trained: "TrainedUplift") -> "SavedModel":
        from usergrowth_dagster.learning.artifacts import REFERENCE_FILE
        from usergrowth_dagster.learning.recording import SavedModel

        return SavedModel(
            model=trained.model,
            example=trained.example,
            predict="predict",
            files={f"model/{REFERENCE_FILE}": trained.reference.model_dump_json()},
        )

    def chosen(self, trained: "TrainedUplift") -> str:
        from usergrowth_dagster.learning.uplift.training import CHOSEN

        return CHOSEN

    def card(self, summary: Mapping[str, Any]) -> str:
        from usergrowth_dagster.learning.uplift.card import write_uplift_card

        return write_uplift_card(summary)

    def headline(self, summary: Mapping[str, Any], status: str) -> str:
        return str(summary["sentence"])

    def tables(self, summary: Mapping[str, Any]) -> dict[str, Table]:
        """The effect by decile, predicted and measured."""
        rows = [
            (
                str(decile["place"]),
                f"{decile['treated']:,}",
                f"{decile['control']:,}",
                "" if decile["predicted"] is None else f"{decile['predicted']:+.4f}",
                _measured(decile[UPLIFT]),
            )
            for decile in summary["deciles"]
        ]
        header = ("decile", "treated", "control", "predicted", "measured")
        return {"effect by decile": Table(header, rows)}


def _measured(effect: Mapping[str, float] | None) -> str:
    if effect is None:
        return "an arm is empty"
    return f"{effect['value']:+.4f} [{effect['low']:+.4f}, {effect['high']:+.4f}]"
