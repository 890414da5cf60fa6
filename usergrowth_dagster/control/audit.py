"""The audit log: who did what, beyond the history of single records.

An entry is written in the transaction of the change it records, so there is no change without its
entry. It never holds a phone number, nor the id of a person who is forgotten.
"""

import getpass
import socket
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from usergrowth_dagster.control.schema import audit
from usergrowth_dagster.control.store import ControlStore, utc_now


@dataclass(frozen=True)
class Entry:
    """One line of the audit log; ``time`` is UTC."""

    id: int
    time: datetime
    actor: str
    action: str
    subject: str
    detail: str


def whoami() -> str:
    """Who acts: the user and the machine of this process, as ``user@host``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a bare container
        user = "unknown"
    return f"{user}@{socket.gethostname()}"[:200]


def record(connection: Connection, actor: str, action: str, subject: str, detail: str = "") -> None:
    """Add an entry within the transaction of the change it records.

    Args:
        connection: of ``ControlStore.write``.
        actor: who did it, by :func:`whoami` unless the caller knows better.
        action: one word or a few, such as ``pause`` or ``rotate-key``; at most 64 characters.
        subject: what it was done to.
        detail: why, or with what result.
    """
    connection.execute(
        audit.insert().values(
            time=utc_now(), actor=actor[:200], action=action, subject=subject, detail=detail
        )
    )


def entries(
    store: ControlStore,
    *,
    since: datetime | None = None,
    actor: str | None = None,
    action: str | None = None,
    limit: int | None = None,
) -> list[Entry]:
    """Entries, oldest first.

    Args:
        store: the control store.
        since: only those at or after this time.
        actor: only those whose actor starts with this text: ``ann`` finds ``ann@laptop``.
        action: only this action.
        limit: only so many of the newest.
    """
    query = select(audit).order_by(audit.c.id.desc())
    if since is not None:
        query = query.where(audit.c.time >= since)
    if actor is not None:
        query = query.where(audit.c.actor.startswith(actor, autoescape=True))
    if action is not None:
        query = query.where(audit.c.action == action)
    if limit is not None:
        query = query.limit(limit)
    with store.read() as connection:
        log = [Entry(**row) for row in connection.execute(query).mappings()]
    return log[::-1]
