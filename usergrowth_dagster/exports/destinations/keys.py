"""The keys below ``to`` in ``exports.yml``: one destination."""

from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator

from usergrowth_dagster.exports.keys import Keys
from usergrowth_dagster.sources.databases.keys import Dialect, checked_url, dialect_of


def _checked_place(value: object) -> object:
    """A folder, or the URL of one without a password; an error does not repeat it."""
    if isinstance(value, str) and "://" in value:
        try:
            parts = urlsplit(value)
        except ValueError:
            raise ValueError("is no URL such as s3://bucket/folder") from None
        if "@" in parts.netloc:
            raise ValueError(
                "a key never stands here; it comes from the environment, such as AWS_ACCESS_KEY_ID"
            )
        if not parts.netloc:
            raise ValueError("names no bucket; write it after the scheme, as in s3://bucket/folder")
    return value


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class WithPassword(Keys):
    """Keys that say where a password is."""

    password_env: str | None = Field(
        None, min_length=1, description="environment variable that holds the password"
    )
    password_file: str | None = Field(
        None, min_length=1, description="file that holds the password; readable by its owner alone"
    )

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if self.password_env is not None and self.password_file is not None:
            raise ValueError("give password_env or password_file, one of them")
        return self


class DatabaseTarget(WithPassword):
    """A table of PostgreSQL, MySQL or MariaDB; it is made when it is not there."""

    url: Annotated[str, BeforeValidator(checked_url)] = Field(
        description="postgresql://, mysql:// or mariadb://, with user, host and database, without "
        "a password"
    )
    table: str = Field(min_length=1, description="such as audience or crm.audience")
    key: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        min_length=1,
        description="columns, by their names outside, that name a row once: a row that is there "
        "is updated",
    )
    mode: Literal["upsert", "replace"] = Field(
        "upsert",
        description="replace: rows of this export that no longer go out are deleted too; the "
        "table has a column usergrowth_export for that",
    )

    @property
    def dialect(self) -> Dialect:
        """The SQL that the database speaks."""
        return dialect_of(self.url)

    @property
    def shown(self) -> str:
        """The table for people: neither user nor parameters of the URL."""
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        return f"{self.dialect}://{host}{parts.path} {self.table}"


class Destinations(Keys):
    """Where the rows go."""

    files: Annotated[str | None, BeforeValidator(_checked_place)] = Field(
        None, min_length=1, description="a folder, or s3://bucket/folder: files and a manifest"
    )

    database: DatabaseTarget | None = Field(None, description="a table, filled by key")

    @model_validator(mode="after")
    def _exactly_one(self) -> "Destinations":
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            known = ", ".join(type(self).model_fields)
            raise ValueError(f"give one destination of {known}")
        return self

    @property
    def kind(self) -> str:
        """The destination's key."""
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)

    @property
    def makes_files(self) -> bool:
        """Whether the rows become files with a manifest."""
        return self.files is not None

    @property
    def keeps_columns(self) -> bool:
        """Whether the columns are the same on each date, also ``item_id`` without any item."""
        return not self.makes_files
