"""A world of any size, written day by day as landing files by SQL: memory does not grow with it.

Users differ in how often they come and in when they stop coming; items in how often they are met.
Every draw is a hash of user and day, so a world of fewer users is the beginning of a larger one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from usergrowth_dagster.campaigns.files import apply_files
from usergrowth_dagster.campaigns.reviews import review_text
from usergrowth_dagster.examples.worlds.synthetic import connect
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.project import Project

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

DAY = date(2024, 7, 1)
"""The execution date: the first day that is not known when it is decided."""
DAYS, LATER = 98, 8
"""Days of events before the execution date, and from it on, for labels of the effect."""
TASK = "big"
_SNAPSHOT_EVERY = 30
_USERS = """
create or replace view users as
select
    n,
    format('u{{:09d}}', n) as user_id,
    0.02 + 0.6 * power(hash(n, 1) / 18446744073709551616.0, 2) as chance,
    cast(floor({days} * 2.2 * hash(n, 2) / 18446744073709551616.0) as integer) as stops
from range({users}) as r (n)
"""
_EVENTS = """
with came as (
    select
        n, user_id, cast(1 + hash(n, {ago}, 3) % 8 as integer) as events
    from users
    where hash(n, {ago}, 4) / 18446744073709551616.0
        < chance * if({known} - {ago} > stops, 0.05, 1)
),
events as (select n, user_id, unnest(range(events)) as seq from came),
drawn as (
    select
        user_id,
        hash(n, {ago}, seq, 5) % 24 as hour_of_day,
        hash(n, {ago}, seq, 6) / 18446744073709551616.0 as what,
        hash(n, {ago}, seq, 7) / 18446744073709551616.0 as which
    from events
)
select
    user_id,
    case when what < 0.5 then 'view' when what < 0.8 then 'login' when what < 0.92 then 'cart'
        else 'buy' end as behavior,
    case when what < 0.5 or what >= 0.8
        then format('i{{:05d}}', cast(floor({items} * which * which) as bigint)) end as item_id,
    format('hh{{:02d}}:1', hour_of_day)
        || case when what >= 0.92 then format(' amount:{{:.2f}}', 1 + 99 * which) else '' end
        as kvs_num,
    cast(null as varchar) as kvs_str
from drawn
"""
_ATTRIBUTES = """
select
    user_id, 1 + hash(n, 8) % 2 as gender, 18 + hash(n, 9) % 50 as age, '20230101' as reg_time,
    cast(null as varchar) as user_type, cast(null as varchar) as kvs_num,
    'channel:c' || hash(n, 10) % 5 as kvs_str
from users
"""
_ITEMS = """
select
    format('i{{:05d}}', n) as item_id, cast(null as varchar) as kvs_num,
    'category:c' || n % 20 || ' brand:b' || n % 7 as kvs_str
from range({items}) as r (n)
"""
_POPULATION = """
select
    user_id, 'i00001' as item_id, format('+999{{:010d}}', n) as phone, 'Member' as name
from users
"""
_CAMPAIGN = """
name: {task}
algorithm: {{kind: churn}}
training: {{window_days: 42, every_days: 14}}
population: population/{task}
execution_date: {day}
selection: {{top_n: {top}}}
holdout: {{share: 0.1}}
signature: {{name: Example}}
template:
  name: {task}
  content: We miss you! Your gift waits in the app. Reply R to opt out 拒收请回复R
  type: promotion
schedule: {{name: {task}}}
effect: {{return_days: 7, value_per_return: 2.0}}
"""


@dataclass(frozen=True)
class BigWorld:
    """A home whose landing files are written, and what is in them."""

    home: Path
    users: int
    events: int


def make_big_world(
    home: Path, users: int, *, texted: float = 0.5, since: int = DAYS, **settings: object
) -> BigWorld:
    """Write a home with its settings, landing files and campaign.

    Args:
        home: a folder that is not there.
        users: people; each has about a hundred events.
        texted: share of them that the campaign chooses.
        since: days before the execution date with which events begin.
        settings: of the home.
    """
    first = DAY - timedelta(days=DAYS)
    values = {"today": str(DAY), "start_date": str(first), "fictional_numbers": True}
    project = Project(make_home(home, values | settings))
    with connect() as con:
        items = max(100, min(20_000, users // 20))
        con.execute(_USERS.format(users=users, days=DAYS))
        events = sum(_write_events(con, home, items, since))
        for ago in range(DAYS, 0, -_SNAPSHOT_EVERY):
            _write(con, home, f"user/ds={DAY - timedelta(days=ago):%Y%m%d}", _ATTRIBUTES)
        _write(con, home, f"item/ds={first:%Y%m%d}", _ITEMS.format(items=items))
        _write(con, home, f"population/{TASK}", _POPULATION.format())
    path = home / f"{TASK}.yaml"
    path.write_text(
        _CAMPAIGN.format(task=TASK, day=DAY, top=max(1, int(users * texted))), encoding="utf-8"
    )
    list(apply_files(project, [path], "benchmark"))
    for kind, name in (("signature", "Example"), ("template", TASK)):
        review_text(project, kind, name, approve=True, reason=None, actor="benchmark")
    return BigWorld(home, users, events)


def _write_events(con: "DuckDBPyConnection", home: Path, items: int, since: int) -> Iterator[int]:
    """Write each day's events; yields their number."""
    for ago in range(since, -LATER, -1):
        day = DAY - timedelta(days=ago)
        # a hash takes no negative number of days
        sql = _EVENTS.format(ago=ago + LATER, known=DAYS + LATER, items=items)
        yield _write(con, home, f"behavior/ds={day:%Y%m%d}", sql)


def _write(con: "DuckDBPyConnection", home: Path, folder: str, sql: str) -> int:
    """Write one Parquet file; returns its rows."""
    path = home / "landing" / folder / "part-0.parquet"
    path.parent.mkdir(parents=True)
    ((rows,),) = con.execute(f"copy ({sql}) to '{path}' (format parquet)").fetchall()
    return int(rows)
