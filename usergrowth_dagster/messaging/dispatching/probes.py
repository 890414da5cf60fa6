"""After a gateway has failed, one message goes first: an outage must not put thousands in doubt.

A gateway has failed when it raised, or when a call left all its messages in doubt.

The mark is a row of ``token_bucket``, so that all dispatchers heed it and the next process too.
"""

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from usergrowth_dagster.control.schema import token_bucket
from usergrowth_dagster.control.store import ControlStore, utc_now

_T = token_bucket


def _name(gateway: str) -> str:
    return f"failed:{gateway}"[:128]


def has_failed(store: ControlStore, gateway: str) -> bool:
    """Whether the gateway's last call failed without an answer."""
    with store.read() as connection:
        found = connection.scalar(select(_T.c.name).where(_T.c.name == _name(gateway)))
    return found is not None


def mark_failed(store: ControlStore, gateway: str) -> None:
    """Remember that a call failed without an answer."""
    insert = sqlite.insert if store.is_sqlite else postgresql.insert
    with store.write() as connection:
        connection.execute(
            insert(_T)
            .values(name=_name(gateway), tokens=0.0, updated_time=utc_now())
            .on_conflict_do_nothing(index_elements=["name"])
        )


def mark_answering(store: ControlStore, gateway: str) -> None:
    """Forget it: the gateway has answered."""
    with store.write() as connection:
        connection.execute(_T.delete().where(_T.c.name == _name(gateway)))
