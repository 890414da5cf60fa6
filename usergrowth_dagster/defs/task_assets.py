"""Assets of the tasks: population, scores, decisions, output.csv, batches, dispatch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import dagster as dg

from usergrowth_dagster.defs.jobs import model_assets
from usergrowth_dagster.defs.landing_assets import NOTICES, notice_check
from usergrowth_dagster.defs.metadata import (
    DRIFT_CHECK,
    OWNER,
    data_table,
    drift_check,
    drift_metadata,
    table_schema,
)
from usergrowth_dagster.defs.partitions import day_mapping, partition_days
from usergrowth_dagster.defs.resources import ProjectResource, step_failure, user_errors
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project

T = TypeVar("T")
MODEL_DAYS = 400
CHECK = "every_task_succeeded"
Columns = Mapping[str, tuple[str, str]]


def _run_step(
    context: dg.AssetExecutionContext,
    project: Project,
    step: Callable[[Project, Any], T],
    header: Sequence[str],
    row: Callable[[T], Sequence[Any]],
    count: Callable[[T], int],
    *,
    first: bool = False,
    fails_task: bool = True,
    more: Callable[[Mapping[str, T]], tuple[dict[str, Any], list[dg.AssetCheckResult]]]
    | None = None,
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Run a step for the tasks of all the run's dates and report what became of each.

    ``more`` gives further metadata and check results for the results by task.
    """
    from usergrowth_dagster.pipeline.each import each_task

    rows: list[list[Any]] = []
    failures: dict[str, UserError] = {}
    left: list[str] = []
    total = done = 0
    results: dict[str, T] = {}
    for day in partition_days(context):
        outcome = each_task(project, day, step, include_failed=first, fails_task=fails_task)
        failures |= outcome.failures
        left += outcome.left
        done += len(outcome.results)
        results |= outcome.results
        for task_id, result in outcome.results.items():
            rows.append([day, task_id, *row(result)])
            total += count(result)
    sentence = "; ".join(f"task {name}: {reason}" for name, reason in failures.items())
    if failures and not done:
        raise step_failure(sentence, next(iter(failures.values())))
    metadata: dict[str, Any] = {"dagster/row_count": total, "tasks": len(rows)}
    if rows:
        metadata["by_task"] = data_table(("date", "task", *header), rows)
    if failures:
        context.log.error(sentence)
        metadata["failures"] = sentence
    if left:
        metadata["left_to_another_run"] = ", ".join(left)
    check = dg.AssetCheckResult(
        check_name=CHECK, passed=not failures, metadata={"failures": sentence or "none"}
    )
    further, checks = more(results) if more else ({}, [])
    return dg.MaterializeResult(metadata=metadata | further, check_results=[check, *checks])


