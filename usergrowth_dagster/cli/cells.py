"""Cells of a table, written for a person or as the fields of a JSON document.

Commands hand on what they know as values. How a value looks on a terminal is decided here and
nowhere else; its form in JSON is that of :mod:`usergrowth_dagster.documents`.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from usergrowth_dagster.control.wall_clock import shown_moment
from usergrowth_dagster.documents import plain


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


def records(header: Iterable[str], lines: Iterable[Iterable[Any]]) -> list[dict[str, Any]]:
    """The lines of a table as JSON objects, by the names of its columns."""
    names = [key(name) or "detail" for name in header]
    return [dict(zip(names, map(plain, line), strict=True)) for line in lines]


def key(title: str) -> str:
    """A title or header as the name of a JSON field: ``last label day`` is last_label_day."""
    return re.sub(r"\W+", "_", title.casefold()).strip("_")
