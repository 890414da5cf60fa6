"""The table of recommended items: its columns, and what texts show of it."""

import re
from collections.abc import Iterable
from datetime import date

from usergrowth_dagster.warehouse.columns import types_of
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation, bind_days, bind_query
from usergrowth_dagster.warehouse.tables import Warehouse

TABLE = "recommendations"

NOBODY = ""
"""The user id of the list for users without a history."""

COLUMNS: dict[str, tuple[str, str]] = {
    "ds": ("DATE", "execution date"),
    "user_id": ("VARCHAR", "the user; empty: the list of users without a history"),
    "rank": ("INTEGER", "place in the user's list, from 1"),
    "item_id": ("VARCHAR", "the item"),
    "title": ("VARCHAR", "what a text shows of it"),
    "score": ("DOUBLE", "of the order; comparable within a user only"),
    "routes": ("VARCHAR", "routes that recalled it, with commas between"),
}

_VARIABLE = re.compile(r"item(?:_([2-9]|10))?")


def item_variable(rank: int) -> str:
    """The variable of a text that shows the item at a place: ``item``, ``item_2``, ...

    >>> item_variable(1), item_variable(2)
    ('item', 'item_2')
    """
    return "item" if rank == 1 else f"item_{rank}"


def ranks_of(names: Iterable[str]) -> dict[str, int]:
    """The place of the item that each variable shows, of those that show one.

    >>> ranks_of(["item", "name", "item_3"])
    {'item': 1, 'item_3': 3}
    """
    matches = {name: _VARIABLE.fullmatch(name) for name in names}
    return {name: int(match[1] or 1) for name, match in matches.items() if match}


def bind_recommendations(engine: Engine, warehouse: Warehouse, day: date) -> Relation:
    """The rows of a date, with the columns of :data:`COLUMNS`; none where none stand."""
    return bind_days(engine, warehouse, TABLE, [day], types_of(COLUMNS))


def bind_titles(engine: Engine, warehouse: Warehouse, day: date) -> Relation:
    """Each user's titles of a date in a list, the first item first: ``user_id``, ``titles``."""
    rows = bind_recommendations(engine, warehouse, day)
    sql = f"select user_id, list(title order by rank) as titles from {rows} group by user_id"
    return bind_query(engine, "titles", sql, of=[rows])
