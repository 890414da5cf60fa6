"""What is known of a person beyond features, as SQL: attributes, consent, address, time zone.

The expressions read a row of a task's population under the alias ``p`` and the user's attributes
under the alias ``a``.
"""

from datetime import date

from usergrowth_dagster.control.campaign_blocks import Channel
from usergrowth_dagster.data.loader import PARSED
from usergrowth_dagster.messaging.policy.zones import is_unknown
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.models import load_graph
from usergrowth_dagster.warehouse.relation import Relation, bind_arrow, bind_days, bind_query


def bind_attributes(engine: Engine, project: Project, day: date) -> Relation:
    """Users' attributes as of an execution date: ``user_id``, ``kvs_str`` and ``kvs_num``.

    They are those of the newest landed day before the execution date, each of which is whole.
    """
    landed = [one for one in project.warehouse.days("stg_user") if one < day]
    newest = [max(landed)] if landed else []
    users = bind_days(engine, project.warehouse, "stg_user", newest, load_graph().types("stg_user"))
    sql = (
        "select user_id, any_value(kvs_str) as kvs_str, any_value(kvs_num) as kvs_num "
        f"from {users} group by user_id"
    )
    return bind_query(engine, "attributes", sql, of=[users])


def attribute_sql(name: str, people: str = "p", attributes: str = "a") -> str:
    """DuckDB expression: a population column, else the user's attribute of that name; or NULL.

    Args:
        name: the column's or attribute's name.
        people: alias of the population.
        attributes: alias of the users' attributes.
    """
    key = literal(name)
    return (
        f"coalesce(nullif(trim({people}.variables[{key}]), ''), "
        f"nullif(trim({attributes}.kvs_str[{key}]), ''), "
        f"cast({attributes}.kvs_num[{key}] as varchar))"
    )


def people_from(population: Relation, attributes: Relation) -> str:
    """What stands in FROM for people with their attributes, under the aliases p and a."""
    return f"{population} as p left join {attributes} as a on p.user_id = a.user_id"


def consent_sql(name: str | None) -> str:
    """DuckDB BOOLEAN expression: whether the attribute says true, yes or 1; true without a name."""
    if name is None:
        return "true"
    return f"coalesce(lower({attribute_sql(name)}) in ('true', 'yes', '1', '1.0'), false)"


def address_column_sql(channel: Channel) -> str:
    """DuckDB expression of the channel's address, as uploaded."""
    return "p.phone" if channel == "sms" else "p.variables['email']"


def count_unknown_zones(
    engine: Engine, settings: Settings, population: Relation, attributes: Relation
) -> dict[str, int]:
    """People by the time zone given for them, of zones that nobody knows; most people first.

    Each value is looked up once, however many people have it.
    """
    values = engine.rows(
        f"select {attribute_sql(settings.timezone_key)}, count(*) "
        f"from {people_from(population, attributes)} group by 1 order by 2 desc, 1"
    )
    return {name: people for name, people in values if is_unknown(name)}


def bind_unknown_zones(
    engine: Engine, settings: Settings, population: Relation, attributes: Relation
) -> Relation:
    """The time zones given for people that nobody knows, in a column ``name``."""
    import pyarrow as pa

    names = list(count_unknown_zones(engine, settings, population, attributes))
    return bind_arrow(engine, "unknown_zones", pa.table({"name": pa.array(names, pa.string())}))


def unknown_zone_sql(settings: Settings, unknown: Relation) -> str:
    """DuckDB BOOLEAN expression: whether the row's time zone is one that nobody knows."""
    return f"coalesce({attribute_sql(settings.timezone_key)} in (from {unknown}), false)"


def unknown_zones_loaded(engine: Engine, settings: Settings) -> dict[str, int]:
    """As :func:`count_unknown_zones`, of an upload that a loader has just read, by its column."""
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
