"""Whether a ledger holds what only its own secret can read or find."""

from sqlalchemy import Connection, inspect, or_, select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.settings.places import sqlite_file

_SEALED = ("phone_number", "phone_hash", "user_hash", "content")


def holds_sealed(settings: Settings) -> bool:
    """Whether the settings' database holds a sealed number or a keyed hash.

    A database that is not there yet is not made.
    """
    file = sqlite_file(settings.database)
    if file is not None and not file.exists():
        return False
    store = ControlStore(settings.database)
    try:
        with store.read() as connection:
            return sealed_rows(connection)
    finally:
        store.close()


def sealed_rows(connection: Connection) -> bool:
    """Whether any row of a database is sealed, also before its migration."""
    present = inspect(connection)
    for table in (schema.message, schema.suppression, schema.reply, schema.unread):
        if not present.has_table(table.name):
            continue
        there = {column["name"] for column in present.get_columns(table.name)}
        sealed = [table.c[name] for name in _SEALED if name in there and name in table.c]
        wanted = select(1).select_from(table).where(or_(*(c.is_not(None) for c in sealed)))
        if connection.execute(wanted.limit(1)).first():
            return True
    return False
