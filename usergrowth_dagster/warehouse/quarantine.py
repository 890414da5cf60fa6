"""What is in the quarantine: how many rejects, and which rows with what broken rules."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from usergrowth_dagster.data.contracts import QUARANTINE_TYPES
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.landing import QUARANTINE
from usergrowth_dagster.warehouse.tables import Warehouse


@dataclass(frozen=True)
class RejectCount:
    """How many rows of a table and day were rejected by a rule of a column, None: the whole row."""

    table: str
    day: date
    column: str | None
    rule: str
    rows: int


@dataclass(frozen=True)
class Reject:
    """One rejected row: where it stands, every rule that it breaks with the value, and its text.

    Digits of a population's row are masked; nothing is kept of a forgotten person's.
    """

    table: str
    day: date
    file: str
    line: int
    broken: str
    row: str | None


@dataclass(frozen=True)
class Rejects:
    """The rejects that were asked for: counts of all, and the first rows."""

    counts: list[RejectCount]
    rows: list[Reject]

    @property
    def total(self) -> int:
        """All rows that were asked for, shown or not."""
        return sum(count.rows for count in self.counts)


def read_rejects(
    engine: Engine,
    warehouse: Warehouse,
    *,
    table: str | None = None,
    day: date | None = None,
    rule: str | None = None,
    limit: int = 20,
) -> Rejects:
    """Read the quarantine.

    Args:
        engine: reads the files.
        warehouse: where the tables are.
        table: a landing table, ``population``, or ``population.<task>``; None: all.
        day: the day of the landing folder, or a population's execution date; None: all.
        rule: a rule's code that a row breaks, first or not; None: all.
        limit: rows that are listed at most; counts are of all.
    """
    by_day = warehouse.files(QUARANTINE, first=day, last=day)
    engine.bind_files(QUARANTINE, [f for files in by_day.values() for f in files], QUARANTINE_TYPES)
    where, values = _conditions(table, rule)
    counts = engine.rows(
        f"select table_name, ds, column_name, rule, count(*) from {QUARANTINE} where {where} "
        "group by all order by 2 desc, 1, 5 desc, 4",
        values,
    )
    rows = engine.rows(
        "select table_name, ds, file, line, coalesce(broken, concat_ws(': ', column_name, rule)), "
        f"raw_row from {QUARANTINE} where {where} order by ds desc, table_name, file, line "
        f"limit {limit}",
        values,
    )
    return Rejects([RejectCount(*count) for count in counts], [Reject(*row) for row in rows])


def _conditions(table: str | None, rule: str | None) -> tuple[str, Sequence[str]]:
    conditions, values = ["true"], []
    if table is not None:
        conditions.append("(table_name = ? or starts_with(table_name, ? || '.'))")
        values += [table, table]
    if rule is not None:
        conditions.append(
            "(rule = ? or regexp_matches(broken, concat('(^|: )', regexp_escape(?), '( |;|$)')))"
        )
        values += [rule, rule]
    return " and ".join(conditions), values
