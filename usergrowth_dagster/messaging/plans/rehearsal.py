"""A throw-away copy of what planning reads, so that a plan can be made without making one.

The copy holds no phone numbers, only their keyed hashes: a plan seals those of its own people, and
the copy is deleted with them.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, or_, select, update

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import GroupStatus, OccurrenceState, ReviewStatus
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.messaging.texts.links import with_example

message = schema.message
occurrence = schema.occurrence
_ROWS = 5_000
_WHOLE = (
    schema.meta,
    schema.campaign,
    schema.group,
    schema.training_job,
    schema.inference_job,
    schema.signature,
    schema.template,
    schema.schedule,
    schema.schedule_variant,
    schema.occurrence,
    schema.suppression,
    schema.person_key,
)
"""Tables in the order of their references."""
_SEALED = (schema.suppression, schema.message)


def copy_for_planning(
    source: ControlStore, copy: ControlStore, task: Task, since: datetime
) -> None:
    """Copy the control records, the suppressions, and the messages that a plan is held against.

    In the copy the campaign's signature, template and group are approved, so that a campaign can
    be rehearsed while it is reviewed.

    Args:
        source: the real store, which is only read.
        copy: a migrated, empty store.
        task: the task that will be planned in the copy.
        since: messages submitted after it are copied, and all of the task's schedule.
    """
    schedules = (
        select(schema.schedule.c.id)
        .join(schema.campaign, schema.campaign.c.id == schema.schedule.c.campaign_id)
        .where(schema.campaign.c.name == task.campaign)
    )
    of_schedule = message.c.occurrence_id.in_(
        select(occurrence.c.id).where(occurrence.c.schedule_id.in_(schedules))
    )
    with source.read() as reader, copy.write() as writer:
        for table in _WHOLE:
            writer.execute(table.delete())  # a new store may have noted something in meta
            for rows in _chunks(reader, table):
                writer.execute(table.insert(), rows)
        for rows in _chunks(reader, message, or_(message.c.sent_time > since, of_schedule)):
            writer.execute(message.insert(), rows)
        for table in (schema.signature, schema.template):
            writer.execute(update(table).values(status=ReviewStatus.APPROVED))
        writer.execute(update(schema.group).values(status=GroupStatus.PASSED))


def as_of_morning(copy: ControlStore, task: Task, moment: datetime) -> None:
    """Leave in a copy what held at a moment: of the task nothing, of the others nothing to send.

    Args:
        copy: a store that :func:`copy_for_planning` has filled.
        task: is planned anew in the copy, also where it has a plan.
        moment: messages submitted after it are left out.
    """
    campaign, schedule = schema.campaign, schema.schedule
    runs = select(occurrence.c.id).where(occurrence.c.task_id == task.task_id)
    mine = select(campaign.c.id).where(campaign.c.name == task.campaign)
    with copy.write() as writer:
        writer.execute(
            message.delete().where(
                or_(message.c.occurrence_id.in_(runs), message.c.sent_time > moment)
            )
        )
        writer.execute(occurrence.delete().where(occurrence.c.task_id == task.task_id))
        writer.execute(update(occurrence).values(state=OccurrenceState.DONE))
        writer.execute(update(schedule).values(paused=schedule.c.campaign_id.not_in(mine)))


def with_example_links(copy: ControlStore, occurrence_id: int) -> None:
    """Write an example in the place of the short links of a copy's occurrence.

    The ids of a copy's messages will be other people's, and so would be their links.
    """
    mine = occurrence.c.id == occurrence_id
    with copy.write() as writer:
        row = writer.execute(select(occurrence).where(mine)).mappings().one()
        root = row["link_domain"]
        if root is None:
            return
        content = with_example(row["content"], row["link"], root)
        variants = row["variants"] and {
            name: {**text, "content": with_example(text["content"], text.get("link"), root)}
            for name, text in row["variants"].items()
        }
        values = {"content": content, "variants": variants, "link": None, "link_domain": None}
        writer.execute(update(occurrence).where(mine).values(**values))


def _chunks(
    reader: Connection, table: Table, *conditions: ColumnElement[bool]
) -> Iterator[list[dict[str, Any]]]:
    """A table's rows, without sealed numbers and what a plan has no use for."""
    blank: dict[str, Any] = {"phone_number": None} if table in _SEALED else {}
    if table is message:
        blank |= {"batch_id": None, "template_params": "{}"}
    query = select(*(column for column in table.c if column.name not in blank)).where(*conditions)
    rows = reader.execution_options(yield_per=_ROWS).execute(query)
    for part in rows.mappings().partitions(_ROWS):
        yield [{**row, **blank} for row in part]
