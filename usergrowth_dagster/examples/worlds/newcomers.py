"""A seeded world of new users whose chance of a first purchase is known.

Users register on some days, by one of four channels, and log in and view on that day and the three
after it. Whether a user then buys within 30 days of registering depends on the channel, the device
and these first days alone, by a logistic function, so the chance is the best score that any model
can give. A few buy in the first days; a few get a text, which multiplies their chance. Both are
kept out of what a model should learn. Some share in the week after these days, by another chance
that depends on the channel and the views.

The draws are those of the synthetic world: functions of seed, user and day.
"""

import tempfile
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.examples.worlds._landing import Marker, copy_bytes, kvs, put, write_days
from usergrowth_dagster.examples.worlds._population import Array, keys, normal, uniform
from usergrowth_dagster.examples.worlds.synthetic import connect, truth_of
from usergrowth_dagster.quoting import literals

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

CHANNELS = ("organic", "search", "referral", "ads")
DEVICES = ("phone", "tablet", "desktop")
_KINDS = ("login", "view", "buy", "share")
OBSERVED_DAYS = 3
"""Days after that of registration whose behavior the chance depends on."""
BUY_DAYS = 30
"""Days after registration in which a purchase counts."""

TRUTH = "newcomers/newcomers.parquet"
"""The file of the truth, below its root."""

_FORMAT = 2  # raise it when the files' content changes, so that finished examples are rewritten
_OF_CHANNEL = np.array([0.5, 0.2, 0.8, -0.9])
_OF_DEVICE = np.array([0.0, 0.3, 0.6])
_BASE, _PER_LOGIN, _PER_VIEW = -3.6, 0.25, 0.55
_SHARE_BASE, _SHARE_OF_CHANNEL, _SHARE_PER_VIEW = -3.0, np.array([0.0, -0.4, 1.2, -0.6]), 0.8
_SHARE_DAYS = 7  # after those that are seen
_EARLY, _TEXTED, _TIMES = 0.06, 0.12, 3.0  # shares of users, and what a text does to the chance


@dataclass(frozen=True)
class Newcomers:
    """What a world of new users is made from; the same values give the same rows.

    Args:
        a_day: users who register on each day of registration.
        days: number of days.
        start: first day.
        every: days from one day of registration to the next.
        seed: seed of every draw.
    """

    a_day: int
    days: int
    start: date
    every: int = 1
    seed: int = 20170101

    @property
    def users(self) -> int:
        """How many users register."""
        return self.a_day * len(range(0, self.days, self.every))


def cohort(world: Newcomers, day: date) -> list[str]:
    """Ids of the users who register on a day."""
    first, rest = divmod((day - world.start).days, world.every)
    if rest or not 0 <= first < len(range(0, world.days, world.every)):
        return []
    return [f"n{number:07d}" for number in range(first * world.a_day, (first + 1) * world.a_day)]


def write_newcomers(world: Newcomers, landing: Storage, truth: Storage | None = None) -> None:
    """Write the world's landing tables, as CSV, and the truth of each user.

    The user table lands every day, with all who have registered by then. The truth is the Parquet
    file ``newcomers/newcomers.parquet``: ``user_id``, ``registered``, ``chance`` (of buying from
    the fourth day after registration to the thirtieth, without a text), ``share_chance`` (of
    sharing from the fourth day to the tenth), ``texted`` and ``early``.

    Args:
        world: the world.
        landing: root of the landing files.
        truth: root of the truth; default: the folder ``truth`` beside the landing root.
    """
    parameters = {**asdict(world), "start": str(world.start), "format": _FORMAT}
    marker = Marker(landing, "newcomers", parameters)
    if marker.finished() is not None:
        return
    rows: dict[str, int] = {}
    paths: list[str] = []
    with connect() as con:
        _bind(con, world)
        for table in ("user", "behavior", "operation"):
            name = "newcomers.csv"
            rows[table], written = write_days(con, landing, table, name=name, order="n, seq")
            paths += written
        with tempfile.TemporaryDirectory(prefix="usergrowth-") as scratch:
            content = copy_bytes(con, "from truth order by user_id", Path(scratch))
    put(truth or truth_of(landing), TRUTH, content)
    marker.save(rows, paths)


