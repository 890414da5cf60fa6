"""The keys of a database in ``sources.yml``.

database:
  url: postgresql://reader@db.example.com/shop
  password_env: SHOP_PASSWORD
  table: public.orders
  cursor: updated_at
  key: id
  late: 10 minutes
"""

import re
from datetime import timedelta
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

Dialect = Literal["postgresql", "mysql"]

_DIALECTS: dict[str, Dialect] = {
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
}
_LATE = re.compile(r"(\d{1,9})(?: (second|minute|hour|day)s?)?")
_NO_PASSWORD = (
    "a password never stands here; name the environment variable that has it in password_env, or "
    "its file in password_file"
)


def is_database_url(text: str) -> bool:
    """Whether a text is the URL of a database that can be a source."""
    return text.partition("://")[0].lower() in _DIALECTS and "://" in text


def dialect_of(url: str) -> Dialect:
    """The dialect of a checked URL."""
    return _DIALECTS[urlsplit(url).scheme.lower()]


def shown_url(url: str) -> str:
    """A database for people: neither user nor parameters of its URL."""
    parts = urlsplit(url)
    return f"{dialect_of(url)}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def checked_url(value: Any) -> Any:
    """The URL of a database without a password.

    The errors do not repeat the value, since it may hold the password.
    """
    if not isinstance(value, str) or not is_database_url(value):
        raise ValueError("must begin with postgresql://, mysql:// or mariadb://")
    try:
        parts = urlsplit(value)
        names = [name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
        _ = parts.port
    except ValueError:
        raise ValueError("is no URL such as postgresql://reader@db.example.com:5432/shop") from None
    if parts.password is not None or any("pass" in name or name == "pwd" for name in names):
        raise ValueError(_NO_PASSWORD)
    if "@" in (parts.username or "") or "@" in parts.path:
        raise ValueError("has two @; write the one that belongs to a name as %40")
    if not parts.path.strip("/"):
        raise ValueError("names no database; write it after the host, as in //db.example.com/shop")
    return value


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class DatabaseKeys(BaseModel):
    """A table or a query of a database, and how what is new in it is found."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, BeforeValidator(checked_url)] = Field(
        description="postgresql://, mysql:// or mariadb://, with user, host and database, without "
        "a password"
    )
    password_env: str | None = Field(
        None, min_length=1, description="environment variable that holds the password"
    )
    password_file: str | None = Field(
        None, min_length=1, description="file that holds the password; readable by its owner alone"
    )
    table: str | None = Field(
        None, min_length=1, description="table or view, such as orders or public.orders"
    )
    query: str | None = Field(None, min_length=1, description="one SELECT, instead of a table")
    cursor: str | None = Field(
        None,
        min_length=1,
        description="column that grows, such as id or updated_at: rows from its last value on are "
        "read; default: every row is read every time",
    )
    key: Annotated[
        tuple[str, ...],
        BeforeValidator(_listed, json_schema_input_type=str | tuple[str, ...]),
    ] = Field(
        (), description="columns that name a row once: a row read again replaces the earlier one"
    )
    late: str | int | None = Field(
        None,
        description="how far below its last value the cursor is read again, for rows committed "
        "late: such as 10 minutes, or a number of a whole-number cursor",
    )

    @field_validator("late")
    @classmethod
    def _is_a_distance(cls, value: str | int | None) -> str | int | None:
        if value is not None and not _LATE.fullmatch(str(value)):
            raise ValueError("must be a number, or such as 30 seconds, 10 minutes, 2 hours, 1 day")
        return value

    @model_validator(mode="after")
    def _fit(self) -> "DatabaseKeys":
        if (self.table is None) == (self.query is None):
            raise ValueError("give table or query, one of them")
        if self.password_env is not None and self.password_file is not None:
            raise ValueError("give password_env or password_file, one of them")
        if self.cursor is None and (self.key or self.late is not None):
            raise ValueError(
                "key and late belong to a cursor; without one every row is read every time"
            )
        return self

    @property
    def dialect(self) -> Dialect:
        """The SQL that the database speaks."""
        return dialect_of(self.url)

    @property
    def shown(self) -> str:
        """Where the rows come from, for people: neither user nor parameters of the URL."""
        return f"{shown_url(self.url)} {self.table or 'query'}"

    @property
    def late_number(self) -> int | None:
        """``late`` as a plain number; None where it is a duration or is not given."""
        match = _LATE.fullmatch(str(self.late))
        return int(match[1]) if match and match[2] is None else None

    @property
    def late_time(self) -> timedelta | None:
        """``late`` as a duration; None where it is a number or is not given."""
        match = _LATE.fullmatch(str(self.late))
        return timedelta(**{f"{match[2]}s": int(match[1])}) if match and match[2] else None
