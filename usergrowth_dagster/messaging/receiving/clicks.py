"""Clicks on short links: where a token leads, who clicked, and what is kept of it.

A click is ``human`` or ``bot``: programs that look at links before people do, such as previews of
messengers and scanners of networks, call them too. What is known of a call decides which it is, and
is not kept: there is no address and no user agent in the store, only the hour and a count.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.messaging.people.forget import tombstone_id

TOO_SOON = timedelta(seconds=1)
"""Within so long of the submission no person has the text in hand."""

_LONGEST_AGENT = 1_000
_BOT = re.compile(
    r"(?<!\bcu)bot\b|bot[/_-]|crawl|spider|slurp|preview|prefetch|scan(?:ner)?\b|monitor|validator|"
    r"facebookexternalhit|facebookcatalog|meta-external|whatsapp|skypeuripreview|embedly|"
    r"vkshare|bitly|iframely|google-safety|google-read-aloud|chrome-lighthouse|"
    r"safebrowsing|headless|phantomjs|proofpoint|barracuda|mimecast|urldefense|virustotal|"
    r"^(?:curl|wget|python|go-http|java|okhttp|libwww|ruby|perl|httpx|aiohttp|axios|node|undici|"
    r"postman|apache-httpclient|guzzle|ktor|dart)\b|python-requests|python-urllib",
    re.IGNORECASE,
)
_AHEAD = ("purpose", "sec-purpose", "x-purpose", "x-moz")


class Caller(StrEnum):
    """Who calls a short link."""

    HUMAN = "human"
    BOT = "bot"


@dataclass(frozen=True)
class Target:
    """What a token stands for: the message, and the campaign's own URL that it leads to.

    ``submitted`` is when the message was handed over, on the real clock. Clicks of somebody who
    was forgotten do not count.
    """

    message_id: int
    occurrence_id: int
    url: str
    submitted: datetime
    counts: bool = True


@dataclass(frozen=True)
class Click:
    """One call of a link, at ``time`` on the business clock."""

    message_id: int
    occurrence_id: int
    kind: Caller
    time: datetime


def first_message(store: ControlStore) -> int | None:
    """The lowest id of the ledger; None: there is no message yet."""
    with store.read() as connection:
        lowest: int | None = connection.scalar(select(func.min(schema.message.c.id)))
    return lowest


def target_of(store: ControlStore, message_id: int) -> Target | None:
    """Where the link of a message leads; None: no such message went out, or it has no link.

    The URL is the one that was frozen when the occurrence was planned.
    """
    message, occurrence, batch = schema.message, schema.occurrence, schema.batch
    query = (
        select(
            *(message.c.occurrence_id, message.c.variant, batch.c.submitted_time),
            *(occurrence.c.link, occurrence.c.variants),
            *(message.c.user_id, message.c.user_hash),
        )
        .join(occurrence, occurrence.c.id == message.c.occurrence_id)
        .join(batch, batch.c.id == message.c.batch_id)
        .where(message.c.id == message_id)
    )
    with store.read() as connection:
        row = connection.execute(query).mappings().first()
    if row is None:
        return None
    texts = row["variants"]
    url = row["link"] if texts is None else texts.get(row["variant"], {}).get("link")
    if url is None:
        return None
    forgotten = row["user_hash"] and row["user_id"] == tombstone_id(row["user_hash"])
    return Target(
        message_id, row["occurrence_id"], url, row["submitted_time"], counts=not forgotten
    )


def caller_of(
    method: str, headers: Mapping[str, str], submitted: datetime, now: datetime
) -> Caller:
    """Whether a person calls, or a program that looks at links.

    Args:
        method: GET or HEAD; nobody's browser sends HEAD.
        headers: of the request, names in lower case.
        submitted: when the message was handed over to the provider.
        now: on the same clock.
    """
    agent = headers.get("user-agent", "")[:_LONGEST_AGENT]
    ahead = any(re.search("prefetch|preview", headers.get(name, "")) for name in _AHEAD)
    bot = method != "GET" or ahead or not agent.strip() or _BOT.search(agent)
    return Caller.BOT if bot or now - submitted < TOO_SOON else Caller.HUMAN


def record_clicks(store: ControlStore, clicks: Iterable[Click]) -> int:
    """Count clicks, all in one transaction; returns how many.

    A row is a message, a kind and an hour, so that somebody who calls a link for ever adds a row
    an hour. The time of the row is that of its first click.
    """
    table = schema.click
    counts: Counter[tuple[int, int, Caller, datetime]] = Counter()
    first: dict[tuple[int, int, Caller, datetime], datetime] = {}
    for one in clicks:
        hour = one.time.replace(minute=0, second=0, microsecond=0)
        key = (one.message_id, one.occurrence_id, one.kind, hour)
        counts[key] += 1
        first[key] = min(one.time, first.get(key, one.time))
    if not counts:
        return 0
    insert = sqlite.insert if store.is_sqlite else postgresql.insert
    statement = insert(table)
    statement = statement.on_conflict_do_update(
        index_elements=["message_id", "kind", "hour"],
        set_={"count": table.c.count + statement.excluded.count},
    )
    rows = [
        {
            "message_id": message_id,
            "occurrence_id": occurrence_id,
            "kind": str(kind),
            "hour": hour,
            "time": first[message_id, occurrence_id, kind, hour],
            "count": count,
        }
        # in one order everywhere, so that two writers never wait for each other
        for (message_id, occurrence_id, kind, hour), count in sorted(counts.items())
    ]
    with store.write() as connection:
        connection.execute(statement, rows)
    return sum(counts.values())
