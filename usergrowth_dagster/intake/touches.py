"""What our own campaigns sent, as landing files: the loop from a decision to the next training.

Each day's file ``operation/ds=<day>/usergrowth-touches.csv`` has

* a row with the target ``sms`` (or ``email``) for every message that the provider accepted, on the
  business day on which it was submitted: ``hhXX:1 messages:n propensity:p`` and ``channel:…
  campaign:… task:… copy:… variant:…``;
* a row with the target ``holdout`` for everyone whom the same decision drew not to be texted, on
  the day on which that occurrence of the campaign was due: the control groups, and those below the
  cut of a campaign that explores, who might have been texted at random. Where the chance of being
  texted was none there is no row: nothing can be learned of them. An occurrence of which nothing
  was accepted leaves no rows, since nobody would have been touched.

``propensity`` is the chance of the row's own arm as it was drawn. So both arms land beside any
other operation files of the day, and become rows of the training sets like anyone's.

Limit: the arms are not counted alike. A touch is a message that was accepted, on the day it went
out; a person held out counts whether or not a message to them would have been accepted, on the day
it was due. So an effect learned from these rows is one of accepted messages, and is off where many
are refused or late; the effect of a campaign is measured from its decision, by intention to treat.

A person who was forgotten is in no file, and is erased from those that are there. A file with the
same content is left alone, so the day is not landed again; one that would be empty is removed.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sqlalchemy import Connection, Select, or_, select

from usergrowth_dagster.audience.records import decided_rows
from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.control.wall_clock import moment_of
from usergrowth_dagster.data.contracts import CONTRACTS, NULL_TEXT
from usergrowth_dagster.data.landing import day_folder, folder_of
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.messaging.schedules.occurrences import channel_by_text
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.relation import Relation

if TYPE_CHECKING:
    import pyarrow as pa

FILE_NAME = "usergrowth-touches.csv"
"""Name of our own file in each day's folder of ``operation``."""

_BLOCK = 1 << 20

HOLDOUT = "holdout"
"""Target of the rows of people who were drawn not to be texted."""

ACCEPTED = (
    MessageState.ACCEPTED,
    MessageState.DELIVERED,
    MessageState.UNDELIVERED,
    MessageState.EXPIRED,  # after the provider took it, when it has a sent_time
)
"""States of messages that the provider accepted, with a ``sent_time``."""

_M, _O = schema.message, schema.occurrence
_ROWS = 50_000
_KINDS = {
    "day": "date",
    "target": "varchar",
    "user_id": "varchar",
    "item_id": "varchar",
    "hour": "integer",
    "segments": "integer",
    "propensity": "double",
    "campaign": "varchar",
    "task_id": "varchar",
    "copy": "varchar",
    "variant": "varchar",
    "channel": "varchar",
    "occurrence": "bigint",
}


@dataclass(frozen=True)
class ExportedDay:
    """A day's file: its touches and held-out rows, and what was done: written, unchanged, none."""

    day: date
    touches: int
    held_out: int
    state: str


def export_touches(project: Project, days: Sequence[date]) -> list[ExportedDay]:
    """Write the landing files of what our own campaigns sent on some days.

    With the setting ``export_touches: false`` nothing is written, and what is there stays.

    Returns:
        One entry a day, in order.
    """
    wanted = sorted(set(days))
    if not wanted or not project.settings.export_touches:
        return []
    with open_engine(project.settings) as engine:
        bind_touches(engine, project, wanted[0], wanted[-1])
        counts = {
            day: (touches, holdouts)
            for day, touches, holdouts in engine.rows(
                f"select day, count(*) filter (where target <> '{HOLDOUT}'), "
                f"count(*) filter (where target = '{HOLDOUT}') from touches group by day"
            )
        }
        exported = []
        for number, day in enumerate(wanted):
            rows = _rows_sql(day) if day in counts else None
            state = write_rows(engine, project.landing, day, rows)
            exported.append(ExportedDay(day, *counts.get(day, (0, 0)), state))
            project.progress("touches", number + 1, len(wanted))
    return exported


