"""What a planned occurrence holds, for a person to look at: samples, lengths, hours, skips."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import func, select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.people.phones import mask
from usergrowth_dagster.messaging.plans.plan import SendPlan, read_plan
from usergrowth_dagster.messaging.policy.hours import zones_of
from usergrowth_dagster.messaging.schedules.occurrences import Occurrence
from usergrowth_dagster.messaging.texts.billing import characters
from usergrowth_dagster.messaging.texts.content import length_sql, render, shown_signature
from usergrowth_dagster.warehouse.engine import Engine

_CHUNK = 20_000
_M = schema.message


@dataclass(frozen=True)
class Sample:
    """One message as it would be sent; the address is masked, also where the text has it."""

    user_id: str
    address: str
    at: datetime
    segments: int
    length: int
    text: str = field(repr=False)


@dataclass(frozen=True)
class Forecast:
    """What would be sent, to whom and when.

    ``sizes`` counts people by billed messages each; ``hours`` people by zone and the local hour at
    which each may go at first, in order of time.
    """

    plan: SendPlan
    sizes: dict[int, int]
    hours: dict[tuple[str, datetime], int]
    longest: Sample | None
    samples: list[Sample]


def forecast(
    ledger: Ledger, engine: Engine, opened: Occurrence, zone: ZoneInfo, samples: int
) -> Forecast:
    """Read a planned occurrence; changes nothing.

    Args:
        ledger: holds its rows.
        engine: computes lengths.
        opened: the occurrence.
        zone: the business time zone.
        samples: how many messages to render, spread over the plan.
    """
    going = (_M.c.occurrence_id == opened.id, _M.c.state != MessageState.SKIPPED)
    sizes = select(_M.c.segments, func.count()).where(*going).group_by(_M.c.segments)
    times = (
        select(_M.c.zone, _M.c.not_before, func.count())
        .where(*going)
        .group_by(_M.c.zone, _M.c.not_before)
    )
    with ledger.store.read() as connection:
        found = connection.execute(sizes.order_by(_M.c.segments)).tuples().all()
        by_size: dict[int, int] = dict(found)
        hours = _hours(opened, zone, connection.execute(times.execution_options(yield_per=_CHUNK)))
        ids = connection.scalars(select(_M.c.id).where(*going).order_by(_M.c.id)).yield_per(_CHUNK)
        picked = _spread(ids, sum(by_size.values()), samples)
    longest = _longest(ledger, engine, opened)
    return Forecast(
        plan=read_plan(ledger, opened),
        sizes=by_size,
        hours=hours,
        longest=next(iter(_samples(ledger, opened, [longest], zone)), None) if longest else None,
        samples=_samples(ledger, opened, picked, zone),
    )


def _hours(
    opened: Occurrence, zone: ZoneInfo, groups: Iterable[Any]
) -> dict[tuple[str, datetime], int]:
    """People by zone and local hour, in order of time."""
    hours: dict[tuple[str, datetime], int] = {}
    for name, not_before, people in groups:
        local = _local(opened, name, not_before, zone)
        key = (name or zone.key, local.replace(minute=0, second=0, microsecond=0))
        hours[key] = hours.get(key, 0) + people
    return dict(sorted(hours.items(), key=lambda item: (item[0][1], item[0][0])))


def _spread(ids: Iterator[int], total: int, samples: int) -> list[int]:
    """So many ids, evenly spread from the best-ranked on."""
    wanted = {place * total // samples for place in range(samples)} if samples else set()
    return [one for place, one in enumerate(ids) if place in wanted]


def _shown(opened: Occurrence) -> str | None:
    return shown_signature(opened.channel, opened.signature)


def _local(
    opened: Occurrence, name: str | None, not_before: datetime | None, zone: ZoneInfo
) -> datetime:
    """When a row may go at first, on the clock of its (first) zone."""
    first = max(opened.due, not_before or opened.due)
    return first.astimezone(zones_of(name, zone)[0])


def _longest(ledger: Ledger, engine: Engine, opened: Occurrence) -> int | None:
    """Id of the row with the longest text, in chunks."""
    import pyarrow as pa

    length = length_sql(opened.content, _shown(opened), "variables")
    best, found, last = -1, None, 0
    query = (
        select(_M.c.id, _M.c.template_params)
        .where(_M.c.occurrence_id == opened.id, _M.c.state != MessageState.SKIPPED)
        .order_by(_M.c.id)
        .limit(_CHUNK)
    )
    while True:
        with ledger.store.read() as connection:
            rows = connection.execute(query.where(_M.c.id > last)).tuples().all()
        if not rows:
            return found
        last = rows[-1][0]
        ids, params = zip(*rows, strict=True)
        engine.bind_arrow("_texts", pa.table({"id": pa.array(ids), "params": pa.array(params)}))
        longest, row = engine.rows(
            f"select max(length), arg_min(id, (-length, id)) from (select id, {length} as length "
            "from (select id, cast(cast(params as json) as map(varchar, varchar)) as variables "
            "from _texts))"
        )[0]
        if longest is not None and longest > best:
            best, found = longest, row


def _samples(ledger: Ledger, opened: Occurrence, ids: list[int], zone: ZoneInfo) -> list[Sample]:
    columns = ("user_id", "phone_number", "template_params", "segments", "zone", "not_before")
    query = select(*(_M.c[name] for name in columns)).where(_M.c.id.in_(ids)).order_by(_M.c.id)
    with ledger.store.read() as connection:
        rows = connection.execute(query).mappings().all()
    return [_sample(ledger, opened, dict(row), zone) for row in rows]


def _sample(ledger: Ledger, opened: Occurrence, row: dict[str, Any], zone: ZoneInfo) -> Sample:
    address = ledger.vault.open(row["phone_number"]) if row["phone_number"] else ""
    text = render(opened.content, json.loads(row["template_params"]), _shown(opened)) or ""
    return Sample(
        user_id=row["user_id"],
        address=mask(address),
        at=_local(opened, row["zone"], row["not_before"], zone),
        segments=row["segments"],
        length=characters(text),
        text=text.replace(address, mask(address)) if address else text,
    )
