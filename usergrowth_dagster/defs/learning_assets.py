"""Assets of the models: one an algorithm, trained as of an execution date."""

from typing import Any

import dagster as dg

from usergrowth_dagster.defs.metadata import OWNER, data_table, picture
from usergrowth_dagster.defs.partitions import day_mapping, partition_days
from usergrowth_dagster.defs.resources import ProjectResource, user_errors

TRAINING_DAYS = 400
CHECK = "every_campaign_has_its_model"
REVIEW_CHECK = "no_version_waits_or_is_rejected"
MEANINGS = {
    "churn": "How likely a user is to go silent from the execution date on.",
    "winback": "How likely a user is to come back when texted.",
}


class TrainConfig(dg.Config):
    """When to train: ``always``, or only what the date's tasks ``missing`` a model need."""

    when: str = "always"


def training_metadata(training: Any) -> dict[str, Any]:
    """Metadata of one training: figures with intervals, slices, pictures."""
    if training.registered is None:
        return {"skipped": training.skipped}
    ref, summary = training.registered.ref, training.registered.summary
    found: dict[str, Any] = {
        "model": f"{ref.name} version {ref.version}: {ref.status}",
        "champion": summary["champion"],
        "gain": summary["sentence"],
        "asked_by": ", ".join(training.asked_by) or "no campaign: the default",
        "mlflow_run": ref.run_id,
        "last_label_day": ref.last_label_day.isoformat(),
        "reused": training.registered.reused,
        "evaluation": _evaluation(summary["metrics"]),
        "gates": _gates(summary["gates"]),
        "model_card": dg.MetadataValue.md(training.registered.card),
        "rows": dg.MetadataValue.json(summary["rows"]),
    }
    return found | {name: picture(png, name) for name, png in training.registered.figures.items()}


def _gates(gates: list[dict[str, Any]]) -> Any:
    rows = [(g["name"], "passed" if g["passed"] else "failed", g["reason"]) for g in gates]
    return data_table(("gate", "result", "why"), rows)


def _left_out(trainings: list[Any]) -> list[str]:
    """A sentence for each version that may not score: what it waits for, or what it failed."""
    from usergrowth_dagster.tasks.models import how_to_approve

    told = []
    for training in trainings:
        if training.registered is None:
            continue
        ref = training.registered.ref
        needs = training.config.require_review and ref.status == "approved"
        if ref.status == "waiting_review" or (needs and not ref.reviewed_by):
            told.append(how_to_approve(ref))
        elif ref.status != "approved":
            failed = [g for g in training.registered.summary["gates"] if not g["passed"]]
            why = ref.why or "; ".join(f"gate {g['name']}: {g['reason']}" for g in failed)
            told.append(f"{ref.name} version {ref.version} is {ref.status}: {why}")
    return told


def _review_check(trainings: list[Any]) -> dg.AssetCheckResult:
    told = _left_out(trainings)
    return dg.AssetCheckResult(
        check_name=REVIEW_CHECK,
        passed=not told,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(told) or "every version may score",
        metadata={"sentence": "; ".join(told) or "every version may score"},
    )


def _evaluation(metrics: dict[str, dict[str, dict[str, float | None]]]) -> Any:
    names = list(dict.fromkeys(name for found in metrics.values() for name in found))
    return data_table(
        ("model", *names),
        [
            (kind, *(_interval(found.get(name)) for name in names))
            for kind, found in metrics.items()
        ],
    )


def _interval(figure: dict[str, float | None] | None) -> str:
    if not figure or figure["value"] is None:
        return ""
    if figure["low"] is None or figure["high"] is None:
        return f"{figure['value']:.4f}"
    return f"{figure['value']:.4f} [{figure['low']:.4f}, {figure['high']:.4f}]"


def note_snapshots(context: dg.AssetExecutionContext, training: Any) -> None:
    """Say of the snapshot days that a training brought up to date which tables hold them."""
    for build in training.builds:
        for day in build.built:
            context.log_event(
                dg.AssetMaterialization(
                    build.model,
                    partition=day.isoformat(),
                    description="brought up to date for training",
                )
            )


def model_training_asset(
    algorithm: str, partitions: dg.PartitionsDefinition[str]
) -> dg.AssetsDefinition:
    """The asset of one algorithm."""

    @dg.asset(
        name=f"{algorithm}_model",
        deps=[
            dg.AssetDep(f"{algorithm}_training", partition_mapping=day_mapping(-TRAINING_DAYS, -1))
        ],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(1),
        group_name="models",
        kinds={"scikitlearn", "lightgbm", "mlflow"},
        owners=[OWNER],
        description=f"{MEANINGS[algorithm]} Logistic regression and LightGBM, calibrated and "
        "evaluated on later days; the better one by the rule is registered in MLflow. Learns only "
        "from labels that were closed before the execution date.",
        pool="training",
        check_specs=[
            dg.AssetCheckSpec(name, asset=f"{algorithm}_model") for name in (CHECK, REVIEW_CHECK)
        ],
    )
    def trained(
        context: dg.AssetExecutionContext, config: TrainConfig, project: ProjectResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        from usergrowth_dagster.tasks.train import train_all

        opened = project.open(context)
        days = partition_days(context)
        trainings = []
        missing = config.when == "missing"
        with user_errors():
            for day in days:
                trainings += train_all(opened, algorithm, day, only_missing=missing)  # type: ignore[arg-type]
        failed = [t.skipped for t in trainings if t.skipped and t.asked_by]
        for sentence in failed:
            context.log.error(sentence)
        # A task without a model fails in its own scoring; the date's other tasks go on.
        if failed and len(failed) == len(trainings) and not missing:
            raise dg.Failure("; ".join(failed), allow_retries=False)
        metadata: dict[str, Any] = {"trainings": len(trainings)}
        for place, training in enumerate(trainings):
            note_snapshots(context, training)
            prefix = f"{place + 1}: " if len(trainings) > 1 else ""
            for name, value in training_metadata(training).items():
                metadata[prefix + name] = value
        told = {} if missing or not failed else {"failures": "; ".join(failed)}
        check = dg.AssetCheckResult(check_name=CHECK, passed=not failed, metadata=told)
        review = _review_check(trainings)
        if not review.passed:
            context.log.warning(review.description)
        return dg.MaterializeResult(metadata=metadata, check_results=[check, review])

    return trained


def learning_assets(partitions: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """The assets of both algorithms."""
    return [model_training_asset(name, partitions) for name in ("churn", "winback")]
