"""The rows of an export on an execution date, worked out once and kept until they have gone out."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from usergrowth_dagster.addresses.sql import number_sql
from usergrowth_dagster.audience.hashing import relation_hash
from usergrowth_dagster.audience.records import TABLE as DECISIONS
from usergrowth_dagster.control.codes import JobStatus
from usergrowth_dagster.control.tasks import Task, campaigns, tasks_for
from usergrowth_dagster.control.tasks import task as one_task
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.exports.columns import ADDRESSES
from usergrowth_dagster.exports.definition import Export
from usergrowth_dagster.messaging.policy.refused_people import mark_refusals
from usergrowth_dagster.pipeline.score import SCORES
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import identifier, literal, literals
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.population import POPULATION
from usergrowth_dagster.warehouse.relation import Relation, bind_days

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 20_000
"""Rows of a batch that goes out at once."""

_UPLOAD = {
    "task_id": "VARCHAR",
    "row": "BIGINT",
    "user_id": "VARCHAR",
    "phone": "VARCHAR",
    "variables": "MAP(VARCHAR, VARCHAR)",
}
_REASONS = ("forgotten", "refused")


@dataclass(frozen=True)
class OutColumn:
    """One column of what goes out.

    Attributes:
        name: as the destination knows it.
        column: as the home knows it.
        kind: its DuckDB type.
        meaning: what it holds.
    """

    name: str
    column: str
    kind: str
    meaning: str


@dataclass(frozen=True)
class ExportRows:
    """The rows of one export and date, in one engine.

    Attributes:
        engine: holds them.
        relation: table with ``row`` (1, 2, 3 …), ``user_id``, ``task_id``, then ``c0``, ``c1`` …
        columns: what ``c0``, ``c1`` … are.
        tasks: ids of the tasks that they come from.
        waiting: ids of tasks of the date that have not been decided or scored.
        rows: how many there are.
        digest: hash of their content and order.
        left_out: rows that stay at home, by reason: forgotten, refused.
        versions: newest version of each table that was read.
    """

    engine: Engine
    relation: str
    columns: tuple[OutColumn, ...]
    tasks: tuple[str, ...]
    waiting: tuple[str, ...]
    rows: int
    digest: str
    left_out: Mapping[str, int]
    versions: Mapping[str, int]

    @property
    def names(self) -> list[str]:
        """The columns' names outside, in order."""
        return [column.name for column in self.columns]

    def value_sql(self, name: str) -> str:
        """SQL of the column that has a name outside, for queries on the relation."""
        return f"c{self.names.index(name)}"

    def stream(
        self, *, after: int = 0, until: int | None = None, batch_rows: int = BATCH_ROWS
    ) -> "pa.RecordBatchReader":
        """The rows with their names outside, in order.

        Args:
            after: number of the row before the first.
            until: number of the last row; default: all.
            batch_rows: rows of a batch.
        """
        named = ", ".join(
            f"c{place} as {identifier(column.name)}" for place, column in enumerate(self.columns)
        )
        last = "" if until is None else f' and "row" <= {int(until)}'
        return self.engine.stream(
            f'select {named} from {self.relation} where "row" > {int(after)}{last} order by "row"',
            batch_rows,
        )

    def numbered(self, number: str, condition: str) -> "pa.RecordBatchReader":
        """Rows with their numbers before them, in order.

        Args:
            number: name of the numbers.
            condition: SQL condition on ``row``.
        """
        named = ", ".join(
            f"c{place} as {identifier(column.name)}" for place, column in enumerate(self.columns)
        )
        return self.engine.stream(
            f'select "row" as {identifier(number)}, {named} from {self.relation} '
            f'where {condition} order by "row"',
            BATCH_ROWS,
        )