def bind_touches(engine: Engine, project: Project, first: date, last: date) -> None:
    """Make the table ``touches``: touches and held-out rows of the days [first, last].

    Its columns: day, target, user_id, item_id, hour (business hour of submission), segments,
    propensity (null when the decision is not known), campaign, task_id, copy, variant, channel,
    occurrence.
    """
    columns = ", ".join(f"{name} {kind}" for name, kind in _KINDS.items())
    engine.run(f"create or replace temp table touches ({columns})")
    zone = project.settings.zone
    begin = moment_of(datetime.combine(first, time()), zone)
    end = moment_of(datetime.combine(last + timedelta(days=1), time()), zone)
    with project.store.read() as connection:
        occurrences = [
            dict(row) for row in connection.execute(_occurrences(begin, end)).mappings().all()
        ]
        _load_sent(engine, connection, begin, end, project.settings.timezone)
    for made in occurrences:
        due = made["due"].astimezone(zone).date()
        day = made["audience_date"] or made["execution_date"]
        decisions = decided_rows(engine, project.warehouse, day, made["task_id"])
        _add(engine, made, decisions, due if first <= due <= last else None)


def _occurrences(begin: datetime, end: datetime) -> Select[Any]:
    """Occurrences with accepted messages that are due, or have such a message, in [begin, end)."""
    took = (_M.c.occurrence_id == _O.c.id, _M.c.state.in_(ACCEPTED), _M.c.sent_time.is_not(None))
    within = (_M.c.sent_time >= begin, _M.c.sent_time < end)
    job, campaign, template = schema.inference_job, schema.campaign, schema.template
    return (
        select(
            *(_O.c.id, _O.c.task_id, _O.c.due, _O.c.audience_date, _O.c.channel, _O.c.variants),
            job.c.execution_date,
            campaign.c.name.label("campaign"),
            template.c.name.label("template"),
        )
        .join(job, job.c.name == _O.c.task_id)
        .join(campaign, campaign.c.id == job.c.campaign_id)
        .outerjoin(template, template.c.template_code == _O.c.template_code)
        .where(
            or_(
                select(_M.c.id).where(*took, *within).exists(),
                (_O.c.due >= begin) & (_O.c.due < end) & select(_M.c.id).where(*took).exists(),
            )
        )
        .order_by(_O.c.id)
    )


def _load_sent(
    engine: Engine, connection: Connection, begin: datetime, end: datetime, zone: str
) -> None:
    """Make the table ``_sent``: messages accepted in [begin, end), with their day and hour."""
    engine.run(
        "create or replace temp table _sent (occurrence bigint, user_id varchar, item_id varchar, "
        "segments integer, variant varchar, channel varchar, day date, hour integer)"
    )
    query = select(
        *(
            _M.c.occurrence_id,
            _M.c.user_id,
            _M.c.item_id,
            _M.c.segments,
            _M.c.variant,
            _M.c.channel,
        ),
        *(_M.c.sent_time, _M.c.user_hash),
    ).where(_M.c.state.in_(ACCEPTED), _M.c.sent_time >= begin, _M.c.sent_time < end)
    result = connection.execution_options(yield_per=_ROWS).execute(query)
    for part in result.mappings().partitions(_ROWS):
        engine.bind_arrow("_part", _arrow(part, zone))
        engine.run(  # a forgotten person's row stands under a name made of the hash
            "insert into _sent select occurrence_id, user_id, item_id, segments, variant, "
            "channel, cast(sent as date), hour(sent) from _part "
            "where user_id <> 'forgotten-' || lower(hex(user_hash)) or user_hash is null"
        )


