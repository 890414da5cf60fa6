"""What a planned occurrence holds, for a person to look at: samples, lengths, hours, skips."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import func, select

from usergrowth_dagster.addresses.shown import mask
from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.plans.plan import SendPlan, read_plan
from usergrowth_dagster.messaging.policy.hours import zones_of
from usergrowth_dagster.messaging.schedules.occurrences import Occurrence
from usergrowth_dagster.messaging.texts.billing import characters
from usergrowth_dagster.messaging.texts.content import (
    by_variant_sql,
    length_sql,
    render,
    shown_signature,
)
from usergrowth_dagster.messaging.texts.links import with_example
from usergrowth_dagster.warehouse.engine import Engine

_CHUNK = 20_000
message = schema.message


@dataclass(frozen=True)
class Sample:
    """One message as it would be sent; the address is masked, also where the text has it."""

    user_id: str
    address: str
    at: datetime
    segments: int
    length: int
    variant: str | None
    text: str = field(repr=False)


@dataclass(frozen=True)
class TextForecast:
    """What one of an occurrence's texts comes to.

    ``content`` is the template, ``messages`` are billed segments, ``cost`` their price, ``longest``
    the characters of the longest text as sent (None: nobody gets it), ``channel`` how it goes.
    """

    template_code: str
    content: str
    people: int
    messages: int
    cost: float
    longest: int | None
    channel: str


@dataclass(frozen=True)
class Forecast:
    """What would be sent, to whom and when.

    ``sizes`` counts people by billed messages each; ``hours`` people by zone and the local hour at
    which each may go at first, in order of time; ``texts`` is by variant, None where there is one
    text only.
    """

    plan: SendPlan
    sizes: dict[int, int]
    hours: dict[tuple[str, datetime], int]
    texts: dict[str | None, TextForecast]
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
    going = (message.c.occurrence_id == opened.id, message.c.state != MessageState.SKIPPED)
    sizes = select(message.c.segments, func.count()).where(*going).group_by(message.c.segments)
    shares = select(message.c.variant, func.count(), func.sum(message.c.segments)).where(*going)
    times = (
        select(message.c.zone, message.c.not_before, func.count())
        .where(*going)
        .group_by(message.c.zone, message.c.not_before)
    )
    with ledger.store.read() as connection:
        counts = connection.execute(sizes.order_by(message.c.segments)).tuples().all()
        by_size: dict[int, int] = dict(counts)
        by_text = connection.execute(shares.group_by(message.c.variant)).tuples().all()
        hours = _hours(opened, zone, connection.execute(times.execution_options(yield_per=_CHUNK)))
        ids = connection.scalars(
            select(message.c.id).where(*going).order_by(message.c.id)
        ).yield_per(_CHUNK)
        picked = _spread(ids, sum(by_size.values()), samples)
    lengths = _lengths(ledger, engine, opened)
    longest = max(lengths.values(), key=lambda one: (one[0], -one[1]), default=None)
    return Forecast(
        plan=read_plan(ledger, opened),
        sizes=by_size,
        hours=hours,
        texts={
            variant: _text_forecast(opened, variant, people, int(messages or 0), lengths)
            for variant, (people, messages) in _every(opened, by_text).items()
        },
        longest=_samples(ledger, opened, [longest[1]], zone)[0] if longest else None,
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


def _shown(opened: Occurrence, variant: str | None) -> str | None:
    return shown_signature(opened.channel_of(variant), opened.signature)


def _local(
    opened: Occurrence, name: str | None, not_before: datetime | None, zone: ZoneInfo
) -> datetime:
    """When a row may go at first, on the clock of its (first) zone."""
    first = max(opened.due, not_before or opened.due)
    return first.astimezone(next(iter(zones_of(name, zone)), zone))


def _every(
    opened: Occurrence, by_text: Iterable[tuple[str | None, int, int]]
) -> dict[str | None, tuple[int, int]]:
    """People and messages by text, also of a text that nobody gets."""
    none_yet: dict[str | None, tuple[int, int]] = dict.fromkeys(opened.variants or [None], (0, 0))
    return none_yet | {variant: (people, messages) for variant, people, messages in by_text}


def _text_forecast(
    opened: Occurrence,
    variant: str | None,
    people: int,
    messages: int,
    lengths: dict[str | None, tuple[int, int]],
) -> TextForecast:
    text = opened.text(variant)
    cost = round(messages * opened.price_of(opened.channel_of(variant)), 6)
    longest = lengths.get(variant, (None, 0))[0]
    channel = opened.channel_of(variant)
    return TextForecast(text.template_code, text.content, people, messages, cost, longest, channel)


def _content(opened: Occurrence, variant: str | None) -> str:
    """A text's template, with an example in the place of its short link."""
    text = opened.text(variant)
    return with_example(text.content, text.link, opened.link_domain)


def _lengths(
    ledger: Ledger, engine: Engine, opened: Occurrence
) -> dict[str | None, tuple[int, int]]:
    """Characters of each text at its longest, and the id of that row; read in chunks."""
    import pyarrow as pa

    contents = {
        name: (_content(opened, name), _shown(opened, name)) for name in opened.variants or [""]
    }
    length = by_variant_sql(contents, lambda one: length_sql(*one, "variables"))
    best: dict[str | None, tuple[int, int]] = {}
    last = 0
    query = (
        select(message.c.id, message.c.template_params, message.c.variant)
        .where(message.c.occurrence_id == opened.id, message.c.state != MessageState.SKIPPED)
        .order_by(message.c.id)
        .limit(_CHUNK)
    )
    while True:
        with ledger.store.read() as connection:
            rows = connection.execute(query.where(message.c.id > last)).tuples().all()
        if not rows:
            return best
        last = rows[-1][0]
        ids, params, variants = zip(*rows, strict=True)
        columns = {"id": pa.array(ids), "params": pa.array(params)}
        columns["variant"] = pa.array(variants, pa.string())
        engine.bind_arrow("_texts", pa.table(columns))
        longest_rows = engine.rows(
            "select variant, max(length), arg_min(id, (-length, id)) from ("
            f"select id, variant, {length} as length from (select id, variant, "
            "cast(cast(params as json) as map(varchar, varchar)) as variables from _texts)) "
            "where length is not null group by variant"
        )
        for variant, longest, row in longest_rows:
            if variant not in best or longest > best[variant][0]:
                best[variant] = (longest, row)


def _samples(ledger: Ledger, opened: Occurrence, ids: list[int], zone: ZoneInfo) -> list[Sample]:
    columns = ("user_id", "phone_number", "template_params", "segments", "zone", "not_before")
    query = (
        select(*(message.c[name] for name in columns), message.c.variant)
        .where(message.c.id.in_(ids))
        .order_by(message.c.id)
    )
    with ledger.store.read() as connection:
        rows = connection.execute(query).mappings().all()
    return [_sample(ledger, opened, dict(row), zone) for row in rows]


def _sample(ledger: Ledger, opened: Occurrence, row: dict[str, Any], zone: ZoneInfo) -> Sample:
    address = ledger.vault.open(row["phone_number"]) if row["phone_number"] else ""
    content = _content(opened, row["variant"])
    text = render(content, json.loads(row["template_params"]), _shown(opened, row["variant"])) or ""
    return Sample(
        user_id=row["user_id"],
        address=mask(address),
        at=_local(opened, row["zone"], row["not_before"], zone),
        segments=row["segments"],
        length=characters(text),
        variant=row["variant"],
        text=text.replace(address, mask(address)) if address else text,
    )
