"""Groups of people by name: everyone, an RFM group, an AIPL stage, a segment, a task's people."""

from datetime import date

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.segments.snapshots import (
    bind_members,
    find_snapshot,
    good,
    read_snapshots,
)
from usergrowth_dagster.tags.flows import GROUPED, check_worked_out
from usergrowth_dagster.tags.user_tags import bind_user_tags
from usergrowth_dagster.warehouse.columns import types_of
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation, bind_days, bind_query

EVERYONE = "everyone"
SEGMENT, TASK = "segment", "task"

_DECIDED = {"ds": "DATE", "user_id": "VARCHAR", "outcome": "VARCHAR", "arm": "VARCHAR"}


def bind_people(engine: Engine, project: Project, name: str, day: date) -> Relation:
    """The people of a group as a relation with ``user_id``, each once.

    Args:
        engine: where it is bound.
        project: the home.
        name: ``everyone``, ``rfm:high_value``, ``aipl:L``, ``segment:lapsed`` (its newest snapshot
            up to the date), ``segment:lapsed@SNAPSHOT`` or ``task:december`` (those who were
            chosen to be contacted).
        day: the execution date; a task and a named snapshot have their own.

    Raises:
        UserError: there is no such group, or it has not been worked out for the date.
    """
    kind, _, rest = name.partition(":")
    if name == EVERYONE:
        tags = bind_user_tags(engine, project, day)
        sql = f"select distinct user_id from {tags}"
        return bind_query(engine, "people", sql, of=[tags], keep=True)
    if kind in GROUPED and rest:
        return _of_group(engine, project, kind, rest, day)
    if kind == SEGMENT and rest:
        return _of_segment(engine, project, rest, day)
    if kind == TASK and rest:
        return _of_task(engine, project, rest)
    raise UserError(
        f"{name!r}: choose everyone, rfm:GROUP, aipl:STAGE, segment:SEGMENT or task:TASK",
        code="command.invalid",
    )


def _of_group(engine: Engine, project: Project, table: str, group: str, day: date) -> Relation:
    column, columns, groups = GROUPED[table]
    if group not in groups:
        raise UserError(f"{table}:{group}: choose {', '.join(groups)}", code="command.invalid")
    check_worked_out(project, table, day)
    types = types_of(columns)
    rows = bind_days(engine, project.warehouse, table, [day], types)
    sql = f"select user_id from {rows} where {identifier(column)} = {literal(group)}"
    return bind_query(engine, "people", sql, of=[rows], keep=True)


def _of_segment(engine: Engine, project: Project, name: str, day: date) -> Relation:
    segment, _, snapshot = name.partition("@")
    records = read_snapshots(engine, project.warehouse, segment)
    if snapshot:
        chosen = find_snapshot(records, segment, snapshot)
    else:
        candidates = good(records, until=day)
        if not candidates:
            raise UserError(
                f"segment {segment!r} has no snapshot up to {day}; `usergrowth segment refresh "
                f"{segment} --date {day}` makes one",
                code="segment.unknown",
            )
        chosen = candidates[-1]
    members = bind_members(engine, project.warehouse, chosen)
    sql = f"select distinct user_id from {members}"
    return bind_query(engine, "people", sql, of=[members], keep=True)


def _of_task(engine: Engine, project: Project, task_id: str) -> Relation:
    from usergrowth_dagster.control.tasks import task

    day = task(project.store, task_id).execution_date
    rows = bind_days(engine, project.warehouse, "decisions", [day], _DECIDED, task_id=task_id)
    if not rows.files:
        raise UserError(f"task {task_id!r} has not been decided", code="task.undecided")
    sql = f"select distinct user_id from {rows} where arm = 'treatment' and outcome = 'selected'"
    return bind_query(engine, "people", sql, of=[rows], keep=True)