def input_fingerprint(export: Export, rows: ExportRows) -> str:
    """One hash of what goes out: the rows, their names and their form."""
    parts = {
        "rows": rows.digest,
        "columns": [[column.name, column.column, column.kind] for column in rows.columns],
        "form": export.model_dump(
            mode="json", include={"format", "for_spreadsheets", "file_rows", "expires_after_days"}
        ),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def tasks_of(project: Project, export: Export, day: date, task_id: str | None = None) -> list[Task]:
    """The tasks of a date that an export is of, whether they are decided or not.

    Args:
        project: the home.
        export: the export.
        day: the execution date.
        task_id: only this task.

    Raises:
        UserError: a task or a campaign that is named does not exist, or the task is none of the
            export's.
    """
    kind = export.audience or export.scores
    assert kind is not None
    if task_id is not None and kind.task not in (None, task_id):
        raise UserError(
            f"export {export.name} is of task {kind.task!r}, not of {task_id!r}",
            code="command.invalid",
        )
    wanted = task_id or kind.task
    if wanted is not None:
        one_task(project.store, wanted)
    campaign = export.audience.campaign if export.audience is not None else None
    if campaign is not None and campaign not in (known := campaigns(project.store)):
        raise UserError(
            f"export {export.name}: there is no campaign {campaign!r}; there are "
            f"{', '.join(known) or 'none'}",
            code="campaign.unknown",
        )
    return [
        task
        for task in tasks_for(project.store, day)
        if wanted in (None, task.task_id) and campaign in (None, task.campaign)
    ]


def bind_rows(
    engine: Engine,
    project: Project,
    export: Export,
    day: date,
    *,
    task_id: str | None = None,
    keep_item: bool = False,
) -> ExportRows:
    """Work out what goes out for an execution date.

    Args:
        engine: where the rows are kept.
        project: the home.
        export: the export.
        day: the execution date.
        task_id: only this task.
        keep_item: whether ``item_id`` stays among the default columns when no row has an item.

    Raises:
        UserError: an unknown task, or an upload that has changed since it was decided.
    """
    table = SCORES if export.scores is not None else DECISIONS
    listed = tasks_of(project, export, day, task_id)
    ready = [task for task in listed if _is_final(project, task, table)]
    people = _bind_people(engine, project, export, day, table, ready)
    tasks = [task.task_id for task in ready]
    if export.scores is not None:  # another question's model may have scored some
        tasks = [
            name for (name,) in engine.rows(f"select distinct task_id from {people} order by 1")
        ]
    left_out = _leave_out(engine, project, export, people)
    outside = _out_columns(engine, export, people, keep_item=keep_item)
    relation = _number_rows(engine, people, outside)
    places = [f"c{place}" for place in range(len(outside))]
    digest, rows = relation_hash(engine, relation, [*places, "task_id"])
    versions = {name: project.warehouse.version(name) for name in (table, POPULATION)}
    return ExportRows(
        engine=engine,
        relation=relation,
        columns=outside,
        tasks=tuple(tasks),
        waiting=tuple(task.task_id for task in listed if task not in ready),
        rows=rows,
        digest=digest,
        left_out=left_out,
        versions={name: number for name, number in versions.items() if number is not None},
    )


def _is_final(project: Project, task: Task, table: str) -> bool:
    """Whether a task has its rows, and the chain has finished with it."""
    scope = {"task_id": task.task_id}
    if project.warehouse.fingerprint(table, task.execution_date, scope) is None:
        return False
    return table == SCORES or task.frozen or task.status == JobStatus.SUCCESS


def _bind_people(
    engine: Engine,
    project: Project,
    export: Export,
    day: date,
    table: str,
    tasks: Sequence[Task],
) -> Relation:
    """The rows of the tasks with ``n``, what the export may carry, and their addresses."""
    kinds = {
        name: kind for name, (kind, _) in export.known_columns.items() if name not in ADDRESSES
    }
    days = [day] if tasks else []
    rows = bind_days(engine, project.warehouse, table, days, kinds)
    upload = bind_days(engine, project.warehouse, POPULATION, days, _UPLOAD)
    conditions = [
        f"t.task_id in ({literals(task.task_id for task in tasks)})" if tasks else "false"
    ]
    if export.audience is not None and export.rows == "chosen":
        conditions.append("t.arm = 'treatment'")
    if export.scores is not None and export.scores.question is not None:
        conditions.append(f"t.model_name = {literal(export.scores.question)}")
    listed = ", ".join(f"t.{identifier(name)}" for name in kinds)
    name = engine.unique_name("people")
    engine.run(f"""
        create temp table {name} as
        select row_number() over (order by t.task_id, t."row") as n, {listed},
            coalesce({number_sql("p.phone")}, p.phone) as phone, p.variables['email'] as email,
            p.user_id is not distinct from t.user_id as same_person
        from {rows} as t left join {upload} as p using (task_id, "row")
        where {" and ".join(conditions)}""")
    _check_addresses(engine, export, name, day)
    columns = engine.describe(f"select * from {name}")
    return Relation(name, columns)


def _check_addresses(engine: Engine, export: Export, people: str, day: date) -> None:
    """Refuse addresses of an upload that is no longer the one that was decided."""
    if not export.addresses:
        engine.run(f"update {people} set phone = null, email = null where not same_person")
        return
    strangers = engine.rows(
        f"select task_id, count(*) from {people} where not same_person group by 1 order by 1"
    )
    if strangers:
        task, count = strangers[0]
        raise UserError(
            f"export {export.name}: population of task {task!r} on {day}: {count} rows are not in "
            "it as they were decided, since it was uploaded again, so their addresses are not "
            "known; decide the task anew",
            code="population.invalid",
        )


def _leave_out(
    engine: Engine, project: Project, export: Export, people: Relation
) -> dict[str, int]:
    """Remove the people who must not go out; how many, by reason."""
    marked = mark_refusals(engine, project.settings, project.store, people)
    refused = "refuses" if export.leaves_out_refusals else "false"
    reason = f"case when forgotten then 'forgotten' when {refused} then 'refused' end"
    counts = dict(engine.rows(f"select {reason} as reason, count(*) from {marked} group by 1"))
    engine.run(
        f"delete from {people} where n in (select n from {marked} where forgotten or ({refused}))"
    )
    return {name: int(counts.get(name, 0)) for name in _REASONS}


def _out_columns(
    engine: Engine, export: Export, people: Relation, *, keep_item: bool
) -> tuple[OutColumn, ...]:
    named = dict(export.by_name)
    if not export.columns and not keep_item:
        with_item = engine.value(f"select count(*) from {people} where item_id <> ''")
        if not with_item:
            del named["item_id"]
    return tuple(
        OutColumn(outside, column, *export.known_columns[column])
        for outside, column in named.items()
    )


def _number_rows(engine: Engine, people: Relation, columns: Sequence[OutColumn]) -> str:
    """The table of the rows, numbered from 1 without a gap."""
    name = engine.unique_name("export_rows")
    listed = ", ".join(
        f"{identifier(column.column)} as c{place}" for place, column in enumerate(columns)
    )
    engine.run(
        f'create temp table {name} as select row_number() over (order by n) as "row", '
        f"user_id, task_id, {listed} from {people}"
    )
    engine.run(f"drop table {people}")
    return name
