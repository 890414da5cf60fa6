"""The addresses that landed links know a user by, for erasure."""

from usergrowth_dagster.data.contracts import CONTRACTS, IDENTITY
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.identity.definition import DEFAULT_TYPES, read_identity
from usergrowth_dagster.identity.links import RAW
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literals
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.relation import bind_files


def landed_addresses(project: Project, user_id: str) -> list[str]:
    """Phone numbers and e-mail addresses that landed with a user and with nobody else.

    One that others have too may be a hotline, which is not the person's. Where identity.yml breaks
    its format, the default types count: a person can be forgotten all the same.

    Args:
        project: the home.
        user_id: the user.

    Returns:
        The values as they landed, in order.
    """
    files = [path for paths in project.warehouse.files(RAW).values() for path in paths]
    if not files:
        return []
    try:
        types = read_identity(project.settings.home).all_types
    except UserError:
        types = DEFAULT_TYPES
    names = literals(one.name for one in types if one.is_address)
    if not names:
        return []
    with open_engine(project.settings) as engine:
        raw = bind_files(engine, RAW, files, CONTRACTS[IDENTITY].raw_types())
        rows = engine.rows(
            f"select id_value from {raw} where id_type in ({names}) and id_value in ("
            f"select id_value from {raw} where user_id = ?) "
            "group by id_value having count(distinct user_id) = 1 order by id_value",
            [user_id],
        )
    return [value for (value,) in rows]
