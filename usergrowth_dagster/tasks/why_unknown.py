"""Whether a user id means anybody, before a story of nothing is told of it."""

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.tasks.project import Project
from usergrowth_dagster.warehouse.engine import open_engine

_TABLES = ("population", "raw_user", "raw_behavior", "raw_operation")


def require_known_user(project: Project, user_id: str) -> None:
    """Refuse a user id that stands in no population and in nothing that has landed, on any day.

    Raises:
        UserError: it does not.
    """
    with open_engine(project.settings) as engine:
        for table in _TABLES:
            files = [name for names in project.warehouse.files(table).values() for name in names]
            engine.bind_files(table, files, {"user_id": "VARCHAR"})
            if engine.rows(f"select 1 from {table} where user_id = ? limit 1", [user_id]):
                return
    raise UserError(
        f"no user is called {user_id!r}: the id stands in no population, message, suppression, or "
        "landed user, behavior or operation; give the user_id as it is written there",
        code="person.unknown",
    )
