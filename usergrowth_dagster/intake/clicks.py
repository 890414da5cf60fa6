"""Clicks on our own texts, as landing files: what people did with a text feeds the next features.

Each day's file ``behavior/ds=<day>/usergrowth-clicks.csv`` has a row with the behavior ``click``
for every message whose link a person called on that business day: ``hhXX:n`` for the calls by hour,
the item of the message, and ``channel:… campaign:… task:… variant:…``. Calls of bots are not in it.

A person who was forgotten is in no file. A file with the same content is left alone, so the day is
not landed again; one that would be empty is removed. A home without clicks has no such file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Select, func, select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.campaign_blocks import CLICK
from usergrowth_dagster.control.wall_clock import moment_of
from usergrowth_dagster.data.contracts import CONTRACTS
from usergrowth_dagster.intake.touches import clean, kvs, write_rows
from usergrowth_dagster.messaging.receiving.clicks import Caller
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.warehouse.engine import Engine, open_engine

if TYPE_CHECKING:
    import pyarrow as pa

FILE_NAME = "usergrowth-clicks.csv"
"""Name of our own file in each day's folder of ``behavior``."""

_ROWS = 50_000
_TEXTS = ("user_id", "item_id", "variant", "task_id", "campaign", "channel")


@dataclass(frozen=True)
class LandedClicks:
    """A day's file: its people, messages and calls, and what was done.

    ``state`` is written, unchanged, removed or none.
    """

    day: date
    people: int
    messages: int
    clicks: int
    state: str


def days_with_clicks(project: Project) -> list[date]:
    """The business days from that of the first click to that of the newest; empty: no clicks."""
    moment = schema.click.c.time
    query = select(func.min(moment), func.max(moment)).where(_HUMAN)
    with project.store.read() as connection:
        first, last = connection.execute(query).one()
    if first is None:
        return []
    zone = project.settings.zone
    begin, end = (one.astimezone(zone).date() for one in (first, last))
    return [begin + timedelta(days=n) for n in range((end - begin).days + 1)]


def land_clicks(project: Project, days: Sequence[date]) -> list[LandedClicks]:
    """Write the landing files of the clicks of some days.

    Returns:
        One entry a day, in order; none where nobody ever clicked.
    """
    wanted = sorted(set(days))
    if not wanted or not days_with_clicks(project):
        return []
    with open_engine(project.settings) as engine:
        _bind_clicks(engine, project, wanted[0], wanted[-1])
        counts = {
            day: figures
            for day, *figures in engine.rows(
                "select day, count(distinct user_id), count(distinct message_id), sum(calls) "
                "from clicks group by day"
            )
        }
        landed = []
        for number, day in enumerate(wanted):
            rows = _rows_sql(day) if day in counts else None
            state = write_rows(engine, project.landing, day, rows, table="behavior", name=FILE_NAME)
            people, messages, calls = counts.get(day, (0, 0, 0))
            landed.append(LandedClicks(day, people, messages, int(calls), state))
            project.progress("clicks", number + 1, len(wanted))
    return landed


_C, _M, _O = schema.click, schema.message, schema.occurrence
_HUMAN = schema.click.c.kind == str(Caller.HUMAN)


def _calls(begin: datetime, end: datetime) -> Select[Any]:
    """Calls of people in [begin, end), a row a message and hour of UTC."""
    job, campaign = schema.inference_job, schema.campaign
    return (
        select(
            *(_C.c.message_id, _C.c.time, _C.c.count, _M.c.user_id, _M.c.user_hash, _M.c.item_id),
            *(_M.c.variant, _O.c.task_id, _M.c.channel, campaign.c.name.label("campaign")),
        )
        .join(_M, _M.c.id == _C.c.message_id)
        .join(_O, _O.c.id == _C.c.occurrence_id)
        .join(job, job.c.name == _O.c.task_id)
        .join(campaign, campaign.c.id == job.c.campaign_id)
        .where(_HUMAN, _C.c.time >= begin, _C.c.time < end)
    )


def _bind_clicks(engine: Engine, project: Project, first: date, last: date) -> None:
    """Make the table ``clicks``: one row a message and hour of the days [first, last]."""
    texts = ", ".join(f"{name} varchar" for name in _TEXTS)
    engine.run(
        "create or replace temp table clicks "
        f"(message_id bigint, calls bigint, day date, hour integer, {texts})"
    )
    zone = project.settings.zone
    begin = moment_of(datetime.combine(first, time()), zone)
    end = moment_of(datetime.combine(last + timedelta(days=1), time()), zone)
    with project.store.read() as connection:
        _load(engine, connection, _calls(begin, end), project.settings.timezone)


def _load(engine: Engine, connection: Connection, query: Select[Any], zone: str) -> None:
    result = connection.execution_options(yield_per=_ROWS).execute(query)
    for part in result.mappings().partitions(_ROWS):
        engine.bind_arrow("_part", _arrow(part, zone))
        engine.run(  # a forgotten person's row stands under a name made of the hash
            "insert into clicks select message_id, calls, cast(clicked as date), hour(clicked), "
            f"{', '.join(_TEXTS)} from _part "
            "where user_id <> 'forgotten-' || lower(hex(user_hash)) or user_hash is null"
        )


def _arrow(part: Sequence[Any], zone: str) -> "pa.Table":
    """Calls as Arrow; ``clicked`` is what the business clock showed."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = {name: pa.array([row[name] for row in part], pa.string()) for name in _TEXTS}
    columns["user_hash"] = pa.array([row["user_hash"] for row in part], pa.binary())
    columns["message_id"] = pa.array([row["message_id"] for row in part], pa.int64())
    columns["calls"] = pa.array([row["count"] for row in part], pa.int64())
    times = pa.array([row["time"] for row in part], pa.timestamp("us", "UTC"))
    local = pc.local_timestamp(times.cast(pa.timestamp("us", zone)))
    return pa.table({**columns, "clicked": local})


def _rows_sql(day: date) -> str:
    """A day's rows with the columns of the contract, in a total order."""
    cells = {
        "user_id": "user_id",
        "behavior": literal(CLICK),
        "item_id": "item_id",
        "kvs_num": "string_agg('hh' || lpad(hour::varchar, 2, '0') || ':' || calls, ' ' "
        "order by hour)",
        "kvs_str": kvs(
            {
                literal("channel"): clean("channel"),
                literal("campaign"): clean("campaign"),
                literal("task"): clean("task_id"),
                literal("variant"): clean("variant"),
            }
        ),
    }
    listed = ", ".join(f"{cells[name]} as {name}" for name in CONTRACTS["behavior"].names)
    by_hour = (
        f"select message_id, hour, sum(calls) as calls, {', '.join(_TEXTS)} from clicks "
        f"where day = date '{day}' group by all"
    )
    return (
        f"select {listed} from ({by_hour}) group by message_id, {', '.join(_TEXTS)} "
        "order by user_id, message_id"
    )
