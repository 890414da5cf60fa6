"""Step 3 of a task: decide every row, record the decision, and read the one that stands.

The note of a decision's commit says what it was made from; the rows that were excluded are kept
beside it. What stands is the value that is explained and measured. A decision whose texts never
went out can be thrown away and made again.
"""

from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from usergrowth_dagster.audience.decisions import DECISION_COLUMNS, decide
from usergrowth_dagster.audience.hashing import relation_hash
from usergrowth_dagster.audience.policy import Policy, parse_policy
from usergrowth_dagster.audience.records import (
    Spend,
    State,
    decided_rows,
    spend,
    summarize,
    write_decisions,
)
from usergrowth_dagster.control.campaign import CampaignSpec
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.control.tasks import task as one_task
from usergrowth_dagster.messaging.plans.discard import discard_plan
from usergrowth_dagster.pipeline.candidates import candidates, require_known_strata
from usergrowth_dagster.pipeline.choice import selection_policy
from usergrowth_dagster.pipeline.exclusions import rules_of
from usergrowth_dagster.pipeline.freshness import require_fresh
from usergrowth_dagster.pipeline.inputs import DecisionInputs, decision_inputs, with_exclusions
from usergrowth_dagster.pipeline.provenance import (
    EXCLUSIONS,
    Provenance,
    choice_note,
    code_version,
    deciding_settings,
    file_hashes,
    part_hashes,
    read_provenance,
    recorded_task,
    relative,
    table_versions,
)
from usergrowth_dagster.pipeline.score import feature_version
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.relation import Relation


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
        UserError: a stratum of the control group that nobody has, or a stale segment.
    """
    warehouse, day = project.warehouse, task.execution_date
    require_fresh(project, task)
    with open_engine(project.settings) as engine:
        inputs = decision_inputs(engine, project, task)
        if inputs.state != "frozen":
            inputs = with_exclusions(inputs)
        if inputs.state in ("new", "changed"):
            require_known_strata(inputs)
            rows = decide_rows(inputs)
            note = _record_provenance(inputs, rows)
        else:
            note = None
            rows = decided_rows(engine, warehouse, day, task.task_id)
        counts, cost = summarize(engine, rows), spend(engine, rows)
        written = write_decisions(
            engine,
            warehouse,
            rows,
            execution_date=day,
            task_id=task.task_id,
            fingerprint=inputs.fingerprint,
            frozen=task.frozen,
            note=note,
        )
    return Decided(
        written.state, written.message, counts, cost, written.version, inputs.choice.note
    )


def decide_rows(inputs: DecisionInputs) -> Relation:
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
        channels=task.spec.channels,
        feature_version=feature_version(inputs.project),
        population_version=warehouse.version("population"),
    )


def _record_provenance(inputs: DecisionInputs, rows: Relation) -> dict[str, Any]:
    """The note of a decision's commit; writes the rows that were excluded.

    Args:
        inputs: what was decided from.
        rows: the decision.
    """
    task, settings = inputs.task, inputs.project.settings
    excluded_files, excluded = _write_exclusions(inputs)
    columns = [name for name in DECISION_COLUMNS if name in rows.columns]
    digest, count = relation_hash(inputs.engine, rows.name, columns)
    by_arm = f"select arm, count(*) from {rows} group by arm order by arm"
    spec, values = task.spec.model_dump(mode="json"), deciding_settings(settings)
    storage = inputs.project.warehouse.storage
    read = [relative(storage, path) for one in inputs.relations for path in one.files]
    provenance = Provenance(
        task_id=task.task_id,
        campaign=task.campaign,
        execution_date=task.execution_date,
        population=task.population,
        output=task.output,
        spec=spec,
        settings=values,
        files=file_hashes(inputs.project, task, [*read, *excluded_files]),
        versions=table_versions(inputs.project.warehouse, read) | _versions_in(inputs, rows),
        scored=inputs.scored,
        choice=choice_note(inputs.choice),
        excluded=excluded,
        contact={
            "moment": inputs.contact_moment.isoformat(),
            "rules": {k: str(v) for k, v in asdict(rules_of(settings, task)).items()},
        },
        code=code_version(),
        marks=part_hashes(spec, values, inputs.choice),
        columns=columns,
        rows=count,
        hash=digest,
        arms=dict(inputs.engine.rows(by_arm)),
        segment=None if inputs.segment is None else inputs.segment.note,
    )
    return provenance.model_dump(mode="json")


def _versions_in(inputs: DecisionInputs, rows: Relation) -> dict[str, int]:
    """The table versions that the decision's own rows name."""
    names = {"population": "population_version", "user_features": "feature_version"}
    listed = ", ".join(f"any_value({column})" for column in names.values())
    values = inputs.engine.rows(f"select {listed} from {rows}")[0]
    return {name: int(v) for name, v in zip(names, values, strict=True) if v is not None}