def _arrow(part: Sequence[Any], zone: str) -> "pa.Table":
    """Messages as Arrow; ``sent`` is what the business clock showed."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kinds = {
        "occurrence_id": pa.int64(),
        "user_id": pa.string(),
        "item_id": pa.string(),
        "segments": pa.int32(),
        "variant": pa.string(),
        "channel": pa.string(),
        "user_hash": pa.binary(),
    }
    columns = {name: pa.array([row[name] for row in part], kind) for name, kind in kinds.items()}
    times = pa.array([row["sent_time"] for row in part], pa.timestamp("us", "UTC"))
    return pa.table({**columns, "sent": pc.local_timestamp(times.cast(pa.timestamp("us", zone)))})


def _add(engine: Engine, made: dict[str, Any], decisions: Relation, due: date | None) -> None:
    """Add an occurrence's touches, and its held-out rows when it is due within the days."""
    campaign, task, copy = (literal(made[name]) for name in ("campaign", "task_id", "template"))
    channel = _channel_sql(made["channel"], made["variants"])
    engine.run(
        f"""
        insert into touches
        select s.day, s.channel, s.user_id, s.item_id, s.hour, s.segments, d.propensity,
            {campaign}, {task}, coalesce(s.variant, {copy}), s.variant, s.channel, s.occurrence
        from _sent as s
        left join (
            select user_id, any_value(propensity) as propensity from {decisions}
            where arm = 'treatment' group by user_id
        ) as d using (user_id)
        where s.occurrence = {made["id"]}
        """
    )
    if due is None:
        return
    engine.run(
        f"""
        insert into touches
        select date '{due}', '{HOLDOUT}', user_id, item_id, null, null, propensity,
            {campaign}, {task}, null, null, {channel}, {made["id"]}
        from {decisions} where arm = 'control' or (arm = 'none' and propensity < 1)
        """
    )


def _channel_sql(channel: str, variants: Mapping[str, Mapping[str, Any]] | None) -> str:
    """DuckDB expression (VARCHAR): the channel of the text that a decision's row was drawn for."""
    others = {
        name: of_text
        for name, of_text in channel_by_text(channel, variants).items()
        if of_text != channel
    }
    if not others:
        return literal(channel)
    cases = " ".join(f"when {literal(name)} then {literal(one)}" for name, one in others.items())
    return f"case variant {cases} else {literal(channel)} end"


def kvs(pairs: dict[str, str]) -> str:
    """SQL of a kvs cell; a pair without a value is left out, NULL when none is left.

    Args:
        pairs: the SQL expression of each value, by that of its key.
    """
    listed = ", ".join(f"{key} || ':' || ({value})" for key, value in pairs.items())
    return f"nullif(concat_ws(' ', {listed}), '')"


def clean(column: str) -> str:
    """SQL of a text fit for a kvs value: what its grammar reserves becomes ``_``."""
    reserved = r"[:,|\p{C}\p{Z}\s\"]+"
    return f"nullif(regexp_replace(trim({column}), '{reserved}', '_', 'g'), '')"


def _rows_sql(day: date) -> str:
    """A day's rows with the columns of the contract, in a total order."""
    cells = {
        "user_id": "user_id",
        "target": "target",
        "item_id": "item_id",
        "kvs_num": kvs(
            {
                "'hh' || lpad(hour::varchar, 2, '0')": "case when hour is not null then 1 end",
                literal("messages"): "segments",
                literal("propensity"): "round(propensity, 9)",
            }
        ),
        "kvs_str": kvs(
            {
                literal("channel"): clean("channel"),
                literal("campaign"): clean("campaign"),
                literal("task"): clean("task_id"),
                literal("copy"): clean("copy"),
                literal("variant"): clean("variant"),
            }
        ),
    }
    listed = ", ".join(f"{cells[name]} as {name}" for name in CONTRACTS["operation"].names)
    return (
        f"select {listed} from touches where day = date '{day}' "
        "order by target = 'holdout', user_id, item_id, occurrence"
    )


