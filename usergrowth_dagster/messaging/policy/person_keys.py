"""The other users and addresses of a planned user's person, so that their refusals hold too.

The ledger knows a person by the keyed hashes of one user id and one address. A refusal of another
account that comes between the decision and the text would be missed without these keys. They are
looked up when a row is planned and when its turn comes; a refusal that is lifted is lifted at once.
"""

from collections.abc import Iterable, Sequence
from itertools import islice

from sqlalchemy import ColumnElement, exists, select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.store import ControlStore

_CHUNK = 2_000

person_key = schema.person_key
suppression = schema.suppression


def known_users(store: ControlStore) -> list[bytes]:
    """The hashes of the users that have keys, in no order."""
    with store.read() as connection:
        return list(connection.scalars(select(person_key.c.user_hash).distinct()))


def remember(store: ControlStore, keys: Iterable[tuple[bytes, Sequence[bytes]]]) -> None:
    """Replace the keys of users.

    A run that is killed has replaced those of some users; made again, it replaces them all.

    Args:
        store: the control store.
        keys: by user hash, each once, the hashes of the person's other users and addresses.
    """
    rest = iter(keys)
    while chunk := list(islice(rest, _CHUNK)):
        rows = [
            {"user_hash": user, "key_hash": key} for user, others in chunk for key in sorted(others)
        ]
        with store.write() as connection:
            mine = [user for user, _ in chunk]
            connection.execute(person_key.delete().where(person_key.c.user_hash.in_(mine)))
            if rows:
                connection.execute(person_key.insert(), rows)


def person_refuses(holds: ColumnElement[bool]) -> ColumnElement[bool]:
    """Condition on ``message``: another user or address of the row's person is suppressed.

    Args:
        holds: condition on ``suppression``, by which it is in force.
    """
    message = schema.message
    of_person = person_key.c.user_hash == message.c.user_hash

    def refused(key: ColumnElement[bytes]) -> ColumnElement[bool]:
        query = select(person_key.c.id).join(suppression, key == person_key.c.key_hash)
        return exists(query.where(of_person, holds).correlate(message))

    return refused(suppression.c.user_hash) | refused(suppression.c.phone_hash)
