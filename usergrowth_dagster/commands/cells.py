"""Values of a table or a document, written for a person or as JSON.

Commands hand on what they know as values. How a value looks, on a terminal and in JSON, is decided
here and nowhere else.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any

from usergrowth_dagster.control.wall_clock import shown_moment


class Count(int):
    """A number of rows, people or messages: 1,234 for a person. An id is a plain int."""


class Share(float):
    """A part of a whole, from 0 to 1: 12.3% for a person."""


class Money(float):
    """An amount in the home's currency: 1,234.50 for a person."""


def shown(value: Any) -> str:
    """A value for a person; a moment has its offset from UTC, None is blank."""
    if value is None:
        return ""
    if isinstance(value, Count):
        return f"{value:,d}"
    if isinstance(value, Share):
        return f"{value:.1%}"
    if isinstance(value, Money):
        return f"{value:,.2f}"
    if isinstance(value, datetime):
        return shown_moment(value)
    if isinstance(value, bool):
        return "yes" if value else ""
    return str(value)


def plain(value: Any) -> Any:
    """A value as JSON has it: dataclasses as objects, moments and days by ISO 8601.

    What is not a number has no place in JSON and becomes null.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(plain(name)): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in (sorted(value) if isinstance(value, set) else value)]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else None
    return str(value)


def records(header: Iterable[str], lines: Iterable[Iterable[Any]]) -> list[dict[str, Any]]:
    """The lines of a table as JSON objects, by the names of its columns."""
    names = [key(name) or "detail" for name in header]
    return [dict(zip(names, map(plain, line), strict=True)) for line in lines]


def key(title: str) -> str:
    """A title or header as the name of a JSON field: ``last label day`` is last_label_day."""
    return re.sub(r"\W+", "_", title.casefold()).strip("_")


def document(value: Any) -> str:
    """One JSON document; its fields are in alphabetical order, so that two can be compared."""
    return json.dumps(plain(value), ensure_ascii=False, indent=1, sort_keys=True, allow_nan=False)
