"""A seeded world of users, items, sessions and texts whose effect on each user is known.

Users come in four latent kinds, register, cool down, fall asleep, wake up and die; sessions follow
weekday, season and hour of the day; texts are randomised with a recorded propensity, and their
effect on each user (often small, for some negative) and cost are saved as the truth. The model
is written down where it is computed, in ``_population`` and ``_simulation``.

Everything is computed for a chunk of users at a time with arrays and SQL, so memory does not grow
with the number of users. Every draw is a function of seed, user and day: the rows do not depend on
the chunk's size, on threads or on the machine.
"""

import posixpath
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

import numpy as np

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.examples.worlds._landing import (
    COLUMNS,
    Marker,
    Progress,
    copy_bytes,
    put,
    remove_others,
    write_days,
)
from usergrowth_dagster.examples.worlds._population import (
    CATEGORIES,
    Array,
    draw_items,
    draw_users,
    phones,
)
from usergrowth_dagster.examples.worlds._synthetic_rows import ITEM_ID, USER_ID

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MOST_USERS = 10_000_000
"""Largest world."""

_FORMAT = 1  # raise it when the files' content changes, so that finished examples are rewritten
_CSV_UP_TO = 200_000  # users; larger worlds land as Parquet by default
_CHUNK_USER_DAYS = 6_000_000  # users x days computed at a time by default
_SNAPSHOT_EVERY = 30  # days between full snapshots of the user table


