"""What is written down of a decision: the note of its commit, and the rows that were excluded."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.audience.decisions import DECISION_COLUMNS
from usergrowth_dagster.audience.hashing import relation_hash
from usergrowth_dagster.pipeline.exclusions import rules_of
from usergrowth_dagster.pipeline.inputs import DecisionInputs
from usergrowth_dagster.pipeline.provenance import (
    EXCLUSIONS,
    Provenance,
    choice_note,
    code_version,
    deciding_settings,
    file_hashes,
    part_hashes,
    relative,
    table_versions,
)
from usergrowth_dagster.warehouse.relation import Relation, bind_arrow

if TYPE_CHECKING:
    import pyarrow as pa


def record_provenance(inputs: DecisionInputs, decided: "pa.Table") -> dict[str, Any]:
    """The note of a decision's commit; writes the rows that were excluded.

    Args:
        inputs: what was decided from.
        decided: the decision.
    """
    task, settings = inputs.task, inputs.project.settings
    excluded_files, excluded = _write_exclusions(inputs)
    rows = bind_arrow(inputs.engine, "decided", decided)
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
        files=file_hashes(storage, task, [*read, *excluded_files]),
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
    )
    inputs.engine.run(f"drop table {rows}")
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
        inputs.engine.arrow(
            f"select date '{day}' as ds, '{task.task_id}' as task_id, \"row\", reason "
            f'from {inputs.exclusions} order by "row"'
        ),
        days=[day],
        scope={"task_id": task.task_id},
    )
    landed = warehouse.files(EXCLUSIONS, first=day, last=day, version=commit.version)
    return [relative(warehouse.storage, path) for path in landed.get(day, [])], count