def _task_asset(
    name: str,
    partitions: dg.PartitionsDefinition[str],
    deps: Sequence[dg.AssetDep | str],
    group: str,
    kinds: set[str],
    description: str,
    run: Callable[[dg.AssetExecutionContext, Project], Any],
    columns: Columns | None = None,
    checks: Sequence[str] = (),
) -> dg.AssetsDefinition:
    @dg.asset(
        name=name,
        deps=list(deps),
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=group,
        kinds=kinds,
        owners=[OWNER],
        description=description,
        metadata={"dagster/column_schema": table_schema(columns)} if columns else {},
        check_specs=[dg.AssetCheckSpec(check, asset=name) for check in (CHECK, *checks)],
    )
    def asset(context: dg.AssetExecutionContext, project: ProjectResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        with user_errors():
            result: dg.MaterializeResult = run(context, project.open(context))  # type: ignore[type-arg]
        return result

    return asset


def population_asset(
    partitions: dg.PartitionsDefinition[str], before: Sequence[str] = ()
) -> dg.AssetsDefinition:
    """Uploaded populations of the date's tasks, taken in after further assets of the date."""
    from usergrowth_dagster.data.contracts import CONTRACTS

    contract = CONTRACTS["population"]
    meanings = contract.descriptions()

    def run(context: dg.AssetExecutionContext, project: Project) -> Any:
        from usergrowth_dagster.intake.uploads import register_repeats, withdraw_deleted
        from usergrowth_dagster.pipeline.populate import load_population

        withdrawn = []
        for day in partition_days(context):
            for problem in register_repeats(project, day):
                context.log.error(problem)
            withdrawn += withdraw_deleted(project, day)
        for sentence in withdrawn:
            context.log.warning(sentence)
        metadata = {"withdrawn": "; ".join(withdrawn)} if withdrawn else {}
        return _run_step(
            context,
            project,
            load_population,
            ("rows in", "accepted", "quarantined", "forgotten", "unchanged", "warnings"),
            lambda p: (
                *(p.rows_in, p.accepted, p.quarantined, p.forgotten, p.unchanged),
                len(p.warnings),
            ),
            lambda p: p.accepted,
            first=True,
            more=lambda results: (
                metadata,
                [notice_check([one for p in results.values() for one in p.warnings])],
            ),
        )

    return _task_asset(
        "population",
        partitions,
        before,
        "landing",
        {"csv", "parquet", "deltalake"},
        "Who may be contacted: the uploads of the tasks of the execution date.",
        run,
        {name: (kind, meanings.get(name, "")) for name, kind in contract.raw_types().items()},
        (NOTICES,),
    )


def scores_asset(partitions: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    """Scored populations."""
    models = [
        dg.AssetDep(name, partition_mapping=day_mapping(-MODEL_DAYS, 0)) for name in model_assets()
    ]

    def run(context: dg.AssetExecutionContext, project: Project) -> Any:
        from usergrowth_dagster.pipeline.score import Scored, score_task

        def more(
            results: Mapping[str, Scored],
        ) -> tuple[dict[str, Any], list[dg.AssetCheckResult]]:
            drifts = {name: s.drift for name, s in results.items() if s.drift}
            return drift_metadata(drifts, project.settings), [drift_check(drifts)]

        return _run_step(
            context,
            project,
            score_task,
            ("rows", "scored", "model", "version", "mean score", "unchanged", "note"),
            lambda s: (s.rows, s.scored, s.model, s.version, _short(s.mean), s.unchanged, s.note),
            lambda s: s.rows,
            more=more,
        )

    from usergrowth_dagster.pipeline.score import SCORE_COLUMNS

    return _task_asset(
        "scores",
        partitions,
        ["population", "user_features", "user_item_features", *models],
        "audience",
        {"python", "mlflow", "deltalake"},
        "The population with the probability or amount by the newest approved model whose "
        "training saw nothing of the execution date.",
        run,
        SCORE_COLUMNS,
        (DRIFT_CHECK,),
    )


def decisions_asset(
    partitions: dg.PartitionsDefinition[str], after: Sequence[str] = ()
) -> dg.AssetsDefinition:
    """Decisions, made after further assets of the date."""
    from usergrowth_dagster.audience.decisions import DECISION_COLUMNS, DECISION_MEANINGS

    def run(context: dg.AssetExecutionContext, project: Project) -> Any:
        from usergrowth_dagster.pipeline.decide import decide_task

        return _run_step(
            context,
            project,
            decide_task,
            ("state", "rows by outcome", "messages", "cost", "note"),
            lambda d: (
                d.state,
                ", ".join(f"{name} {n}" for name, n in d.outcomes.items() if n),
                d.spend.messages,
                f"{d.spend.cost:.2f} {project.settings.currency}",
                d.note,
            ),
            lambda d: sum(d.outcomes.values()),
        )

    return _task_asset(
        "decisions",
        partitions,
        ["scores", "population", *after],
        "audience",
        {"duckdb", "deltalake"},
        "One row with one outcome for every row of a population: selected, held out, or the "
        "reason why not.",
        run,
        {name: (kind, DECISION_MEANINGS[name]) for name, kind in DECISION_COLUMNS.items()},
    )


def output_asset(partitions: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    """output.csv."""

    def run(context: dg.AssetExecutionContext, project: Project) -> Any:
        from usergrowth_dagster.pipeline.output import write_task_output

        return _run_step(
            context,
            project,
            write_task_output,
            ("file", "people", "state"),
            lambda o: (o.path, o.rows, o.state),
            lambda o: o.rows,
        )

    return _task_asset(
        "selection_output",
        partitions,
        ["decisions"],
        "audience",
        {"csv"},
        "population_output/<task>/output.csv: user_id, item_id, phone, score of the selected, "
        "without a header.",
        run,
    )


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def task_assets(
    partitions: dg.PartitionsDefinition[str], after: Sequence[str] = (), *, segments: bool = False
) -> list[dg.AssetsDefinition]:
    """All assets of tasks.

    Args:
        partitions: the execution dates.
        after: assets of the date that decisions wait for.
        segments: whether the home has segments: a task may refresh its own, which reads features.
    """
    return [
        population_asset(partitions, ["user_features"] if segments else []),
        scores_asset(partitions),
        decisions_asset(partitions, after),
        output_asset(partitions),
    ]


def batches_asset(partitions: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    """Send batches."""

    def run(context: dg.AssetExecutionContext, project: Project) -> Any:
        from usergrowth_dagster.explain.nothing import late_tasks
        from usergrowth_dagster.pipeline.send import plan_task

        for sentence in late_tasks(project, partition_days(context)):
            context.log.warning(sentence)
        return _run_step(
            context,
            project,
            plan_task,
            ("people", "by state", "not sent because", "messages", "cost"),
            lambda p: (
                p.people,
                _counts(p.states),
                _counts(p.reasons),
                p.messages,
                f"{p.cost:.2f} {p.currency}",
            ),
            lambda p: p.people,
            fails_task=False,
        )

    return _task_asset(
        "send_batches",
        partitions,
        ["selection_output"],
        "messaging",
        {"sql"},
        "The selected people as rows of the send ledger, each once. A plan that is made is read, "
        "not remade; one for a past date expires unsent.",
        run,
    )


def dispatch_asset(partitions: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    """Dispatch."""

    @dg.asset(
        name="dispatched_messages",
        deps=["send_batches"],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name="messaging",
        kinds={"python"},
        owners=[OWNER],
        description="Submits what the ledger holds and is due now, whatever date was "
        "materialized: a backfill sends nothing. By default messages go to files below outbox, one "
        "JSON line each.",
    )
    def dispatched(
        context: dg.AssetExecutionContext, project: ProjectResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        from usergrowth_dagster.pipeline.send import dispatch_due

        with user_errors():
            counts = dispatch_due(project.open(context))
        figures = counts.as_dict()
        for key in ("stopped", "held", "failed"):
            if sentences := figures.pop(key):
                figures[key] = "; ".join(sentences)
        return dg.MaterializeResult(metadata={"dagster/row_count": counts.accepted, **figures})

    return dispatched


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in sorted(counts.items()))


def messaging_assets(partitions: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """All assets of messages."""
    return [batches_asset(partitions), dispatch_asset(partitions)]