@dataclass(frozen=True)
class SyntheticWorld:
    """What a world is made from; the same values give the same rows.

    Args:
        users: number of users, up to ten million; some register while the world runs.
        days: number of days.
        start: first day.
        seed: seed of every draw.
        items: number of items.
        return_days: days after a text in which it works, and in which a session is a return.
        message_price: price of one message, in currency.
        texts_until: first day of the world, counted from 0, without texts of its own; None: it
            texts to the end.
        held_out_rows: whether candidates who were not texted land too, as target ``holdout``, and
            touches with the propensity.
        strength: how many times as often texts work, for good and bad, up to 95 of 100.
        fades_from: first day of the world, counted from 0, of the 30 days in which all users'
            activity falls to half, to stay there; None: it does not.

    Raises:
        UserError: a value is out of its range.
    """

    users: int
    days: int
    start: date
    seed: int = 20170101
    items: int = 600
    return_days: int = 28
    message_price: float = 0.045
    texts_until: int | None = None
    held_out_rows: bool = False
    strength: float = 1.0
    fades_from: int | None = None

    def __post_init__(self) -> None:
        for name, low, high in (
            ("users", 1, MOST_USERS),
            ("days", 1, 3650),
            ("items", 1, 1_000_000),
            ("return_days", 1, 90),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UserError(
                    f"synthetic world: {name} must be from {low} to {high}, not {value}",
                    code="command.invalid",
                )
        for name in ("message_price", "strength"):
            if getattr(self, name) < 0:
                raise UserError(
                    f"synthetic world: {name} must not be negative", code="command.invalid"
                )

    @property
    def end(self) -> date:
        """Last day."""
        return self.start + timedelta(days=self.days - 1)

    def day_of(self, day: date) -> int:
        """A day as the world counts: 0 is the first."""
        return (day - self.start).days

    def snapshots(self) -> list[date]:
        """Days on which the user table lands: the eve of the first day, then every 30 days."""
        return [
            self.start + timedelta(days=day - 1) for day in range(0, self.days, _SNAPSHOT_EVERY)
        ]


def truth_of(landing: Storage) -> Storage:
    """Where the truth is saved by default: the folder ``truth`` beside the landing root.

    A whole bucket has nothing beside it: there it is ``_truth``, which is not landed.
    """
    above = posixpath.dirname(landing.uri())
    if not landing.is_local and "://" not in above:
        return Storage(f"{landing.uri()}/_truth", landing.options)
    return Storage(posixpath.join(above, "truth"), landing.options)


@contextmanager
def connect() -> Iterator["DuckDBPyConnection"]:
    """A DuckDB connection that spills to a folder of its own."""
    import duckdb

    with tempfile.TemporaryDirectory(prefix="usergrowth-") as spill:
        con = duckdb.connect(config={"threads": 2, "memory_limit": "2GB", "temp_directory": spill})
        try:
            yield con
        finally:
            con.close()


def write_landing(
    world: SyntheticWorld,
    landing: Storage,
    *,
    truth: Storage | None = None,
    file_format: Literal["csv", "parquet"] | None = None,
    chunk_users: int | None = None,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Write a world's four landing tables and its truth.

    A day's rows, in the order of its files' names, are the same bytes whatever the chunk. Each
    file is written whole or not at all; one that holds the same bytes already is left alone, files
    of an earlier world are removed, and a finished world is found again without computing.

    The truth is Parquet: ``touches`` (user, day, item, copy, state, propensity, treated, chance of
    a session in the return days without and with the text, effect, cost, whether the user did
    return; null when the world ends before) with the untreated candidates too, and ``users``
    (latent kind, rates, favorite category, day of registration, day of death or null).

    Args:
        world: the world.
        landing: root of the landing files.
        truth: root of the truth, default :func:`truth_of`.
        file_format: default CSV up to 200,000 users, Parquet above.
        chunk_users: users computed at a time, which sets the memory used: about 5 kB a user for 120
            days. Default 50,000, fewer for worlds of more than 120 days.
        progress: called with ``users``, users done and users in all.

    Returns:
        Data rows by landing table.

    Raises:
        UserError: chunk_users is below 1.
    """
    if chunk_users is None:
        chunk_users = max(1, min(50_000, _CHUNK_USER_DAYS // world.days))
    if chunk_users < 1:
        raise UserError(
            f"synthetic world: chunk_users must be at least 1, not {chunk_users}",
            code="command.invalid",
        )
    truth = truth or truth_of(landing)
    kind = file_format or ("csv" if world.users <= _CSV_UP_TO else "parquet")
    parameters = {
        **asdict(world),
        "start": str(world.start),
        "format": _FORMAT,
        "file_format": kind,
        "chunk_users": chunk_users,
    }
    kept = [
        f"{name}/{_part(first)}.parquet"
        for name in ("touches", "users")
        for first in range(0, world.users, chunk_users)
    ]
    marker = Marker(landing, "synthetic", parameters)
    if (finished := marker.finished()) is not None and all(map(truth.exists, kept)):
        return finished
    rows = dict.fromkeys(COLUMNS, 0)
    paths: list[str] = []
    with connect() as con:
        rows["item"], written = _write_items(con, world, landing, kind)
        paths += written
        for first in range(0, world.users, chunk_users):
            last = min(first + chunk_users, world.users)
            counts, written = _write_chunk(con, world, landing, truth, kind, first, last)
            paths += written
            for table, count in counts.items():
                rows[table] += count
            if progress:
                progress("users", last, world.users)
    remove_others(landing, tuple(COLUMNS), "synthetic-", paths)
    remove_others(truth, ("touches", "users"), "synthetic-", kept)
    marker.save(rows, paths)
    return rows


def _part(first: int) -> str:
    """File name, without its ending, of the chunk that begins with a user; sorts by user."""
    return f"synthetic-{first:08d}"


def _write_items(
    con: "DuckDBPyConnection", world: SyntheticWorld, landing: Storage, kind: str
) -> tuple[int, list[str]]:
    from usergrowth_dagster.examples.worlds._synthetic_rows import bind_items

    bind_items(con, world.seed, world.items, world.start - timedelta(days=1))
    return write_days(con, landing, "item", name=f"{_part(0)}.{kind}", order="n")


def _write_chunk(
    con: "DuckDBPyConnection",
    world: SyntheticWorld,
    landing: Storage,
    truth: Storage,
    kind: str,
    first: int,
    last: int,
) -> tuple[dict[str, int], list[str]]:
    """Simulate users ``first`` to ``last - 1`` and write their files."""
    from usergrowth_dagster.examples.worlds._population import draw_users
    from usergrowth_dagster.examples.worlds._simulation import Calendar, live
    from usergrowth_dagster.examples.worlds._synthetic_rows import bind

    users = draw_users(world.seed, first, last, world.days)
    first_day = world.start.timetuple().tm_yday
    calendar = Calendar(world.start.weekday(), first_day, world.days, world.fades_from)
    bind(
        con,
        users,
        live(
            *(users, calendar, world.items, world.return_days),
            own_until=world.texts_until,
            strength=world.strength,
        ),
        seed=world.seed,
        items=world.items,
        start=world.start,
        snapshots=world.snapshots(),
        price=world.message_price,
        held_out=world.held_out_rows,
    )
    counts: dict[str, int] = {}
    paths: list[str] = []
    for table in ("user", "behavior", "operation"):
        counts[table], written = write_days(
            con, landing, table, name=f"{_part(first)}.{kind}", order="n, seq"
        )
        paths += written
    with tempfile.TemporaryDirectory(prefix="usergrowth-") as scratch:
        for name, source in (("touches", "truth_touch"), ("users", "truth_user")):
            content = copy_bytes(con, f"from {source}", Path(scratch))
            put(truth, f"{name}/{_part(first)}.parquet", content)
    return counts, paths


def write_population(
    world: SyntheticWorld,
    landing: Storage,
    task: str,
    execution_date: date,
    among: Array | None = None,
) -> int:
    """Write the population of a task: all users registered before the execution date.

    Some of them have no event in the lookback. Each is offered an item, mostly of the favorite
    category. Columns: ``user_id, item_id, phone``, and ``name`` and ``offer`` for templates. A
    phone is +999 (an unassigned country code) and ten digits made one-to-one from the user.

    Args:
        world: the world, as it was landed.
        landing: root of the landing files.
        task: name of the task, the folder below ``population``.
        execution_date: only users registered before it are in.
        among: numbers of the users who may be in; default: all.

    Returns:
        Rows written.
    """
    import pyarrow as pa

    offered_by, chunk = 43, 200_000  # purpose of the draw; users at a time
    day = (execution_date - world.start).days
    count = 0

    def produce(handle: IO[bytes]) -> None:
        nonlocal count
        handle.write(b"user_id,item_id,phone,name,offer\n")
        for first in range(0, world.users, chunk):
            users = draw_users(world.seed, first, min(first + chunk, world.users), world.days)
            there = users.registered < day
            if among is not None:
                there &= np.isin(users.index, among)
            who = np.flatnonzero(there)
            item = draw_items(users, who, np.full(len(who), max(day, 0)), world.items, offered_by)
            index = users.index[who]
            con.register("incoming", pa.table({"n": index, "item": item, "phone": phones(index)}))
            text = con.execute(
                f"select string_agg(concat_ws(',', {USER_ID}, {ITEM_ID}, "
                "'+999' || lpad(phone::varchar, 10, '0'), 'Member ' || n, "
                f"'Offer ' || item % {CATEGORIES}) || chr(10), '' order by n) from incoming"
            ).fetchall()[0][0]
            con.unregister("incoming")
            handle.write((text or "").encode())
            count += len(who)

    with connect() as con:
        landing.write_atomic(f"population/{task}/population.csv", produce)
    return count
