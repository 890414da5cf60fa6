"""Decisions as Arrow tables, for tests that look at their rows."""

from datetime import date

import pyarrow as pa

from usergrowth_dagster.audience.records import Spend, decided_rows, spend, summarize
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation, bind_arrow
from usergrowth_dagster.warehouse.tables import Warehouse


def decided_table(engine: Engine, decided: Relation) -> pa.Table:
    """The rows of a decision in order."""
    return engine.arrow(f'select * from {decided} order by "row"')


def read_decisions(engine: Engine, warehouse: Warehouse, day: date, task_id: str) -> pa.Table:
    """One task's decision as it stands, in order."""
    return decided_table(engine, decided_rows(engine, warehouse, day, task_id))


def outcome_counts(engine: Engine, table: pa.Table) -> dict[str, int]:
    """Rows by outcome, as the product counts them."""
    return summarize(engine, bind_arrow(engine, "counted", table))


def spent(engine: Engine, table: pa.Table) -> Spend:
    """What texts take, as the product adds it up."""
    return spend(engine, bind_arrow(engine, "paid", table))