def write_rows(
    engine: Engine,
    landing: Storage,
    day: date,
    rows: str | None,
    *,
    table: str = "operation",
    name: str = FILE_NAME,
) -> str:
    """Write a day's file, whole or not at all; one that holds the same bytes is left alone.

    Args:
        engine: where the rows are.
        landing: root of the landing files.
        day: whose file it is.
        rows: SELECT of the contract's columns in a total order; None: there are none.
        table: the landing table that it belongs to.
        name: of the file.

    Returns:
        What was done: written, unchanged, removed, none.
    """
    folder = folder_of(landing, table, day)
    path = f"{folder}/{name}"
    if folder != (first := day_folder(table, day)):  # the day's files came after our own
        landing.remove(f"{first}/{name}")
    there = landing.exists(path)
    if rows is None:
        if there:
            landing.remove(path)
        return "removed" if there else "none"
    with tempfile.TemporaryDirectory(prefix="usergrowth-") as work:
        local = Path(work) / name
        engine.run(
            f"copy ({rows}) to '{local}' "
            f"(format csv, header, delimiter ',', quote '\"', nullstr '{NULL_TEXT}')"
        )
        with local.open("rb") as made:
            if there and _same(landing, path, made):
                return "unchanged"

            _put(landing, path, made)
    return "written"


def _put(landing: Storage, path: str, content: IO[bytes]) -> None:
    def produce(handle: IO[bytes]) -> None:
        content.seek(0)
        while block := content.read(_BLOCK):
            handle.write(block)

    landing.write_atomic(path, produce)


def _same(landing: Storage, path: str, made: IO[bytes]) -> bool:
    """Whether a landing file holds the bytes of an open one."""
    with landing.open(path) as kept:
        while True:
            block = made.read(_BLOCK)
            if block != _read(kept, len(block) or 1):
                return False
            if not block:
                return True


def _read(handle: IO[bytes], size: int) -> bytes:
    """So many bytes, unless the file ends before: a store may give fewer at a time."""
    parts = []
    while size and (part := handle.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def erase_from_touches(
    landing: Storage,
    user_id: str,
    *,
    dry_run: bool = False,
    table: str = "operation",
    name: str = FILE_NAME,
) -> int:
    """Write our own files again without a user; returns how many rows the user had.

    Args:
        landing: root of the landing files.
        user_id: the user.
        dry_run: count only.
        table: the landing table that the files belong to.
        name: of the files.
    """
    starts = _starts(user_id)
    lines = 0
    for entry in landing.files(table, deep=True):
        if entry.name == name:
            lines += _erase_lines(landing, entry.path, starts, dry_run)
    return lines


def _starts(user_id: str) -> tuple[bytes, ...]:
    """What a user's rows may begin with: the id in quotes, and bare where that can be read.

    Which ids are quoted is the writer's affair: besides separators, DuckDB quotes what holds ``#``
    and what reads as NULL, and another version may quote others.
    """
    escaped = user_id.replace('"', '""')
    quoted = f'"{escaped}",'.encode()
    return (quoted,) if any(c in user_id for c in ',"\r\n') else (quoted, f"{user_id},".encode())


def _rows(handle: IO[bytes]) -> Iterator[bytes]:
    """The rows of a CSV file, the header first; a cell in quotes may go over several lines."""
    row = b""
    for line in handle:
        row += line
        if row.count(b'"') % 2 == 0:
            yield row
            row = b""
    if row:
        yield row


def _erase_lines(landing: Storage, path: str, starts: tuple[bytes, ...], dry_run: bool) -> int:
    erased = kept = 0
    with tempfile.TemporaryFile() as content:
        with landing.open(path) as handle:
            for row in _rows(handle):
                if kept and row.startswith(starts):  # the first is the header
                    erased += 1
                    continue
                kept += 1
                content.write(row)
        if dry_run or not erased:
            return erased
        if kept == 1:  # the header alone
            landing.remove(path)
            return erased
        _put(landing, path, content)
    return erased
