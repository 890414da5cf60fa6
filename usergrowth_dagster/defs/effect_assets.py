"""The asset of the effects: what the texts of an execution date brought back, as reports."""

from typing import TYPE_CHECKING, Any, Literal

import dagster as dg

from usergrowth_dagster.defs.metadata import OWNER, data_table, picture, table_schema
from usergrowth_dagster.defs.partitions import day_mapping, partition_days
from usergrowth_dagster.defs.resources import ProjectResource, step_failure, user_errors
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import Settings

if TYPE_CHECKING:
    from usergrowth_dagster.effects.result import Effect
    from usergrowth_dagster.measure.report import Report
    from usergrowth_dagster.project import Project

NAME = "effects"
CHECK = "every_task_was_measured"
SPLIT = "sample_ratio"
APART = "arms_are_kept_apart"
_SHOWN = 10
"""Tasks whose figures and picture are in a materialization; the others have a line and a page."""


class MeasureConfig(dg.Config):
    """Which tasks of the dates are measured."""

    when: Literal["always", "gained"] = "always"
    """``gained``: only those of which more is known than their report says."""


def effects_asset(
    partitions: dg.PartitionsDefinition[str], settings: Settings
) -> dg.AssetsDefinition:
    """Measured effects and their reports."""
    from usergrowth_dagster.effects.outcomes import OUTCOME_COLUMNS

    @dg.asset(
        name=NAME,
        deps=[
            *("decisions", "send_batches", "dispatched_messages"),
            # An asset cannot depend on days after its own; the window looks ahead all the same.
            dg.AssetDep("stg_behavior", partition_mapping=day_mapping(-settings.lookback_days, 0)),
        ],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name="effects",
        kinds={"duckdb", "deltalake"},
        owners=[OWNER],
        description="What the texts of an execution date's decisions brought back, against those "
        "who were held out: the table `outcomes`, and a report for each task. Materialize it again "
        "when more days of the window have landed.",
        metadata={"dagster/column_schema": table_schema(OUTCOME_COLUMNS)},
        check_specs=[dg.AssetCheckSpec(name, asset=NAME) for name in (CHECK, SPLIT, APART)],
    )
    def effects(
        context: dg.AssetExecutionContext, config: MeasureConfig, project: ProjectResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        with user_errors():
            return _measured(context, project.open(context), config.when == "gained")

    return effects


def _measured(
    context: dg.AssetExecutionContext, project: "Project", only_gained: bool
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    from usergrowth_dagster.control.codes import JobStatus
    from usergrowth_dagster.control.tasks import Task
    from usergrowth_dagster.measure.report import report_task, reports_due
    from usergrowth_dagster.pipeline.each import NotReadyError, each_task

    due = {task.task_id for task in reports_due(project)} if only_gained else None

    def step(project: "Project", task: Task) -> "Report":
        if task.status != JobStatus.SUCCESS or (due is not None and task.task_id not in due):
            raise NotReadyError(task.task_id)
        return report_task(project, task)

    reports: dict[str, Report] = {}
    failures: dict[str, UserError] = {}
    for day in partition_days(context):
        outcome = each_task(project, day, step, fails_task=False)
        reports |= outcome.results
        failures |= outcome.failures
    sentence = "; ".join(f"task {name}: {reason}" for name, reason in failures.items())
    if failures and not reports:
        raise step_failure(sentence, next(iter(failures.values())))
    if failures:
        context.log.error(sentence)
    effects = [report.effect for report in reports.values()]
    return dg.MaterializeResult(
        metadata=_metadata(reports),
        check_results=[
            dg.AssetCheckResult(
                check_name=CHECK, passed=not failures, metadata={"failures": sentence or "none"}
            ),
            _split(effects),
            _apart(effects),
        ],
    )


def _metadata(reports: "dict[str, Report]") -> dict[str, Any]:
    from usergrowth_dagster.effects.report.charts import lift_picture
    from usergrowth_dagster.effects.report.figures import figure_rows
    from usergrowth_dagster.effects.report.page import concealed

    rows = [
        [r.effect.execution_date, name, r.effect.verdict, r.effect.sentence, r.page]
        for name, r in reports.items()
    ]
    measured = sum(arm.users for r in reports.values() for arm in r.effect.arms[:2])
    metadata: dict[str, Any] = {"dagster/row_count": measured, "tasks": len(rows)}
    if rows:
        header = ("date", "task", "verdict", "what can be concluded", "page")
        metadata["by_task"] = data_table(header, rows)
    newest = sorted(reports.items(), key=lambda item: item[1].effect.execution_date)[-_SHOWN:]
    for name, report in newest:
        effect = concealed(report.effect)
        metadata[f"{name}: sentence"] = effect.sentence
        metadata[f"{name}: figures"] = data_table(
            ("figure", "value", "interval or remark"), figure_rows(effect)
        )
        for title, (columns, *lines) in _click_tables(effect).items():
            metadata[f"{name}: {title}"] = data_table(columns, lines)
        metadata[f"{name}: report"] = dg.MetadataValue.path(str(report.page))
        drawn = lift_picture(effect)
        if drawn is not None:
            metadata[f"{name}: lift"] = picture(drawn.png(), f"{name}: lift")
    return metadata


def _click_tables(effect: "Effect") -> dict[str, tuple[tuple[str, ...], ...]]:
    """The way of each arm's people and the texts compared, where a text has a link."""
    from usergrowth_dagster.effects.report.clicks import click_tables

    arms, pairs = click_tables(effect)
    return {name: table for name, table in (("by arm", arms), ("clicks compared", pairs)) if table}


def _split(effects: "list[Effect]") -> dg.AssetCheckResult:
    """Whether the arms of every task are as large as they were drawn."""
    off = [e for e in effects if e.sample_ratio is not None and not e.sample_ratio.passed]
    sentences = "; ".join(f"task {e.task_id}: {e.sentence}" for e in off)
    return dg.AssetCheckResult(
        check_name=SPLIT,
        passed=not off,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"tasks": len(effects), "sentence": sentences or "no arm is off"},
    )


def _apart(effects: "list[Effect]") -> dg.AssetCheckResult:
    """Whether nobody of a control group got a text; one of this campaign is an error."""
    from usergrowth_dagster.effects.verdict import CONTROL_ELSEWHERE, CONTROL_HERE

    here = {e.task_id: n for e in effects if (n := e.crossover.get(CONTROL_HERE, 0))}
    elsewhere = {e.task_id: n for e in effects if (n := e.crossover.get(CONTROL_ELSEWHERE, 0))}
    parts = [f"task {name}: {n:,} of the control group got its text" for name, n in here.items()]
    parts += [
        f"task {name}: {n:,} of the control group got a text of another task in the window"
        for name, n in elsewhere.items()
    ]
    severity = dg.AssetCheckSeverity.ERROR if here else dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(
        check_name=APART,
        passed=not parts,
        severity=severity,
        metadata={"tasks": len(effects), "sentence": "; ".join(parts) or "nobody was texted"},
    )
