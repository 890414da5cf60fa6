"""Values as JSON documents: what ``--json`` prints, and files that other programs read."""

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any


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


def document(value: Any) -> str:
    """One JSON document; its fields are in alphabetical order, so that two can be compared."""
    return json.dumps(plain(value), ensure_ascii=False, indent=1, sort_keys=True, allow_nan=False)
