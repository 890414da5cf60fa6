"""What an occurrence freezes of the signature and the texts, which must be approved."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, Table, select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import Kind, ReviewStatus
from usergrowth_dagster.control.store import TABLES
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.errors import UserError


@dataclass(frozen=True)
class FrozenText:
    """One text of an occurrence, as it was when the occurrence was planned."""

    template_code: str
    content: str
    subject: str | None


def approved_records(connection: Connection, task: Task) -> tuple[RowMapping, list[RowMapping]]:
    """The signature and the texts of a task's campaign, the template's own text first.

    Raises:
        UserError: one of them is not approved, so nothing of the campaign may be sent; names it.
    """
    (signature,) = _approved(connection, Kind.SIGNATURE, [task.spec.signature.name], task)
    names = [text.name for text in task.spec.template.texts]
    return signature, _approved(connection, Kind.TEMPLATE, names, task)


def _approved(connection: Connection, kind: Kind, names: list[str], task: Task) -> list[RowMapping]:
    table = TABLES[kind]
    query = select(table).where(table.c.name.in_(names))
    by_name = {row["name"]: row for row in connection.execute(query).mappings()}
    if lacking := [name for name in names if name not in by_name]:
        raise UserError(
            f"campaign {task.campaign!r} has no {kind} {lacking[0]!r}; apply its YAML file again",
            code="campaign.unknown",
        )
    rows = [by_name[name] for name in names]
    waiting = [row for row in rows if row["status"] is not ReviewStatus.APPROVED]
    if waiting:
        row = waiting[0]
        why = f" ({row['reason']})" if row["reason"] else ""
        others = ", ".join(repr(other["name"]) for other in waiting[1:])
        more = f", and so are not approved {others}" if others else ""
        raise UserError(
            f"campaign {task.campaign!r}: {kind} {row['name']!r} is "
            f"{row['status'].name.lower()}{why}{more}; only approved ones can be sent, so have it "
            "reviewed and run again",
            code="text.not_approved",
        )
    return rows


def variants_of(texts: list[RowMapping]) -> dict[str, Any] | None:
    """The texts by name, as an occurrence keeps them; None when there is one."""
    if len(texts) == 1:
        return None
    return {row["name"]: {key: row[key] for key in FrozenText.__annotations__} for row in texts}


def rejected_variants(schedule: Table) -> Select[tuple[int]]:
    """The rejected ones of the further texts of the schedule of an outer query."""
    variant, template = schema.schedule_variant, schema.template
    return (
        select(variant.c.template_id)
        .join(template, template.c.id == variant.c.template_id)
        .where(variant.c.schedule_id == schedule.c.id, template.c.status == ReviewStatus.REJECTED)
        .correlate(schedule)
    )
