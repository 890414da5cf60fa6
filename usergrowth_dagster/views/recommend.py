"""The recommendations of a home as people look at them: the list of one user."""

from dataclasses import dataclass
from datetime import date

from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.recommendations import NOBODY, bind_recommendations


@dataclass(frozen=True)
class RecommendationRow:
    """One place of a user's list, and the routes that recalled the item."""

    rank: int
    item_id: str
    title: str
    score: float
    routes: str


@dataclass(frozen=True)
class UserList:
    """The list of a user on a date.

    Attributes:
        known: whether the list is its own, and not that of users without a history.
        rows: in order.
    """

    known: bool
    rows: tuple[RecommendationRow, ...]


def list_of(project: Project, day: date, user_id: str) -> UserList:
    """The list of a user on an execution date; no rows where none stand."""
    with open_engine(project.settings) as engine:
        table = bind_recommendations(engine, project.warehouse, day)
        for asked in (user_id, NOBODY):
            rows = engine.rows(
                f"select rank, item_id, title, score, routes from {table} "
                f"where user_id = {literal(asked)} order by rank"
            )
            if rows:
                break
    return UserList(bool(rows) and asked != NOBODY, tuple(RecommendationRow(*r) for r in rows))
