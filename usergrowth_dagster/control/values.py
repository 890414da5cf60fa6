"""Kinds of value in a campaign file, and what a person reads about a wrong one."""

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
)
from pydantic_core import PydanticCustomError

ON_UPLOAD = "on upload"
NOW = "now"


def key_error(key: str, rule: str) -> PydanticCustomError:
    """An error of a rule between keys, told at the key (below the group that finds it)."""
    return PydanticCustomError("key_rule", "{rule}", {"key": key, "rule": rule})


def _to_date(value: Any) -> Any:
    if isinstance(value, datetime):
        raise ValueError("must be a day without a time, such as 2017-12-28")
    if isinstance(value, date):
        return value
    text = str(value)
    for form in ("%Y-%m-%d", "%Y%m%d"):
        try:
            return datetime.strptime(text, form).date()
        except ValueError:
            continue
    raise ValueError(f"must be a day such as 2017-12-28 or 20171228, not {text!r}")


def _to_execution(value: Any) -> Any:
    if isinstance(value, str) and value.strip().lower().replace("_", " ") == ON_UPLOAD:
        return ON_UPLOAD
    try:
        return _to_date(value)
    except ValueError as error:
        raise ValueError(f'{error}, or "{ON_UPLOAD}"') from None


def _to_time(value: Any) -> Any:
    if isinstance(value, datetime):
        return value
    try:
        if len(str(value)) > 10:
            return datetime.fromisoformat(str(value))
    except ValueError:
        pass
    raise ValueError(f"must be a time such as 2017-12-28 10:00:00, not {str(value)!r}")


def _to_start(value: Any) -> Any:
    if isinstance(value, str) and value.strip().lower() == NOW:
        return NOW
    try:
        return _to_time(value)
    except ValueError as error:
        raise ValueError(f'{error}, or "{NOW}"') from None


def _folder(value: str) -> str:
    parts = value.strip("/").split("/")
    if value.startswith("/") or "://" in value or any(part in {"", ".", ".."} for part in parts):
        raise ValueError(
            "must be a folder below the landing root, such as population/spring, "
            "without '..' or a leading '/'"
        )
    return "/".join(parts)


Day = Annotated[date, BeforeValidator(_to_date)]
Moment = Annotated[datetime, BeforeValidator(_to_time)]
Start = Annotated[datetime | Literal["now"], BeforeValidator(_to_start)]
Execution = Annotated[
    date | Literal["on upload"],
    PlainValidator(_to_execution),
    PlainSerializer(str, return_type=str, when_used="json"),
]
Folder = Annotated[str, AfterValidator(_folder)]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,40}$")]


class Strict(BaseModel):
    """A group of keys: an unknown one is refused, and nothing is converted in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, str_strip_whitespace=True)
