"""The asset of the model of effects: whom a text makes return."""

from typing import Any

import dagster as dg

from usergrowth_dagster.defs.learning_assets import (
    TRAINING_DAYS,
    TrainConfig,
    note_snapshots,
    training_metadata,
)
from usergrowth_dagster.defs.metadata import OWNER, data_table
from usergrowth_dagster.defs.partitions import day_mapping, partition_days
from usergrowth_dagster.defs.resources import ProjectResource, user_errors

CHECK = "uplift_is_shown"


def uplift_model_asset(partitions: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    """The asset ``uplift_model``."""

    @dg.asset(
        name="uplift_model",
        deps=[dg.AssetDep("uplift_training", partition_mapping=day_mapping(-TRAINING_DAYS, -1))],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(1),
        group_name="models",
        kinds={"scikitlearn", "lightgbm", "mlflow"},
        owners=[OWNER],
        description="Whom a text makes return who would not have: learners of the effect and "
        "naive rankings beside them, learned from those texted and those held out, with the "
        "chances they were drawn by. Asked for by campaigns that choose by uplift; until a version "
        "shows uplift on later days, their fallback by score decides.",
        pool="training",
        check_specs=[dg.AssetCheckSpec(CHECK, asset="uplift_model")],
    )
    def trained(
        context: dg.AssetExecutionContext, config: TrainConfig, project: ProjectResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        from usergrowth_dagster.tasks.train import train_all

        opened = project.open(context)
        trainings = []
        with user_errors():
            for day in partition_days(context):
                trainings += train_all(opened, "uplift", day, only_missing=config.when == "missing")
        metadata: dict[str, Any] = {"trainings": len(trainings)}
        for place, training in enumerate(trainings):
            note_snapshots(context, training)
            if training.skipped:  # early rounds have nothing to learn from; that is no failure
                context.log.warning(training.skipped)
            prefix = f"{place + 1}: " if len(trainings) > 1 else ""
            found = training_metadata(training) | _effects(training)
            metadata |= {f"{prefix}{name}": value for name, value in found.items()}
        usable = [t for t in trainings if t.registered and t.registered.ref.status == "approved"]
        check = dg.AssetCheckResult(
            check_name=CHECK,
            passed=len(usable) == len(trainings),
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"approved": len(usable), "asked for": len(trainings)},
        )
        return dg.MaterializeResult(metadata=metadata, check_results=[check])

    return trained


def _effects(training: Any) -> dict[str, Any]:
    """The effect by decile, predicted and measured, as a table."""
    if training.registered is None:
        return {}
    deciles = training.registered.summary["deciles"]
    return {
        "effect by decile": data_table(
            ("decile", "treated", "control", "predicted", "measured"),
            [
                (
                    str(d["place"]),
                    f"{d['treated']:,}",
                    f"{d['control']:,}",
                    "" if d["predicted"] is None else f"{d['predicted']:+.4f}",
                    _measured(d["uplift"]),
                )
                for d in deciles
            ],
        )
    }


def _measured(uplift: dict[str, float] | None) -> str:
    if uplift is None:
        return "an arm is empty"
    return f"{uplift['value']:+.4f} [{uplift['low']:+.4f}, {uplift['high']:+.4f}]"
