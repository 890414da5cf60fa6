"""Smart send at planning: the chosen people with their zones and hour profiles get their times."""

from datetime import timedelta
from typing import TYPE_CHECKING

from usergrowth_dagster.addresses.sql import number_sql
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.messaging.policy.zones import recipient_zone
from usergrowth_dagster.messaging.schedules.occurrences import business_now
from usergrowth_dagster.messaging.schedules.smart_send import SmartWindow, choose_times
from usergrowth_dagster.messaging.schedules.windows import first_due, smart_end
from usergrowth_dagster.tasks.features import bind_table
from usergrowth_dagster.tasks.people import rules_of
from usergrowth_dagster.tasks.project import Project
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    import pyarrow as pa


def smart_window(project: Project, task: Task) -> SmartWindow:
    """What a smart send may choose from; what has passed already is left out."""
    settings, rules = project.settings, rules_of(project.settings, task)
    due = first_due(settings, {"execute_time": None}, task.spec, task.execution_date)
    rate = settings.gateway_rate
    return SmartWindow(
        opens=max(due, business_now(settings)),
        closes=smart_end(settings, task.spec),
        zone=settings.zone,
        send_from=rules.send_from,
        send_until=rules.send_until,
        capacity=None if rate is None else max(1, int(rate * 3600)),
    )


def bind_smart_times(
    engine: Engine, project: Project, task: Task, recipients: str, address: str
) -> None:
    """Make the table ``smart_times`` for the recipients of a task that can be sent to.

    The capacity of an hour is that of the setting ``gateway_rate``; without it there is no limit.

    Args:
        engine: where the relations are.
        project: the home.
        task: a decided task with a smart send.
        recipients: relation of ``row``, ``rank``, ``user_id``, ``phone``, ``zone`` (the attribute),
            ``segments`` and ``reason`` (why somebody is not sent to).
        address: its column with the address of the channel.
    """
    day = task.execution_date
    days = [day - timedelta(days=back) for back in range(1, project.settings.lookback_days + 1)]
    bind_table(engine, project, "user_day", days)
    engine.run(
        """
        create or replace temp table smart_reached as
        select "row", rank as place, user_id, zone as attribute,
            """
        f"coalesce({number_sql('phone')}, '') as number from {recipients} "
        "where reason is null and segments is not null "
        f"and trim(coalesce({address}, '')) != ''"
    )
    keys = f"attribute, length(number) as size, {_TOLD} as told"
    engine.run(f"create or replace temp view smart_keyed as select *, {keys} from smart_reached")
    engine.bind_arrow("smart_zones", _zones(engine))
    engine.run(
        """
        create or replace temp table smart_people as
        select k."row", k.place, k.user_id, z.zone
        from smart_keyed as k
        left join smart_zones as z
            on z.size = k.size and z.told = k.told and z.attribute is not distinct from k.attribute
        """
    )
    choose_times(engine, "smart_people", "user_day", smart_window(project, task))


_TOLD = "left(number, case when starts_with(number, '+1') or starts_with(number, '+86') "
_TOLD += "then 8 else 11 end)"
"""The part of a number that tells its zone, at most (see ``messaging.zones``)."""


def _zones(engine: Engine) -> "pa.Table":
    """Zones by attribute, and by length and beginning of the number; so many, not one a person."""
    import pyarrow as pa

    found = engine.rows(
        "select attribute, size, told, any_value(number) from smart_keyed group by all"
    )
    zones = [(row[0], row[1], row[2], recipient_zone(row[0], row[3])) for row in found]
    layout = pa.schema(
        [
            *(("attribute", pa.string()), ("size", pa.int64())),
            *(("told", pa.string()), ("zone", pa.string())),
        ]
    )
    columns = [list(column) for column in zip(*zones, strict=True)] or [[] for _ in layout]
    return pa.table(dict(zip(layout.names, columns, strict=True)), schema=layout)