def _write_exclusions(inputs: DecisionInputs) -> tuple[list[str], int]:
    """Write the excluded rows of a task; paths of their files, and how many rows they are."""
    warehouse, task = inputs.project.warehouse, inputs.task
    count = int(inputs.engine.value(f"select count(*) from {inputs.exclusions}"))
    if not count and not warehouse.exists(EXCLUSIONS):
        return [], 0
    day = task.execution_date
    commit = warehouse.replace(
        EXCLUSIONS,
        lambda: inputs.engine.stream(
            f"select date '{day}' as ds, '{task.task_id}' as task_id, \"row\", reason "
            f'from {inputs.exclusions} order by "row"'
        ),
        days=[day],
        scope={"task_id": task.task_id},
    )
    landed = warehouse.files(EXCLUSIONS, first=day, last=day, version=commit.version)
    return [relative(warehouse.storage, path) for path in landed.get(day, [])], count


@dataclass(frozen=True)
class Decision:
    """A decision as it stands in the table.

    Attributes:
        task: the task as it is now.
        rows: the decision's rows, bound in an engine; none while the task is not decided.
        provenance: what it was made from; None for decisions from before this was kept.
    """

    task: Task
    rows: Relation
    provenance: Provenance | None

    @property
    def spec(self) -> CampaignSpec:
        """The campaign as it was decided by, else as it is now."""
        return self.task.spec if self.provenance is None else recorded_task(self.provenance).spec

    @property
    def policy(self) -> Policy:
        """The policy that chose: as it was written down, else the one the campaign asks for."""
        if self.provenance is None:
            return selection_policy(self.task.spec)
        return parse_policy(self.provenance.choice["policy"])


def read_decision(engine: Engine, project: Project, task: Task) -> Decision:
    """Bind the decision of a task that stands, whatever has become of its inputs since."""
    day = task.execution_date
    return Decision(
        task=task,
        rows=decided_rows(engine, project.warehouse, day, task.task_id),
        provenance=read_provenance(project.warehouse, task.task_id).get(day),
    )


@dataclass(frozen=True)
class Redecided:
    """A task whose send plan was thrown away.

    ``people`` counts the plan's rows by what had become of them; ``passed`` is whether the
    execution date lies before the business date.
    """

    task_id: str
    execution_date: date
    people: dict[str, int]
    passed: bool


def redecide(project: Project, task_id: str, actor: str, why: str) -> Redecided:
    """Throw a task's send plan away, so that the next run of its date decides and plans it anew.

    The reports of the earlier decision are removed, since they describe what does not stand.

    Raises:
        UserError: no such task, or as of :func:`discard_plan`.
    """
    one_task(project.store, task_id)  # a wrong name makes no lock file
    with project.alone(task_id):
        task = one_task(project.store, task_id)
        discarded = discard_plan(project.store, task, actor, why)
        for path in project.report_paths(task_id):
            path.unlink(missing_ok=True)
    day = task.execution_date
    return Redecided(task_id, day, discarded.people, day < project.settings.current_date())
