"""Kinds of value in a campaign file, and what a person reads about a wrong one."""

import unicodedata
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

from usergrowth_dagster.days import check_day, read_day

FROM_FILE = "file"
"""Validation context of what a person writes; specs on record were valid when they were written."""

ON_UPLOAD = "on upload"
NOW = "now"


def key_error(key: str, rule: str) -> PydanticCustomError:
    """An error of a rule between keys, reported at the key (below the group that finds it)."""
    return PydanticCustomError("key_rule", "{rule}", {"key": key, "rule": rule})


def _to_date(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, datetime):
        raise ValueError("must be a day without a time, such as 2017-12-28")
    day = value if isinstance(value, date) else read_day(str(value))
    return check_day(day) if info.context == FROM_FILE else day


def _to_execution(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str) and value.strip().lower().replace("_", " ") == ON_UPLOAD:
        return ON_UPLOAD
    try:
        return _to_date(value, info)
    except ValueError as error:
        raise ValueError(f'{error}, or "{ON_UPLOAD}"') from None


def _to_time(value: Any, info: ValidationInfo) -> Any:
    moment = value if isinstance(value, datetime) else _read_time(str(value))
    if moment is None:
        raise ValueError(f"must be a time such as 2017-12-28 10:00:00, not {str(value)!r}")
    if info.context == FROM_FILE:
        check_day(moment.date())
    return moment


def _read_time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if len(text) > 10 else None
    except ValueError:
        return None


def _to_start(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str) and value.strip().lower() == NOW:
        return NOW
    try:
        return _to_time(value, info)
    except ValueError as error:
        raise ValueError(f'{error}, or "{NOW}"') from None


def _folder(value: str, info: ValidationInfo) -> str:
    parts = value.strip("/").split("/")
    if value.startswith("/") or "://" in value or any(part in {"", ".", ".."} for part in parts):
        raise ValueError(
            "must be a folder below the landing root, such as population/spring, "
            "without '..' or a leading '/'"
        )
    return _name("/".join(parts), info)


def check_name(value: str) -> str:
    """Refuse characters that no reader can see: they hide what a name is, or reorder a line.

    Joiners (U+200C and U+200D) are letters' business in several scripts and are allowed.

    Raises:
        ValueError: names the first such character and its place, counted from 1.
    """
    for place, character in enumerate(value, 1):
        kind = unicodedata.category(character)
        if kind in _UNSEEN and character not in _JOINERS:
            raise ValueError(
                f"character {place} is U+{ord(character):04X}, a control or direction character "
                "that cannot be seen; remove it"
            )
    return value


def _name(value: str, info: ValidationInfo) -> str:
    return check_name(value) if info.context == FROM_FILE else value


_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = "\u200c\u200d"

Day = Annotated[date, BeforeValidator(_to_date)]
Moment = Annotated[datetime, BeforeValidator(_to_time)]
Start = Annotated[datetime | Literal["now"], BeforeValidator(_to_start)]
Execution = Annotated[
    date | Literal["on upload"],
    PlainValidator(_to_execution),
    PlainSerializer(str, return_type=str, when_used="json"),
]
Folder = Annotated[str, AfterValidator(_folder)]
Name = Annotated[str, AfterValidator(_name)]
"""A name for people: any script, without characters that cannot be seen."""
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,40}$")]

SEGMENT_NAME = r"^[a-z][a-z0-9_]{0,39}$"
SegmentName = Annotated[str, StringConstraints(pattern=SEGMENT_NAME)]
"""Name of a segment, which is the name of its file."""


class Strict(BaseModel):
    """A group of keys: an unknown one is refused, and nothing is converted in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, str_strip_whitespace=True)
