"""The keys below ``to`` in ``exports.yml``: one destination.

A key that does not say where the rows go, such as that of a password, is left out of a dump. So a
change of it does not send unchanged rows again.
"""

import os
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator

from usergrowth_dagster.errors import SetUpError
from usergrowth_dagster.exports.keys import Keys
from usergrowth_dagster.messaging.gateways.wire import is_near
from usergrowth_dagster.sources.databases.keys import Dialect, checked_url, dialect_of, shown_url


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
        None,
        min_length=1,
        description="environment variable that holds the password",
        exclude=True,
    )
    password_file: str | None = Field(
        None,
        min_length=1,
        description="file that holds the password; readable by its owner alone",
        exclude=True,
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
        return f"{shown_url(self.url)} {self.table}"


def _checked_webhook(value: Any) -> Any:
    """An address that rows may be sent to; an error does not repeat it, since it may be secret."""
    try:
        parts = urlsplit(value)
        _ = parts.port
    except (ValueError, TypeError, AttributeError):
        raise ValueError("is no URL such as https://crm.example.com/audience") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must begin with https:// and a host")
    if parts.username or parts.password:
        raise ValueError("a password never stands here; name a header in headers_env")
    if parts.scheme == "http" and not is_near(parts.hostname):
        raise ValueError("people would go out in the clear; use https://")
    return value


class WebhookTarget(Keys):
    """An address that takes rows in pages, as JSON."""

    url: Annotated[str, BeforeValidator(_checked_webhook)] = Field(
        description="https:// address that pages are posted to"
    )
    page_rows: int = Field(500, ge=1, le=10_000, description="rows of a page")
    headers_env: dict[str, str] = Field(
        {},
        description="by the name of a header, such as Authorization, the environment variable "
        "that holds its value",
        exclude=True,
    )
    attempts: int = Field(
        6,
        ge=1,
        le=20,
        description="how often a page is posted that is not taken, in one run",
        exclude=True,
    )

    @property
    def shown(self) -> str:
        """The host, without the path: it may be the secret itself."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}/…"


class SftpTarget(WithPassword):
    """A folder on an SFTP server that is known by its host key."""

    host: str = Field(min_length=1, description="name or address of the server")
    port: int = Field(22, ge=1, le=65535, description="its port")
    user: str = Field(min_length=1, description="who logs in")
    path: str = Field(min_length=1, description="folder on the server")
    key_file: str | None = Field(
        None,
        min_length=1,
        description="private key; readable by its owner alone",
        exclude=True,
    )
    host_key: str | None = Field(
        None,
        pattern=r"^SHA256:[A-Za-z0-9+/]{43}$",
        description="fingerprint of the server's key, as ssh-keygen -l shows it",
        exclude=True,
    )
    known_hosts: str | None = Field(
        None,
        min_length=1,
        description="file of known servers, such as ~/.ssh/known_hosts",
        exclude=True,
    )

    @model_validator(mode="after")
    def _is_known_and_let_in(self) -> Self:
        if (self.host_key is None) == (self.known_hosts is None):
            raise ValueError("give host_key or known_hosts, one of them")
        if not (self.key_file or self.password_env or self.password_file):
            raise ValueError("give key_file, password_env or password_file")
        return self

    @property
    def shown(self) -> str:
        """The folder for people, without the user."""
        port = "" if self.port == 22 else f":{self.port}"
        return f"sftp://{self.host}{port}/{self.path.strip('/')}"


def environment_value(variable: str, at: str) -> str:
    """The value of an environment variable.

    Args:
        variable: its name.
        at: the key that names it, for the error.

    Raises:
        SetUpError: it is not set.
    """
    value = os.environ.get(variable, "")
    if not value:
        raise SetUpError(
            f"{at}: the environment variable {variable} is not set",
            code="credential.missing",
            hint="Set the variable where usergrowth runs.",
        )
    return value


class Destinations(Keys):
    """Where the rows go."""

    files: Annotated[str | None, BeforeValidator(_checked_place)] = Field(
        None, min_length=1, description="a folder, or s3://bucket/folder: files and a manifest"
    )

    database: DatabaseTarget | None = Field(None, description="a table, filled by key")

    webhook: WebhookTarget | None = Field(None, description="an address that takes pages")
    sftp: SftpTarget | None = Field(None, description="a folder on an SFTP server")

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
        return self.files is not None or self.sftp is not None

    @property
    def keeps_columns(self) -> bool:
        """Whether the columns are the same on each date, also ``item_id`` without any item."""
        return not self.makes_files
