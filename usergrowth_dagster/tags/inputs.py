"""The relations that tags, RFM and AIPL are made from, as of an execution date.

Everything is of the days before the date: features as of it, facts of a window that ends on the
eve, and scores of the date or earlier ones.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.models import load_graph
from usergrowth_dagster.warehouse.relation import Relation, bind_days

FEATURES, FACTS = "user_features", "user_day"


def bind_features(engine: Engine, project: Project, day: date) -> Relation:
    """Features of every user who is known on the date.

    Raises:
        UserError: they have not been built.
    """
    columns = load_graph().types(FEATURES)
    relation = bind_days(engine, project.warehouse, FEATURES, [day], columns)
    if not relation.files:
        raise UserError(
            f"{FEATURES} of {day} is not there; `usergrowth tags run --date {day}` builds it, if "
            "days before it have landed",
            code="tag.not_ready",
        )
    return relation


def bind_facts(engine: Engine, project: Project, day: date, days: int) -> Relation:
    """What users did in the ``days`` days before the date, a row a user and day."""
    wanted = {day - timedelta(days=back) for back in range(1, days + 1)}
    return bind_days(engine, project.warehouse, FACTS, wanted, load_graph().types(FACTS))


@dataclass(frozen=True)
class Written:
    """A table of a date as it stands after a run.

    Attributes:
        table: its name.
        day: the execution date.
        rows: of the date.
        version: Delta version that holds them.
        unchanged: whether they stood already.
    """

    table: str
    day: date
    rows: int
    version: int | None
    unchanged: bool


def write_rows(
    engine: Engine,
    project: Project,
    table: str,
    day: date,
    sql: str,
    made_from: str,
    note: Callable[[], Mapping[str, Any]] | None = None,
) -> Written:
    """Replace a table's rows of a date by those of a query, unless they stand already.

    Args:
        engine: holds what the query reads.
        project: the home.
        table: a table with ``ds`` and ``user_id``.
        day: the execution date.
        sql: the query; its first columns are ``ds`` and ``user_id``.
        made_from: all that the rows depend on, as text.
        note: what is noted with the rows; it is asked for when they are written.
    """
    warehouse = project.warehouse
    mark = hashlib.sha256(made_from.encode()).hexdigest()[:16]
    unchanged = warehouse.fingerprint(table, day) == mark
    if not unchanged:
        warehouse.replace(
            table,
            lambda: engine.stream(f"{sql} order by user_id"),
            days=[day],
            fingerprints={day: mark},
            notes={day: note()} if note is not None else None,
        )
    rows = warehouse.row_counts(table, first=day, last=day).get(day, 0)
    return Written(table, day, rows, warehouse.version(table), unchanged)
