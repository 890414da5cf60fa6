"""Column types: times in UTC, status codes as numbers, states as words; many ids as one value."""

import json
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    SmallInteger,
    String,
    Text,
    TypeDecorator,
    bindparam,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType


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


class Ids(TypeDecorator[Collection[int]]):
    """Ids of rows as one value: an array, on SQLite its JSON."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """An array where the database has them."""
        sqlite = dialect.name == "sqlite"
        return dialect.type_descriptor(Text() if sqlite else ARRAY(BigInteger))

    def process_bind_param(self, value: Collection[int] | None, dialect: Dialect) -> Any:
        """As the database takes it."""
        ids = list(value or ())
        return json.dumps(ids) if dialect.name == "sqlite" else ids


class among(FunctionElement[bool]):
    """Whether a column holds one of the ids that a statement gets as one parameter.

    An ``in`` writes out a parameter for each id, which takes longer than the statement does. SQLite
    does not know how many ids there are: by its statistics an index on another column may look
    better, so that a condition on such a column is one on an expression.
    """

    inherit_cache = True
    # SQLAlchemy writes "= 1" after a boolean, and then SQLite scans the table
    type = NullType()  # type: ignore[assignment]

    def __init__(self, column: Column[int], name: str) -> None:
        super().__init__(column, bindparam(name, type_=Ids()))


@compiles(among, "sqlite")
def _among_of_sqlite(element: among, compiler: SQLCompiler, **given: Any) -> str:
    column, ids = (compiler.process(one, **given) for one in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({ids}))"


@compiles(among, "postgresql")
def _among_of_postgres(element: among, compiler: SQLCompiler, **given: Any) -> str:
    column, ids = (compiler.process(one, **given) for one in element.clauses)
    return f"{column} = ANY ({ids})"
