"""The interest ranking of a home as people look at it: the first users of each category."""

from dataclasses import dataclass
from datetime import date

from usergrowth_dagster.affinity.interest import COLUMNS, TABLE
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.warehouse.columns import types_of
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.relation import bind_days


@dataclass(frozen=True)
class InterestRow:
    """One user's place in a category, with the parts of the interest."""

    category: str
    rank: int
    user_id: str
    interest: float
    time_score: float
    amount_score: float
    term_score: float


def top_interest(
    project: Project, day: date, *, top: int, category: str | None = None
) -> tuple[InterestRow, ...]:
    """The first users of each category on a date; of one category alone where it is named.

    Args:
        project: the home.
        day: an execution date whose ranking stands.
        top: users of each category.
        category: only this one.
    """
    only = f"and category = {literal(category)}" if category else ""
    types = types_of(COLUMNS)
    with open_engine(project.settings) as engine:
        table = bind_days(engine, project.warehouse, TABLE, [day], types)
        found = engine.rows(
            "select category, rank, user_id, interest, time_score, amount_score, term_score "
            f"from {table} where rank <= {top} {only} order by category, rank"
        )
    return tuple(InterestRow(*row) for row in found)
