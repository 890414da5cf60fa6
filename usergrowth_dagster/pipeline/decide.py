"""Step 3 of a task: decide every row, and record the decision."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usergrowth_dagster.audience.decisions import decide
from usergrowth_dagster.audience.records import (
    Spend,
    State,
    read_decisions,
    spend,
    summarize,
    write_decisions,
)
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.pipeline.candidates import candidates, require_known_strata
from usergrowth_dagster.pipeline.inputs import DecisionInputs, decision_inputs, with_exclusions
from usergrowth_dagster.pipeline.record import record_provenance
from usergrowth_dagster.pipeline.score import feature_version
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import open_engine

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Decided:
    """A decision: what became of it, rows by outcome, and what the texts would cost.

    ``note`` is a sentence when the campaign's fallback decided, for want of an uplift model.
    """

    state: State
    message: str
    outcomes: dict[str, int]
    spend: Spend
    version: int | None
    note: str = ""


def decide_task(project: Project, task: Task) -> Decided:
    """Decide a task; a decision from the same inputs stands, and one that is sent is not remade.

    Raises:
        NotReadyError: the population has not been scored as it is now.
        UserError: a stratum of the control group that nobody has.
    """
    warehouse, day = project.warehouse, task.execution_date
    with open_engine(project.settings) as engine:
        inputs = decision_inputs(engine, project, task)
        if inputs.state != "frozen":
            inputs = with_exclusions(inputs)
        if inputs.state in ("new", "changed"):
            require_known_strata(inputs)
            table = decide_rows(inputs)
            note = record_provenance(inputs, table)
        else:
            note = None
            table = read_decisions(engine, warehouse, day, task.task_id)
    written = write_decisions(
        warehouse,
        table,
        execution_date=day,
        task_id=task.task_id,
        fingerprint=inputs.fingerprint,
        frozen=task.frozen,
        note=note,
    )
    return Decided(
        written.state,
        written.message,
        summarize(table),
        spend(table),
        written.version,
        inputs.choice.note,
    )


def decide_rows(inputs: DecisionInputs) -> "pa.Table":
    """Decide every row of the population; a replay asks this again, with the inputs of then."""
    task, choice, warehouse = inputs.task, inputs.choice, inputs.project.warehouse
    return decide(
        inputs.engine,
        candidates(inputs).name,
        task_id=task.task_id,
        execution_date=task.execution_date,
        campaign=task.campaign,
        policy=choice.policy,
        holdout=choice.holdout,
        global_holdout=choice.global_holdout,
        channel=task.spec.channel,
        feature_version=feature_version(inputs.project),
        population_version=warehouse.version("population"),
    )
