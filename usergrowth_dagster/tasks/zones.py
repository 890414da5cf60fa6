"""People whose time zone is given and names none for certain: who they are, and how many."""

from usergrowth_dagster.data.loader import PARSED
from usergrowth_dagster.messaging.policy.zones import is_unknown
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.tasks.people import attribute_sql
from usergrowth_dagster.warehouse.engine import Engine

_UNKNOWN = "unknown_zones"


def bind_unknown_zones(engine: Engine, settings: Settings) -> dict[str, int]:
    """Make the table ``unknown_zones`` of a population; returns its rows by zone, most first.

    Each value is looked up once, however many people have it. Bound must be ``task_population`` and
    ``user_attributes``.
    """
    import pyarrow as pa

    values = engine.rows(
        f"select {attribute_sql(settings.timezone_key)}, count(*) from task_population as p "
        "left join user_attributes as a on p.user_id = a.user_id group by 1 order by 2 desc, 1"
    )
    unknown = {name: people for name, people in values if is_unknown(name)}
    engine.bind_arrow(_UNKNOWN, pa.table({"name": pa.array(list(unknown), pa.string())}))
    return unknown


def unknown_zone_sql(settings: Settings) -> str:
    """DuckDB BOOLEAN expression: whether the row's time zone is one of ``unknown_zones``."""
    return f"coalesce({attribute_sql(settings.timezone_key)} in (from {_UNKNOWN}), false)"


def unknown_zones_loaded(engine: Engine, settings: Settings) -> dict[str, int]:
    """The same of an upload that a loader has just read, by its time zone column; most first."""
    values = engine.rows(
        f"select trim(variables[?]), count(*) from {PARSED} where reject = 0 "
        "group by 1 order by 2 desc, 1",
        [settings.timezone_key],
    )
    return {zone: people for zone, people in values if is_unknown(zone)}


def unknown_zones_sentence(zones: dict[str, int]) -> str:
    """How many people are held for their time zone, and what it says."""
    listed = [f"{zone!r} {people:,}" for zone, people in list(zones.items())[:5]]
    more = f" and {len(zones) - 5} more values" if len(zones) > 5 else ""
    return (
        f"{sum(zones.values()):,} people are held, since no time zone is known by the name that is "
        f"given for them ({', '.join(listed)}{more}): write IANA names such as Europe/London, or "
        "leave the value out where it is not known"
    )
