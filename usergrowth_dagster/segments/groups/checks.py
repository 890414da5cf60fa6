"""The check of a group: what became of each row of its source, and the record of that.

The Delta table ``segment_checks`` keeps the newest check of each segment and date, partitioned by
both. A check is ``checking`` while it is at work, and stays so when the process is killed. No value
is kept in clear: of a number the beginning and end, of a user id nothing but its length.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

from usergrowth_dagster.control.store import utc_now
from usergrowth_dagster.documents import plain
from usergrowth_dagster.error_codes import ErrorCode
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.segments.definition import Named
from usergrowth_dagster.warehouse.columns import arrow_schema, types_of
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import bind_files
from usergrowth_dagster.warehouse.tables import Warehouse

CHECKS = "segment_checks"
KEPT_ERRORS = 100
"""Rows that are kept with line, rule and masked value; all are counted."""

State = Literal["checking", "passed", "failed"]

RULES: Mapping[str, str] = {
    "empty": "a row has a value",
    "bad_phone": "the value is a phone number that some country's plan has",
    "no_country": "a number has its country code, unless the setting default_country is set",
    "nul": "a value holds no NUL",
    "no_user": "the number is the newest uploaded one of a user, or identity knows its user",
    "unknown_user": "the user is in user_features of the date, or in an upload up to it",
    "duplicate": "a value is there once; the first row counts",
    "same_user": "two numbers are not of one user; the first row counts",
}
"""By code, what a row of a list must keep to; CSV rows keep to the rules of landing rows too."""

LEFT_OUT = ("no_user", "unknown_user", "duplicate", "same_user")
"""Rules that say nothing about the form of a row; they do not fail a check."""

COUNTED_ONLY = ("duplicate", "same_user")
"""Rules whose rows are counted and not listed."""

CHECK_COLUMNS: Mapping[str, tuple[str, str]] = {
    "ds": ("DATE", "execution date"),
    "segment": ("VARCHAR", "the segment"),
    "version": ("VARCHAR", "of its definition"),
    "source": ("VARCHAR", "text, text_file, csv, table or algorithm"),
    "state": ("VARCHAR", "checking, passed or failed"),
    "rows": ("BIGINT", "values of the list, or people that the table or the algorithm gave"),
    "members": ("BIGINT", "people of the segment"),
    "with_number": ("BIGINT", "of these, people with a readable number in an upload"),
    "reasons": ("VARCHAR", "by rule, the rows that are no members, as JSON"),
    "errors": ("VARCHAR", "the first rows that break a rule, values masked, as JSON"),
    "problem": ("VARCHAR", "why the check failed; empty unless it did"),
    "checked_at": ("TIMESTAMP WITH TIME ZONE", "when (UTC)"),
}
"""By name, the DuckDB type and the meaning of the columns of ``segment_checks``."""


@dataclass(frozen=True)
class RowError:
    """A row that breaks a rule: its line, column, the rule, and the value masked."""

    line: int
    column: str
    rule: str
    value: str


@dataclass(frozen=True)
class GroupCheck:
    """The check of a group on a date; see :data:`CHECK_COLUMNS`.

    ``rows`` are ``members`` and the rows of all ``reasons``, unless the source could not be read.
    """

    ds: date
    segment: str
    version: str
    source: str
    state: State
    rows: int = 0
    members: int = 0
    with_number: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    errors: tuple[RowError, ...] = ()
    problem: str = ""
    checked_at: datetime = field(default_factory=utc_now)

    @property
    def left_out(self) -> str:
        """How many rows each rule kept out, such as ``1 no_user, 1 duplicate``; empty for none."""
        return ", ".join(f"{rows:,} {rule}" for rule, rows in self.reasons.items())

    @property
    def sentence(self) -> str:
        """The state and the figures."""
        if self.state == "checking":
            return (
                "its source is being checked, or the check was killed; refresh it again when no "
                "run is at work"
            )
        if self.state == "failed":
            return f"the check of its source failed: {self.problem}"
        return (
            f"the check of its source passed: {self.rows:,} rows are {self.members:,} people"
            + (f" ({self.left_out})" if self.reasons else "")
            + f"; {self.members - self.with_number:,} of the people have no uploaded number"
        )


class GroupFailedError(UserError):
    """A check that failed, with its figures."""

    def __init__(
        self,
        sentence: str,
        check: GroupCheck | None = None,
        *,
        code: ErrorCode = "segment.check_failed",
        hint: str = "",
    ) -> None:
        super().__init__(sentence, code=code, hint=hint)
        self.check = check


def begin(named: Named, day: date) -> GroupCheck:
    """The check of a group that is at work."""
    segment = named.segment
    return GroupCheck(day, named.name, segment.version, segment.form, "checking")


def write_check(warehouse: Warehouse, check: GroupCheck) -> None:
    """Record a check, in place of an earlier one of the same segment and date."""
    import pyarrow as pa

    row = {name: getattr(check, name) for name in CHECK_COLUMNS}
    row["reasons"] = json.dumps(dict(check.reasons))
    row["errors"] = json.dumps(plain(check.errors), ensure_ascii=False)
    warehouse.replace(
        CHECKS,
        pa.Table.from_pylist([row], arrow_schema(CHECK_COLUMNS)),
        days=[check.ds],
        scope={"segment": check.segment},
    )


def read_check(
    engine: Engine, warehouse: Warehouse, segment: str, *, day: date | None = None
) -> GroupCheck | None:
    """The newest check of a segment, or that of a date; None where there is none."""
    if not warehouse.exists(CHECKS):
        return None
    days = warehouse.files(CHECKS, first=day, last=day)
    files = [
        path
        for _, paths in sorted(days.items())
        for path in paths
        if f"/segment={segment}/" in path
    ]
    if not files:
        return None
    engine.run("set TimeZone = 'UTC'")
    kinds = types_of(CHECK_COLUMNS)
    bound = bind_files(engine, CHECKS, files[-1:], kinds)
    row: dict[str, Any] = dict(zip(kinds, engine.rows(f"select * from {bound}")[0], strict=True))
    row["reasons"] = json.loads(row["reasons"])
    row["errors"] = tuple(RowError(**one) for one in json.loads(row["errors"]))
    return GroupCheck(**row)
