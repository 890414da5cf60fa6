"""Who was forgotten: their rows are not taken in again, though the landing files still hold them.

Nothing but keyed hashes of their user ids is kept, so rows are found by hashing every user id that
lands, in SQL.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_PADS, _HASHES = "_forgotten_pads", "_forgotten_hashes"


@dataclass(frozen=True)
class Forgotten:
    """Persons who were forgotten.

    Args:
        pads: the two blocks of HMAC-SHA256 (RFC 2104): the hash of a user id is the first half of
            ``sha256(pads[1] || sha256(pads[0] || user_id))``.
        hashes: 16 bytes a person.
    """

    pads: tuple[bytes, bytes] = field(repr=False)
    hashes: frozenset[bytes]

    def bind(self, connection: "DuckDBPyConnection") -> None:
        """Make the relation and the macro that :func:`forgotten_ids_sql` uses."""
        import pyarrow as pa

        hashes = pa.table({"hash": [h.hex() for h in sorted(self.hashes)]})
        # Bound as values: the text of a query may end up in a log.
        connection.execute(
            f"create or replace temp table {_PADS} as select ?::blob as inside, ?::blob as outside",
            list(self.pads),
        ).fetchall()
        connection.register("_forgotten_arrow", hashes)
        connection.execute(
            f"create or replace temp table {_HASHES} as select * from _forgotten_arrow"
        ).fetchall()
        connection.unregister("_forgotten_arrow")
        connection.execute(
            f"""
            create or replace temp macro person_hash(person) as left(sha256(
                (select outside from {_PADS})
                || unhex(sha256((select inside from {_PADS}) || encode(person)))
            ), 32)
            """
        ).fetchall()


def forgotten_ids_sql(persons: str) -> str:
    """The user ids among those of a query (its one column: ``person``) that were forgotten."""
    return (
        f"select person from (select distinct person from ({persons})) "
        f"where person is not null and person_hash(person) in (select hash from {_HASHES})"
    )


def is_forgotten_sql(person: str) -> str:
    """The condition that the user id of an expression is that of a forgotten person."""
    return f"coalesce(person_hash({person}) in (select hash from {_HASHES}), false)"
