"""Who went from which group to which between two dates: RFM groups and AIPL stages."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.tags import aipl, rfm
from usergrowth_dagster.warehouse.columns import types_of
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.relation import bind_days

NEW, LEFT = "new", "left"
"""Users in no group on the first date, and on the second."""

GROUPED = {
    rfm.TABLE: (rfm.TYPE, rfm.COLUMNS, (*(one.code for one in rfm.TYPES), rfm.NEVER_BOUGHT)),
    aipl.TABLE: (aipl.STAGE, aipl.COLUMNS, tuple(aipl.STAGES)),
}
"""By table: the column with the group, all columns, and the groups in their order."""


@dataclass(frozen=True)
class Flow:
    """Users by the group that they were in and the one that they are in.

    Attributes:
        table: ``rfm`` or ``aipl``.
        first, last: the two execution dates.
        groups: the groups in their order.
        users: counts by (group on the first date, group on the last); ``new`` stands for no group
            on the first, ``left`` for none on the last.
    """

    table: str
    first: date
    last: date
    groups: tuple[str, ...]
    users: dict[tuple[str, str], int]

    @property
    def rows(self) -> list[list[str | int]]:
        """The matrix: a line for each group of the first date and for ``new``."""
        return [
            [before, *(self.users.get((before, after), 0) for after in (*self.groups, LEFT))]
            for before in (*self.groups, NEW)
        ]

    @property
    def header(self) -> list[str]:
        """Names of the columns of :attr:`rows`."""
        return [f"{self.first} → {self.last}", *self.groups, LEFT]


def flow_between(project: Project, table: str, first: date, last: date) -> Flow:
    """The flow between two dates.

    Args:
        project: the home.
        table: ``rfm`` or ``aipl``.
        first, last: execution dates.

    Raises:
        UserError: the table is not there for one of the dates.
    """
    column, columns, groups = GROUPED[table]
    types = types_of(columns)
    for day in (first, last):
        check_worked_out(project, table, day)
    with open_engine(project.settings) as engine:
        before = bind_days(engine, project.warehouse, table, [first], types)
        after = bind_days(engine, project.warehouse, table, [last], types)
        name = identifier(column)
        rows = engine.rows(
            f"select coalesce(b.{name}, {literal(NEW)}), coalesce(a.{name}, {literal(LEFT)}), "
            f"count(*) from {before} as b full join {after} as a using (user_id) group by 1, 2"
        )
    return Flow(table, first, last, groups, {(x, y): count for x, y, count in rows})


def written_days(project: Project, table: str) -> Sequence[date]:
    """Dates of which a table has been worked out, in order, also those without rows."""
    return sorted(project.warehouse.fingerprints(table)) if project.warehouse.exists(table) else []


def check_worked_out(project: Project, table: str, day: date) -> None:
    """Check that a table of ``tags.yml`` is there for a date.

    Raises:
        UserError: it is not; names the command and the newest dates of which it is.
    """
    days = written_days(project, table)
    if day not in days:
        newest = ", ".join(map(str, days[-5:])) or "none"
        raise UserError(
            f"{table} of {day} has not been worked out; `usergrowth tags run --date {day}` does it "
            f"(dates that have: {newest})",
            code="tag.not_ready",
        )
