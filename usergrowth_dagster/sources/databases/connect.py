"""Connect to a database of either kind: with its password, and with errors in one sentence."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from usergrowth_dagster.error_codes import ErrorCode
from usergrowth_dagster.errors import SetUpError, UserError
from usergrowth_dagster.sources.databases.keys import DatabaseKeys
from usergrowth_dagster.sources.databases.mysql import MySqlSession
from usergrowth_dagster.sources.databases.postgres import PostgresSession
from usergrowth_dagster.sources.databases.session import DatabaseError, Session


@contextmanager
def open_session(keys: DatabaseKeys, folder: Path, place: str) -> Iterator[Session]:
    """Connect, and begin one read-only transaction that sees one snapshot.

    Args:
        keys: the database.
        folder: what a relative ``password_file`` starts from.
        place: the file and the source, for errors.

    Raises:
        UserError: no password, no connection, or an error of the database while this lasts; one
            sentence without the password.
    """
    password = read_password(keys, folder, f"{place}: database")
    kind = PostgresSession if keys.dialect == "postgresql" else MySqlSession
    with _sentences(f"{place}: database.url", password, "source.unreachable", keys):
        session: Session = kind(keys.url, password)
    try:
        with _sentences(f"{place}: database", password, "source.unreadable", keys):
            yield session
    finally:
        session.close()


def _sentences(
    place: str, password: str | None, code: ErrorCode, keys: DatabaseKeys
) -> AbstractContextManager[None]:
    """Turn what a driver reports into one sentence without the password."""

    @contextmanager
    def context() -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            words = without_password(str(error), password)
            if error.lost:
                raise UserError(
                    f"{place}: the connection to {keys.shown} was lost: {words}",
                    code="source.dropped",
                ) from None
            raise UserError(f"{place}: {words}", code=code) from None

    return context()


def without_password(text: str, password: str | None) -> str:
    """A text without the password, as it is and as a URL writes it."""
    for form in {password, quote(password, safe="")} if password else ():
        text = text.replace(form, "…")
    return text


class PasswordKeys(Protocol):
    """Keys that say where a password is."""

    @property
    def password_env(self) -> str | None:
        """Environment variable that holds it."""

    @property
    def password_file(self) -> str | None:
        """File that holds it."""


def read_password(keys: PasswordKeys, folder: Path, at: str) -> str | None:
    """The password that keys name; None where no key says where it is.

    Args:
        keys: the keys.
        folder: what a relative ``password_file`` starts from.
        at: the file and the path of the keys, for errors.

    Raises:
        SetUpError: the variable is not set, or the file is missing, empty or readable by others.
    """
    if keys.password_env is not None:
        value = os.environ.get(keys.password_env, "")
        if not value:
            raise SetUpError(
                f"{at}.password_env: the environment variable {keys.password_env} is not set",
                code="credential.missing",
                hint="Set the variable where usergrowth runs.",
            )
        return value
    if keys.password_file is None:
        return None
    path = folder / Path(keys.password_file).expanduser()
    at = f"{at}.password_file"
    try:
        if path.stat().st_mode & 0o077:
            raise SetUpError(
                f"{at}: others may read {path}; run chmod 600 on it", code="credential.invalid"
            )
        value = path.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8"
        raise SetUpError(
            f"{at}: {path} cannot be read: {reason}", code="credential.missing"
        ) from None
    if not value:
        raise SetUpError(f"{at}: {path} is empty", code="credential.invalid")
    return value
