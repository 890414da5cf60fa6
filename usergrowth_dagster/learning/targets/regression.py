"""An amount: a past average, Tweedie LightGBM, and LightGBM in two stages."""

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.targets.base import Before, Table, Target
from usergrowth_dagster.settings import Settings

if TYPE_CHECKING:
    from usergrowth_dagster.learning.amounts.training import TrainedAmounts
    from usergrowth_dagster.learning.gates import Gate
    from usergrowth_dagster.learning.origin import MadeFrom, Progress
    from usergrowth_dagster.learning.recording import SavedModel
    from usergrowth_dagster.warehouse.engine import Engine


class Regression(Target["TrainedAmounts"]):
    """The expected amount of a user."""

    name = "regression"
    amounts = True
    learners = (
        "A past average, Tweedie LightGBM, and LightGBM in two stages, evaluated on later days; "
        "the best by the rule is registered in MLflow."
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
    ) -> "TrainedAmounts":
        from usergrowth_dagster.learning.amounts.training import train_amounts

        job = (engine, relation, config, execution_date, settings)
        return train_amounts(*job, made_from=made_from, progress=progress)

    def judge(
        self,
        engine: "Engine",
        relation: str,
        trained: "TrainedAmounts",
        settings: Settings,
        *,
        serving: Mapping[str, str] | None,
        before: Before | None,
    ) -> "list[Gate]":
        from usergrowth_dagster.learning.amounts.gates import judge_amounts

        current = before.model if before else None
        job = (engine, relation, trained, settings)
        return judge_amounts(*job, serving=serving, current=current)

    def summarize(self, trained: "TrainedAmounts", gates: "list[Gate]") -> dict[str, Any]:
        return {
            **trained.summary(trained.champion),
            "paired": {
                f"{kind} less past_average, {metric}": figure.as_dict()
                for kind, intervals in trained.paired.items()
                for metric, figure in intervals.items()
            },
            "params": {kind: fitted.params for kind, fitted in trained.models.items()},
            "level": trained.closed.level,
            "rows": {
                name: {"rows": rows, "positives": some, "amount": total}
                for name, (rows, some, total) in trained.counts.items()
            },
            "test": {"users": len(set(trained.test.user.tolist()))},
            "importance": dict(list(trained.importance.items())[:50]),
            "deciles": trained.bins,
            "drift": trained.drift.as_dict(),
            "alone": {n: round(gini, 4) for n, gini in list(trained.alone.items())[:50]},
            "gates": [gate.as_dict() for gate in gates],
        }

    def saved(self, trained: "TrainedAmounts") -> "SavedModel":
        from usergrowth_dagster.learning.artifacts import REFERENCE_FILE
        from usergrowth_dagster.learning.recording import SavedModel

        return SavedModel(
            model=trained.closed,
            example=trained.test.frame.head(5),
            predict="predict",
            files={f"model/{REFERENCE_FILE}": trained.reference.model_dump_json()},
        )

    def chosen(self, trained: "TrainedAmounts") -> str:
        return trained.champion

    def params(self, trained: "TrainedAmounts") -> dict[str, str]:
        fitted = trained.models
        return {f"{k}.{n}": str(v) for k, one in fitted.items() for n, v in one.params.items()}

    def card(self, summary: Mapping[str, Any]) -> str:
        from usergrowth_dagster.learning.amounts.card import write_amounts_card

        return write_amounts_card(summary)

    def headline(self, summary: Mapping[str, Any], status: str) -> str:
        from usergrowth_dagster.learning.amounts.card import amounts_headline

        return amounts_headline(summary, status)

    def tables(self, summary: Mapping[str, Any]) -> dict[str, Table]:
        """The amounts by tenth of the prediction."""
        rows = [
            (str(n), f"{d['rows']:,.0f}", f"{d['predicted']:,.2f}", f"{d['real']:,.2f}")
            for n, d in enumerate(summary["deciles"], 1)
        ]
        return {"amount by tenth": Table(("tenth", "rows", "predicted", "as it was"), rows)}
