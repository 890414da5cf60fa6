"""A category of items as of an execution date, and the tables that say who bought from it."""

from dataclasses import dataclass
from datetime import date

from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.models import load_graph
from usergrowth_dagster.warehouse.relation import Relation, bind_days

_BEHAVIOR, _ITEM = "stg_behavior", "stg_item"


@dataclass(frozen=True)
class Category:
    """The items with a value of an attribute.

    Attributes:
        day: the execution date; nothing from it on is read.
        attribute: key of the items' string attributes, such as ``department``.
        value: its value.
        behavior: the kind that counts as buying.
        amount: key of the behaviors' numbers that is spent.
    """

    day: date
    attribute: str
    value: str
    behavior: str = "buy"
    amount: str = "sales_value"

    @property
    def values_sql(self) -> str:
        """The SQL expression of an item's values of the attribute, ``|`` between several."""
        return f"kvs_str[{literal(self.attribute)}]"


def bind_landed(engine: Engine, project: Project, category: Category) -> tuple[Relation, Relation]:
    """The behavior before the date, and the newest snapshot of the items before it."""
    graph, warehouse = load_graph(), project.warehouse
    before = [one for one in warehouse.days(_BEHAVIOR) if one < category.day]
    newest = [one for one in warehouse.days(_ITEM) if one < category.day][-1:]
    behavior = bind_days(engine, warehouse, _BEHAVIOR, before, graph.types(_BEHAVIOR))
    return behavior, bind_days(engine, warehouse, _ITEM, newest, graph.types(_ITEM))
