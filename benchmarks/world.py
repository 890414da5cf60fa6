"""A world of random events for the benchmarks, written straight into the tables of a home.

People differ in how much they do, items in how often they are met; nothing else is modeled. The
same events lie in one Parquet file for the rivals, with one plain column a fact.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.settings import Settings, load_settings
from usergrowth_dagster.warehouse.build import Builder
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.tables import Warehouse

LAST = date(2024, 6, 30)
"""The last day with events. The execution date is the day after it."""
EVENTS = "events.parquet"
KINDS = ("view", "login", "cart", "buy", "share")
_EVENTS = """
create table events as
with drawn as (
    select
        i,
        random() as who,
        random() as what,
        random() as whose,
        cast(floor(random() * {days}) as integer) as ago,
        cast(floor(24 * sqrt(random())) as integer) as hour_of_day,
        random() as price
    from range({events}) as r (i)
)
select
    date '{last}' - ago as ds,
    format('u{{:07d}}', cast(floor({users} * who * who) as bigint)) as user_id,
    case
        when what < 0.5 then 'view' when what < 0.75 then 'login' when what < 0.88 then 'cart'
        when what < 0.97 then 'buy' else 'share'
    end as behavior,
    case
        when what between 0.5 and 0.75 then null
        else format('i{{:05d}}', cast(floor({items} * whose * whose) as bigint))
    end as item_id,
    hour_of_day,
    case when what between 0.88 and 0.97 then round(price * 100, 2) end as pay
from drawn
"""
_BEHAVIOR = """
select
    ds, user_id, behavior, item_id, cast(1 as double) as events,
    map {format('hh{:02d}', hour_of_day): cast(1 as double)} as hours,
    case when pay is not null then map {'pay': cast(pay as double)} end as amounts,
    cast(null as map(varchar, varchar)) as kvs_str
from events
"""


@dataclass(frozen=True)
class World:
    """A home with the tables ``stg_behavior``, ``stg_item`` and ``stg_user``, and its events.

    Attributes:
        settings: of the home.
        warehouse: its tables.
        events: one Parquet file with ds, user_id, behavior, item_id, hour_of_day and pay.
        users: people.
        days: days with events, the last being :data:`LAST`.
    """

    settings: Settings
    warehouse: Warehouse
    events: Path
    users: int
    days: int

    @property
    def execution_date(self) -> date:
        """The day after the last with events."""
        return LAST + timedelta(days=1)

    def dates(self, number: int, step: int = 1) -> list[date]:
        """The execution date and those before it, in order."""
        return [self.execution_date - timedelta(days=step * i) for i in range(number)][::-1]


def make_world(
    folder: Path,
    users: int,
    days: int,
    events_a_day: float = 0.37,
    *,
    items: bool = True,
    **settings: object,
) -> World:
    """Draw the events of some users and write them.

    Args:
        folder: an empty folder.
        users: people.
        days: days with events.
        events_a_day: of a user, on average.
        items: whether items have categories.
        settings: of the home.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own = load_settings(folder / "home", **settings)
    warehouse = Warehouse(Storage(own.storage_root))
    with open_engine(own) as engine:
        # one thread, so that the seed draws the same world each time
        engine.run("set threads = 1")
        engine.value("select setseed(0.42)")
        numbers = {"users": users, "days": days, "items": max(20, users // 50), "last": LAST}
        engine.run(_EVENTS.format(events=int(users * days * events_a_day), **numbers))
        engine.run(f"set threads = {own.threads}")
        engine.run(f"copy events to '{folder / EVENTS}' (format parquet)")
        for some in _parts([LAST - timedelta(days=i) for i in range(days)][::-1], 30):
            span = f"ds between '{some[0]}' and '{some[-1]}'"
            warehouse.replace(
                "stg_behavior", _stream(engine, f"{_BEHAVIOR} where {span} order by ds"), days=some
            )
        if items:
            _write_items(engine, warehouse, LAST - timedelta(days=days - 1))
    return World(own, warehouse, folder / EVENTS, users, days)


def _write_items(engine: Engine, warehouse: Warehouse, first: date) -> None:
    """The catalogue of the items that were met, with a store and a brand each."""
    item = (
        f"select date '{first}' as ds, item_id, cast(null as map(varchar, double)) as kvs_num, "
        "map {'store': 's' || right(item_id, 2), 'brand': 'b' || right(item_id, 1)} as kvs_str "
        "from (select distinct item_id from events where item_id is not null)"
    )
    warehouse.replace("stg_item", _stream(engine, item), days=[first])


def build_facts(world: World, days: list[date] | None = None) -> Builder:
    """Build the facts of some days, of all by default; returns the builder."""
    builder = Builder(world.settings, world.warehouse)
    every = days or [LAST - timedelta(days=i) for i in range(world.days)][::-1]
    facts = [name for name in builder.graph.tables if builder.graph.models[name].folder == "facts"]
    builder.build_with_inputs(facts, every)
    return builder


def _stream(engine: Engine, sql: str) -> Callable[[], object]:
    return lambda: engine.stream(sql)


def _parts(days: list[date], size: int) -> Iterator[list[date]]:
    for start in range(0, len(days), size):
        yield days[start : start + size]
