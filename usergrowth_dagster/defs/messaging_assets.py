"""Assets of the messages: batches in the ledger, and their dispatch."""

from typing import Any

import dagster as dg

from usergrowth_dagster.defs.metadata import OWNER
from usergrowth_dagster.defs.partitions import partition_days
from usergrowth_dagster.defs.resources import ProjectResource, user_errors
from usergrowth_dagster.defs.task_assets import run_step, task_asset
from usergrowth_dagster.project import Project


def batches_asset(partitions: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    """Send batches."""

    def run(context: dg.AssetExecutionContext, project: Project) -> Any:
        from usergrowth_dagster.explain.nothing import late_tasks
        from usergrowth_dagster.pipeline.send import plan_task

        for sentence in late_tasks(project, partition_days(context)):
            context.log.warning(sentence)
        return run_step(
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

    return task_asset(
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
        "materialized: a backfill sends nothing. By default a file gateway writes one JSON line a "
        "message below outbox.",
    )
    def dispatched(
        context: dg.AssetExecutionContext, project: ProjectResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        from usergrowth_dagster.pipeline.send import dispatch_due

        with user_errors():
            counts = dispatch_due(project.open(context))
        found = counts.as_dict()
        for key in ("stopped", "failed"):
            if sentences := found.pop(key):
                found[key] = "; ".join(sentences)
        return dg.MaterializeResult(metadata={"dagster/row_count": counts.accepted, **found})

    return dispatched


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in sorted(counts.items()))


def messaging_assets(partitions: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """All assets of messages."""
    return [batches_asset(partitions), dispatch_asset(partitions)]
