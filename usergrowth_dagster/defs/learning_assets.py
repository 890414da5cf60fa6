"""Assets of the models: one a question, trained as of an execution date."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from usergrowth_dagster.defs.metadata import OWNER, data_table, picture
from usergrowth_dagster.defs.partitions import day_mapping, partition_days
from usergrowth_dagster.defs.resources import ProjectResource, user_errors
from usergrowth_dagster.learning.problems import problems
from usergrowth_dagster.learning.problems.base import Problem
from usergrowth_dagster.learning.targets import target_called

if TYPE_CHECKING:
    from usergrowth_dagster.training.train import Training

TRAINING_DAYS = 400
CHECK = "every_campaign_has_its_model"
REVIEW_CHECK = "no_version_waits_or_is_rejected"
SHOWN_CHECK = "{name}_is_shown"
"""Of a question that campaigns can do without, since they have a fallback."""
OTHER_MODELS = "models"
"""Group of the models of questions that belong to no stage."""


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
    target = target_called(training.config.problem.target)
    found |= {
        title: data_table(table.header, list(table.rows))
        for title, table in target.tables(summary).items()
    }
    return found | {name: picture(png, name) for name, png in training.registered.figures.items()}


def _gates(gates: list[dict[str, Any]]) -> Any:
    rows = [(g["name"], "passed" if g["passed"] else "failed", g["reason"]) for g in gates]
    return data_table(("gate", "result", "why"), rows)


def _left_out(trainings: list[Any]) -> list[str]:
    """A sentence for each version that may not score: what it waits for, or what it failed."""
    from usergrowth_dagster.training.models import how_to_approve

    sentences = []
    for training in trainings:
        if training.registered is None:
            continue
        ref = training.registered.ref
        needs = training.config.require_review and ref.status == "approved"
        if ref.status == "waiting_review" or (needs and not ref.reviewed_by):
            sentences.append(how_to_approve(ref))
        elif ref.status != "approved":
            failed = [g for g in training.registered.summary["gates"] if not g["passed"]]
            why = ref.why or "; ".join(f"gate {g['name']}: {g['reason']}" for g in failed)
            sentences.append(f"{ref.name} version {ref.version} is {ref.status}: {why}")
    return sentences


def _review_check(trainings: list[Any]) -> dg.AssetCheckResult:
    left_out = _left_out(trainings)
    return dg.AssetCheckResult(
        check_name=REVIEW_CHECK,
        passed=not left_out,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(left_out) or "every version may score",
        metadata={"sentence": "; ".join(left_out) or "every version may score"},
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
    problem: type[Problem], partitions: dg.PartitionsDefinition[str]
) -> dg.AssetsDefinition:
    """The asset of one question."""
    name, target = f"{problem.name}_model", target_called(problem.target)
    checks = (CHECK, REVIEW_CHECK) if target.required else (_shown(problem),)

    @dg.asset(
        name=name,
        deps=[
            dg.AssetDep(problem.training_table(), partition_mapping=day_mapping(-TRAINING_DAYS, -1))
        ],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(1),
        group_name=problem.words.stage or OTHER_MODELS,
        kinds={"scikitlearn", "lightgbm", "mlflow"},
        owners=[OWNER],
        description=f"{problem.words.asset} {target.learners} Learns only from labels that were "
        "closed before the execution date.",
        pool=f"training_{problem.name}",  # one training of a question at a time
        check_specs=[dg.AssetCheckSpec(check, asset=name) for check in checks],
    )
    def trained(
        context: dg.AssetExecutionContext, config: TrainConfig, project: ProjectResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        from usergrowth_dagster.training.train import train_all

        opened, missing = project.open(context), config.when == "missing"
        trainings = []
        with user_errors():
            for day in partition_days(context):
                trainings += train_all(opened, problem.name, day, only_missing=missing)
        metadata: dict[str, Any] = {"trainings": len(trainings)}
        for place, training in enumerate(trainings):
            note_snapshots(context, training)
            prefix = f"{place + 1}: " if len(trainings) > 1 else ""
            for title, value in training_metadata(training).items():
                metadata[prefix + title] = value
        if target.required:
            results = _required_checks(context, trainings, missing)
        else:
            results = [_shown_check(context, problem, trainings)]
        return dg.MaterializeResult(metadata=metadata, check_results=results)

    return trained


def _required_checks(
    context: dg.AssetExecutionContext, trainings: "list[Training]", missing: bool
) -> list[dg.AssetCheckResult]:
    """Whether each campaign has its model, and whether each version may score.

    A task without a model fails in its own scoring, so that the date's other tasks go on.

    Raises:
        Failure: models were asked for by themselves, and none could be trained.
    """
    failed = [t.skipped for t in trainings if t.skipped and t.asked_by]
    for sentence in failed:
        context.log.error(sentence)
    if failed and len(failed) == len(trainings) and not missing:
        raise dg.Failure("; ".join(failed), allow_retries=False)
    metadata = {} if missing or not failed else {"failures": "; ".join(failed)}
    check = dg.AssetCheckResult(check_name=CHECK, passed=not failed, metadata=metadata)
    review = _review_check(trainings)
    if not review.passed:
        context.log.warning(review.description)
    return [check, review]


def _shown(problem: type[Problem]) -> str:
    return SHOWN_CHECK.format(name=problem.name)


def _shown_check(
    context: dg.AssetExecutionContext, problem: type[Problem], trainings: "list[Training]"
) -> dg.AssetCheckResult:
    """Whether each version may choose; early rounds have nothing to learn from, and do not fail."""
    for training in trainings:
        if training.skipped:
            context.log.warning(training.skipped)
    usable = [t for t in trainings if t.registered and t.registered.ref.status == "approved"]
    return dg.AssetCheckResult(
        check_name=_shown(problem),
        passed=len(usable) == len(trainings),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"approved": len(usable), "asked for": len(trainings)},
    )


def learning_assets(partitions: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """The assets of all questions."""
    return [model_training_asset(problem, partitions) for problem in problems().values()]