def _drawn(world: Newcomers) -> dict[str, Array]:
    """The world's users, each column of shape (users,); days are counted from the first.

    ``logins`` and ``views`` have the shape (users, days seen). ``bought`` and ``early`` are the
    days of the purchases, -1 where there is none; so are ``shared`` and ``texted``.
    """
    index = np.arange(world.users)
    key = keys(world.seed, index)
    registered = index // world.a_day * world.every
    seen = range(OBSERVED_DAYS + 1)
    channel = np.floor(len(CHANNELS) * uniform(key, 0)).astype(np.int64)
    device = np.floor(len(DEVICES) * uniform(key, 1)).astype(np.int64)
    pace = np.exp(0.6 * normal(key, 2)) * np.array([0.9, 0.8, 1.0, 0.6])[channel]
    draws = np.stack([uniform(key, 4, day) for day in seen], axis=1)
    logins = np.floor(-np.log1p(-draws) * pace[:, None] * 1.2).astype(np.int64)
    logins[:, 0] += 1  # the registration itself
    share = np.stack([uniform(key, 5, day) for day in seen], axis=1)
    views = np.floor(logins * 2.5 * share**2).astype(np.int64)
    score = _BASE + _OF_CHANNEL[channel] + _OF_DEVICE[device]
    score += _PER_LOGIN * np.minimum(logins.sum(1), 8) + _PER_VIEW * np.log1p(views.sum(1))
    chance = 1 / (1 + np.exp(-score))
    texted = uniform(key, 6) < _TEXTED
    real = np.where(texted, np.minimum(_TIMES * chance, 0.95), chance)
    later = OBSERVED_DAYS + 1 + np.floor((BUY_DAYS - OBSERVED_DAYS) * uniform(key, 8))
    urge = _SHARE_BASE + _SHARE_OF_CHANNEL[channel] + _SHARE_PER_VIEW * np.log1p(views.sum(1))
    share_chance = 1 / (1 + np.exp(-urge))
    share_day = OBSERVED_DAYS + 1 + np.floor(_SHARE_DAYS * uniform(key, 12))
    return {
        "n": index,
        "registered": registered,
        "channel": channel,
        "device": device,
        "logins": logins,
        "views": views,
        "chance": chance,
        "bought": np.where(uniform(key, 7) < real, registered + later, -1).astype(np.int64),
        "early": np.where(
            uniform(key, 9) < _EARLY, registered + np.floor(4 * uniform(key, 10)), -1
        ).astype(np.int64),
        "texted": np.where(texted, registered + OBSERVED_DAYS + 1, -1),
        "share_chance": share_chance,
        "shared": np.where(uniform(key, 11) < share_chance, registered + share_day, -1).astype(
            np.int64
        ),
    }


def _events(users: dict[str, Array]) -> "pa.Table":
    """One row a user, day and kind (an index of :data:`_KINDS`), with the count of events."""
    import pyarrow as pa

    parts = []
    for kind, name in enumerate(("logins", "views")):
        who, day = np.nonzero(users[name])
        parts.append((users["registered"][who] + day, who, kind, users[name][who, day]))
    for name, kind in (("bought", 2), ("early", 2), ("shared", 3)):
        who = np.flatnonzero(users[name] >= 0)
        parts.append((users[name][who], who, kind, np.ones(len(who), dtype=np.int64)))
    columns = {
        "day": np.concatenate([part[0] for part in parts]),
        "n": np.concatenate([part[1] for part in parts]),
        "kind": np.concatenate([np.full(len(part[1]), part[2]) for part in parts]),
        "count": np.concatenate([part[3] for part in parts]),
    }
    return pa.table(columns)


def _bind(con: "DuckDBPyConnection", world: Newcomers) -> None:
    """Make the relations ``landing_…`` of users, behavior and operations, and ``truth``."""
    import pyarrow as pa

    users = _drawn(world)
    flat = {name: column for name, column in users.items() if column.ndim == 1}
    for name, table in (("users", pa.table(flat)), ("events", _events(users))):
        con.register("incoming", table)
        con.execute(f"create table {name} as from incoming").fetchall()
        con.unregister("incoming")
    begin, user = f"date '{world.start}'", "'n' || lpad(n::varchar, 7, '0')"
    channel = f"([{literals(CHANNELS)}])[channel + 1]"
    device = f"([{literals(DEVICES)}])[device + 1]"
    statements = {
        "landing_user": f"""
            select {user} as user_id, null as gender, null as age,
                strftime({begin} + registered::integer, '%Y%m%d') as reg_time,
                null as user_type, null as kvs_num,
                {kvs({"channel": channel, "device": device})} as kvs_str,
                {begin} + day::integer as ds, n, 0 as seq
            from users, range({world.days}) as days (day) where registered <= day
        """,
        "landing_behavior": f"""
            select {user} as user_id, ([{literals(_KINDS)}])[kind + 1] as behavior,
                null as item_id, 'hh12:1' as kvs_num, null as kvs_str,
                {begin} + day::integer as ds, n, kind * 100 + seq as seq
            from events, lateral (select unnest(range(count)) as seq) where day < {world.days}
        """,
        "landing_operation": f"""
            select {user} as user_id, 'sms' as target, null as item_id, 'hh12:1' as kvs_num,
                null as kvs_str, {begin} + texted::integer as ds, n, 0 as seq
            from users where texted >= 0 and texted < {world.days}
        """,
        "truth": f"""
            select {user} as user_id, {begin} + registered::integer as registered, chance,
                share_chance, texted >= 0 as texted, early >= 0 as early
            from users
        """,
    }
    for name, query in statements.items():
        con.execute(f"create temp view {name} as {query}").fetchall()
