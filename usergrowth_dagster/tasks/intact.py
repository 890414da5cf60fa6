"""Whether a decision is still the one that was made: its rows against its commit and the ledger.

Rows of a Delta table can be deleted or changed by any program. What a decision's commit noted of it
(rows by arm, and their hash, see :mod:`usergrowth_dagster.tasks.pins`) says what was decided; the
send ledger says who got a text because of it. Rows of forgotten persons may leave: erasure notes
how many it took of each arm, and puts a tombstone for the person's name in the ledger.
"""

from collections.abc import Mapping

from usergrowth_dagster.audience.hashing import relation_hash
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.effects.result import Altered
from usergrowth_dagster.messaging.people.forget import forgotten_hashes
from usergrowth_dagster.tasks.pins import Pins, read_pins
from usergrowth_dagster.tasks.project import Project
from usergrowth_dagster.warehouse.engine import Engine

_WORDS = {"treatment": "texted users", "control": "held-out users", "none": "users not chosen"}
_CANNOT = "so the arms cannot be compared"


def altered_decision(engine: Engine, project: Project, task: Task) -> Altered | None:
    """What is not as it was decided; None when all is, or nothing was noted.

    Args:
        engine: has the relation ``decisions``, of the task, and ``own_texts``, of its ledger.
        project: the home.
        task: the task.
    """
    standing = {
        str(arm): int(rows)
        for arm, rows in engine.rows("select arm, count(*) from decisions group by arm")
    }
    pins = read_pins(project.warehouse, task.task_id).get(task.execution_date)
    if pins is not None:
        found = _miscounted(project, pins, standing)
        if found is None and not pins.erased and not _unnoted(project, pins):
            found = _rewritten(engine, pins)
        if found is not None:
            return found
    return _texted_strangers(engine)


def altered_arms(project: Project, task: Task, standing: Mapping[str, int]) -> Altered | None:
    """As :func:`altered_decision`, by the number of rows of each arm alone."""
    pins = read_pins(project.warehouse, task.task_id).get(task.execution_date)
    return None if pins is None else _miscounted(project, pins, standing)


def _unnoted(project: Project, pins: Pins) -> bool:
    """Whether rows may have been erased without a note: by a version that made none."""
    return not pins.arms and bool(forgotten_hashes(project.store))


def _miscounted(project: Project, pins: Pins, standing: Mapping[str, int]) -> Altered | None:
    """The arm that has other rows than were decided, less those of forgotten persons."""
    for arm in ("treatment", "control", "none"):
        wanted = pins.arms.get(arm, 0) - pins.erased.get(arm, 0)
        if pins.arms and standing.get(arm, 0) != wanted:
            forgot = pins.erased.get(arm, 0)
            less = f" (without {forgot:,} of persons forgotten since)" if forgot else ""
            return Altered(
                arm if arm != "none" else None,
                f"the decision held {wanted:,} {_WORDS[arm]} when it was made{less} and holds "
                f"{standing.get(arm, 0):,} now, {_CANNOT}",
            )
    rows = sum(standing.values())
    if not pins.arms and rows != pins.rows and not _unnoted(project, pins):
        return Altered(
            None,
            f"the decision held {pins.rows:,} rows when it was made and holds {rows:,} now, "
            f"{_CANNOT}",
        )
    return None


def _rewritten(engine: Engine, pins: Pins) -> Altered | None:
    """Rows that are as many as were decided, but say something else."""
    digest, _ = relation_hash(engine, "decisions", pins.columns)
    if digest == pins.hash:
        return None
    return Altered(
        None,
        "rows of the decision were changed after it was made: their hash is another than its "
        f"commit noted, {_CANNOT}; usergrowth replay {pins.task_id} tells what differs",
    )


def _texted_strangers(engine: Engine) -> Altered | None:
    """Texts of the task's occurrences to people whom its decision does not hold.

    A control user who was texted is none of these: the row is there, and its arm is what was drawn.
    """
    strangers = int(
        engine.value(
            "select count(*) from own_texts as m where (m.sent or m.later) "
            "and m.user_id not like 'forgotten-%' "
            "and not exists (select 1 from decisions as d where d.user_id = m.user_id "
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
