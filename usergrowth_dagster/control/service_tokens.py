"""Tokens that callers of a service show, kept as hashes.

A token is 256 random bits, so its plain SHA-256 cannot be guessed back. It is shown once, when it
is made. A service has two at most: the one in use and its successor, until all callers have that.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, select

from usergrowth_dagster.control import audit
from usergrowth_dagster.control.schema import meta
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.errors import UserError

MOST = 2
"""Tokens of a service that are valid at once."""

_ROW = "service_token/{}/{}"
_PREFIX = "service_token/"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,15}")


@dataclass(frozen=True)
class ServiceToken:
    """A token on record: whose, the SHA-256 of its text, when (UTC) and by whom it was made."""

    service: str
    name: str
    digest: str
    created: datetime
    actor: str


def digest_of(token: str) -> str:
    """The SHA-256 of a token's text, in hexadecimal digits."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def add_token(store: ControlStore, service: str, name: str, actor: str) -> str:
    """Make a token of a service; what is returned is kept nowhere.

    Args:
        store: the control store.
        service: whose token it is, at most 30 characters.
        name: to revoke it by: lower-case letters, digits and hyphens, at most 16.
        actor: who makes it.

    Raises:
        UserError: the name is taken or no name, or the service has two tokens.
    """
    if not _NAME.fullmatch(name):
        raise UserError(
            f"token {name!r}: a name has 1 to 16 lower-case letters, digits and hyphens",
            code="command.invalid",
        )
    token = f"ug_{secrets.token_urlsafe(32)}"
    kept = {"digest": digest_of(token), "created": utc_now().isoformat(), "actor": actor}
    with store.write(alone=True) as connection:
        names = connection.scalars(select(meta.c.name).where(_of(service))).all()
        row = _ROW.format(service, name)
        if row in names:
            raise UserError(
                f"service {service} has a token {name!r}; choose another name",
                code="command.invalid",
            )
        if len(names) >= MOST:
            raise UserError(
                f"service {service} has {MOST} tokens; revoke one first: usergrowth service-token "
                f"revoke {service} <name>",
                code="command.invalid",
            )
        connection.execute(meta.insert().values(name=row, value=json.dumps(kept)))
        audit.record(connection, actor, "service-token add", service, name)
    return token


def revoke_token(store: ControlStore, service: str, name: str, actor: str) -> None:
    """Let a token be valid no more.

    Raises:
        UserError: the service has none of this name.
    """
    with store.write(alone=True) as connection:
        gone = connection.execute(meta.delete().where(meta.c.name == _ROW.format(service, name)))
        if gone.rowcount:
            audit.record(connection, actor, "service-token revoke", service, name)
            return
    raise UserError(f"service {service} has no token {name!r}", code="command.invalid")


def read_tokens(store: ControlStore) -> list[ServiceToken]:
    """All tokens, by service and age."""
    with store.read() as connection:
        rows = connection.execute(
            select(meta).where(meta.c.name.startswith(_PREFIX, autoescape=True))
        ).all()
    tokens = [_token(name, json.loads(value)) for name, value in rows]
    return sorted(tokens, key=lambda token: (token.service, token.created))


def _of(service: str) -> ColumnElement[bool]:
    return meta.c.name.startswith(_ROW.format(service, ""), autoescape=True)


def _token(row: str, kept: Mapping[str, str]) -> ServiceToken:
    _, service, name = row.split("/")
    created = datetime.fromisoformat(kept["created"])
    return ServiceToken(service, name, kept["digest"], created, kept["actor"])
