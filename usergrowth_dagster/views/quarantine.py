"""Rejected rows of landing files, for a person who mends them."""

from datetime import date

from usergrowth_dagster.data.contracts import CONTRACTS
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.quarantine import Rejects, read_rejects

_RULES = sorted({rule.code for one in CONTRACTS.values() for _, rule in one.rejections})


def read_quarantine(
    project: Project, *, table: str | None, day: date | None, rule: str | None, limit: int
) -> Rejects:
    """How many rows were rejected by what, and the first of them.

    Args:
        project: the home.
        table: a landing table, ``population``, or ``population.<task>``; None: all.
        day: the day of the landing folder, or a population's execution date; None: all.
        rule: a rule's code that a row breaks; None: all.
        limit: rows that are listed at most; counts are of all.

    Raises:
        UserError: there is no such table or rule.
    """
    if table is not None and table.partition(".")[0] not in CONTRACTS:
        raise UserError(
            f"--table {table!r}: choose from {', '.join(CONTRACTS)}, population.<task>",
            code="command.invalid",
        )
    if rule is not None and rule not in _RULES:
        raise UserError(f"--rule {rule!r}: choose from {', '.join(_RULES)}", code="command.invalid")
    with open_engine(project.settings) as engine:
        return read_rejects(engine, project.warehouse, table=table, day=day, rule=rule, limit=limit)
