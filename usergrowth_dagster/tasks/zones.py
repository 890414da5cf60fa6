"""People whose time zone is given and names none for certain: who they are, and how many."""

import contextlib
from fnmatch import fnmatchcase

from usergrowth_dagster.control.campaign import CampaignSpec
from usergrowth_dagster.control.tasks import all_tasks
from usergrowth_dagster.data.contracts import CONTRACTS, Reading
from usergrowth_dagster.data.loader import PARSED, Loader
from usergrowth_dagster.data.population import (
    FOLDER,
    population_files,
    population_uploads,
    variable_names,
)
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.policy.zones import is_unknown
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.tasks.people import attribute_sql
from usergrowth_dagster.tasks.project import Project
from usergrowth_dagster.warehouse.engine import Engine, open_engine

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


def unknown_zones_of_uploads(project: Project, spec: CampaignSpec) -> dict[str, dict[str, int]]:
    """What a campaign's uploads have in their time zone column that names none for certain.

    Uploads without such a column, and those whose send plan is made, are not read. One that cannot
    be read is passed over: its task fails with the reason, and the campaign may come first.

    Returns:
        Rows by zone, by name of the upload; only uploads with any.
    """
    planned = {task.upload for task in all_tasks(project.store) if task.frozen}
    found = {}
    for name in population_uploads(project.landing):
        if name not in planned and fnmatchcase(f"{FOLDER}/{name}", spec.population):
            with contextlib.suppress(UserError):
                found[name] = _of_upload(project, name)
    return {name: zones for name, zones in found.items() if zones}


def _of_upload(project: Project, name: str) -> dict[str, int]:
    files, reading = population_files(project.landing, name), Reading.of(project.settings)
    key = project.settings.timezone_key
    if key not in variable_names(project.landing, files, reading.encoding):
        return {}
    with open_engine(project.settings) as engine:
        loader = Loader(engine.connection, project.landing, CONTRACTS[FOLDER], None, reading)
        loader.load(project.settings.current_date(), files.files)
        loader.finish()
        values = engine.rows(
            f"select trim(variables[?]), count(*) from {PARSED} where reject = 0 "
            "group by 1 order by 2 desc, 1",
            [key],
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
