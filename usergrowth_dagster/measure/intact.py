"""Whether a decision is still the one that was made: its rows against its commit and the ledger.

Rows of a Delta table can be deleted or changed by any program. What a decision's commit noted of it
(rows by arm, and their hash, see :mod:`usergrowth_dagster.pipeline.provenance`) says what was
decided; the send ledger says who got a text because of it. Rows of forgotten persons may leave:
erasure notes how many it took of each arm, and puts a tombstone for the person's name in the
ledger.
"""

from collections.abc import Mapping

from usergrowth_dagster.audience.hashing import relation_hash
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.effects.result import Altered
from usergrowth_dagster.messaging.people.forget import forgotten_hashes
from usergrowth_dagster.pipeline.decide import Decision
from usergrowth_dagster.pipeline.provenance import Provenance, read_provenance
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation

_WORDS = {"treatment": "texted users", "control": "held-out users", "none": "users not chosen"}
_CANNOT = "so the arms cannot be compared"


def altered_decision(
    engine: Engine, project: Project, decision: Decision, own_texts: Relation
) -> Altered | None:
    """What is not as it was decided; None when all is, or nothing was noted.

    Args:
        engine: holds the relations.
        project: the home.
        decision: as it stands.
        own_texts: of its task, by user, from the ledger.
    """
    by_arm = engine.rows(f"select arm, count(*) from {decision.rows} group by arm")
    standing = {str(arm): int(rows) for arm, rows in by_arm}
    provenance = decision.provenance
    if provenance is not None:
        altered = _miscounted(project, provenance, standing)
        if altered is None and not provenance.erased and not _unnoted(project, provenance):
            altered = _rewritten(engine, decision.rows, provenance)
        if altered is not None:
            return altered
    return _texted_strangers(engine, decision.rows, own_texts)


def altered_arms(project: Project, task: Task, standing: Mapping[str, int]) -> Altered | None:
    """As :func:`altered_decision`, by the number of rows of each arm alone."""
    provenance = read_provenance(project.warehouse, task.task_id).get(task.execution_date)
    return None if provenance is None else _miscounted(project, provenance, standing)


def _unnoted(project: Project, provenance: Provenance) -> bool:
    """Whether rows may have been erased without a note: by a version that made none."""
    return not provenance.arms and bool(forgotten_hashes(project.store))


def _miscounted(
    project: Project, provenance: Provenance, standing: Mapping[str, int]
) -> Altered | None:
    """The arm that has other rows than were decided, less those of forgotten persons."""
    for arm in ("treatment", "control", "none"):
        wanted = provenance.arms.get(arm, 0) - provenance.erased.get(arm, 0)
        if provenance.arms and standing.get(arm, 0) != wanted:
            forgot = provenance.erased.get(arm, 0)
            less = f" (without {forgot:,} of persons forgotten since)" if forgot else ""
            return Altered(
                arm if arm != "none" else None,
                f"the decision held {wanted:,} {_WORDS[arm]} when it was made{less} and holds "
                f"{standing.get(arm, 0):,} now, {_CANNOT}",
            )
    rows = sum(standing.values())
    if not provenance.arms and rows != provenance.rows and not _unnoted(project, provenance):
        return Altered(
            None,
            f"the decision held {provenance.rows:,} rows when it was made and holds {rows:,} now, "
            f"{_CANNOT}",
        )
    return None


def _rewritten(engine: Engine, rows: Relation, provenance: Provenance) -> Altered | None:
    """Rows that are as many as were decided, but say something else."""
    digest, _ = relation_hash(engine, rows.name, provenance.columns)
    if digest == provenance.hash:
        return None
    return Altered(
        None,
        "rows of the decision were changed after it was made: their hash is another than its "
        f"commit noted, {_CANNOT}; usergrowth replay {provenance.task_id} reports what differs",
    )


def _texted_strangers(engine: Engine, rows: Relation, own_texts: Relation) -> Altered | None:
    """Texts of the task's occurrences to people whom its decision does not hold.

    A control user who was texted is none of these: the row is there, and its arm is what was drawn.
    """
    strangers = int(
        engine.value(
            f"select count(*) from {own_texts} as m where (m.sent or m.later) "
            "and m.user_id not like 'forgotten-%' "
            f"and not exists (select 1 from {rows} as d where d.user_id = m.user_id "
            "and d.arm in ('treatment', 'control'))"
        )
    )
    if not strangers:
        return None
    return Altered(
        "treatment",
        f"{strangers:,} users were texted because of the decision and are not in it any more, "
        f"{_CANNOT}",
    )
