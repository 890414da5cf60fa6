"""Propose the cursor and the key of a table: by which column its new rows are found, and why."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from usergrowth_dagster.sources.databases.session import TableFacts
from usergrowth_dagster.sources.databases.table import OpenTable, table_parts

_CHANGE = re.compile(r"updat|modif|chang|mtime|last_?(seen|write)", re.IGNORECASE)
_BIRTH = re.compile(r"creat|insert|added|_at$|^at$|^ts$|time|date", re.IGNORECASE)
_LATE_TIME = "10 minutes"
_LATE_NUMBER = 1000


@dataclass(frozen=True)
class Growth:
    """How new rows of a table are found.

    Attributes:
        keys: ``cursor``, ``key`` and ``late`` as sources.yml has them; none where no column grows.
        reasons: by key, why; under ``cursor`` also where there is none.
    """

    keys: Mapping[str, str | int | list[str]] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)


def growth_of(table: OpenTable, known: Mapping[str, float]) -> Growth:
    """Propose cursor and key of a table.

    Args:
        table: the table or query.
        known: by column, the share of its rows that have a value.
    """
    facts = TableFacts((), frozenset())
    if table.keys.table is not None:
        facts = table.session.facts(table_parts(table.keys))
    if change := _time_called(table, known, _CHANGE):
        return _by_time(change, facts, "a time of change", "deleted rows are not seen")
    (number, *others) = facts.primary_key or ("",)
    if number and not others and _is_whole_number(table, number):
        return Growth(
            {"cursor": number, "late": _LATE_NUMBER},
            {
                "cursor": f"{number} is the primary key and a whole number: new rows are seen, "
                "changed and deleted ones are not",
                "late": "a transaction may commit numbers that it took earlier",
            },
        )
    if birth := _time_called(table, known, _BIRTH):
        return _by_time(birth, facts, "a time", "changed and deleted rows are not seen")
    return Growth(
        {},
        {"cursor": "no column grows by its type and name: every row is read every time"},
    )


def _by_time(column: str, facts: TableFacts, what: str, unseen: str) -> Growth:
    index = (
        "has an index" if column in facts.indexed else "has no index, so every pull sorts the table"
    )
    keys: dict[str, str | int | list[str]] = {"cursor": column}
    reasons = {"cursor": f"{column} is {what} in every row and {index}; {unseen}"}
    if facts.primary_key:
        keys["key"] = list(facts.primary_key)
        reasons["key"] = "the primary key: a row that is read again replaces the earlier one"
    keys["late"] = _LATE_TIME
    reasons["late"] = "a transaction may commit later than the times that it wrote"
    return Growth(keys, reasons)


def _time_called(
    table: OpenTable, known: Mapping[str, float], names: re.Pattern[str]
) -> str | None:
    """The first column of times that has such a name and a value in every row."""
    import pyarrow.types as types

    for column in table.schema:
        is_time = types.is_timestamp(column.type) or types.is_date(column.type)
        if is_time and names.search(column.name) and known.get(column.name, 0.0) == 1.0:
            return str(column.name)
    return None


def _is_whole_number(table: OpenTable, name: str) -> bool:
    import pyarrow.types as types

    return bool(types.is_integer(table.schema.field(name).type))
