"""A circuit breaker for each gateway: an outage must not put thousands of messages in doubt.

A gateway has failed when it raised, or when a call left all its messages in doubt. Its circuit is
then open: one message goes first, and only when it is answered do the others follow.

An open circuit is a row of ``token_bucket``, so that all dispatchers heed it and the next process
too.
"""

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from usergrowth_dagster.control.schema import token_bucket
from usergrowth_dagster.control.store import ControlStore, utc_now


def _row_name(gateway: str) -> str:
    return f"failed:{gateway}"[:128]


def is_open(store: ControlStore, gateway: str) -> bool:
    """Whether the gateway's last call failed without an answer."""
    query = select(token_bucket.c.name).where(token_bucket.c.name == _row_name(gateway))
    with store.read() as connection:
        return connection.scalar(query) is not None


def open_circuit(store: ControlStore, gateway: str) -> None:
    """Remember that a call failed without an answer."""
    insert = sqlite.insert if store.is_sqlite else postgresql.insert
    with store.write() as connection:
        connection.execute(
            insert(token_bucket)
            .values(name=_row_name(gateway), tokens=0.0, updated_time=utc_now())
            .on_conflict_do_nothing(index_elements=["name"])
        )


def close_circuit(store: ControlStore, gateway: str) -> None:
    """Forget the failure: the gateway has answered."""
    with store.write() as connection:
        connection.execute(token_bucket.delete().where(token_bucket.c.name == _row_name(gateway)))
