"""Additions of suppressions, one transaction after another."""

from sqlalchemy import Connection, func, select

_LOCK_KEY = 0x75677375  # advisory lock of additions: "ugsu"


def one_after_another(connection: Connection) -> None:
    """Let additions of other transactions wait for this one.

    So ids grow in the order of the commits (a dispatcher sees by the largest id whether there are
    refusals that it has not asked about), and two additions of the same people cannot lock each
    other up. SQLite has one writer anyway.
    """
    if connection.dialect.name != "sqlite":
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK_KEY)))
