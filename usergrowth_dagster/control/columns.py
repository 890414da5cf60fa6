"""Column types: times in UTC, status codes as numbers, states as words."""

from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from sqlalchemy import DateTime, Dialect, SmallInteger, String, TypeDecorator


class UtcTime(TypeDecorator[datetime]):
    """An aware time, kept in UTC; a naive one is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC, without zone where the database has none."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Code(TypeDecorator[Any]):
    """An IntEnum as a small integer."""

    impl = SmallInteger
    cache_ok = True

    def __init__(self, enum: type[Enum]) -> None:
        super().__init__()
        self.enum = enum

    def process_bind_param(self, value: Any, dialect: Dialect) -> int | None:
        """The code's number."""
        return None if value is None else int(self.enum(value).value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """The code's name."""
        return None if value is None else self.enum(value)


class Word(TypeDecorator[Any]):
    """A StrEnum as a short text."""

    impl = String(16)
    cache_ok = True

    def __init__(self, enum: Callable[[str], Any]) -> None:
        super().__init__()
        self.enum = enum

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """The state's text."""
        return None if value is None else str(self.enum(value))

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """The state."""
        return None if value is None else self.enum(value)
