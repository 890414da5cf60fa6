"""How much a gateway is given: at its rate, and after an outage one message first.

There is one token bucket per gateway and signature, shared by every dispatcher through the
database. A token is one message that may go out. Tokens come back at the bucket's rate up to its
burst; a claim takes as many as it gets rows, in the same transaction, so a crash never lets more
out than the rate allows. Rows without a token are simply not claimed yet: they stay planned.

Each gateway has a circuit breaker, since an outage must not put thousands of messages in doubt. A
gateway has failed when it raised, or when a call left all its messages in doubt. Its circuit is
then open: one message goes first, and only when it is answered do the others follow. An open
circuit is a row of ``token_bucket`` too, so that all dispatchers heed it and the next process as
well.
"""

from dataclasses import dataclass
from datetime import datetime
from math import floor

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects import postgresql, sqlite

from usergrowth_dagster.control.schema import token_bucket
from usergrowth_dagster.control.store import ControlStore, utc_now

_NAME = 128


def database_clock(connection: Connection) -> datetime:
    """The clock that all dispatchers share: the database server's, or this machine's for SQLite."""
    if connection.dialect.name == "sqlite":
        return utc_now()
    now = connection.scalar(select(func.clock_timestamp()))
    assert isinstance(now, datetime)
    return now


@dataclass(frozen=True)
class Bucket:
    """A bucket: ``rate`` messages a second (None: without limit), at most ``burst`` at once."""

    name: str
    rate: float | None
    burst: float = 1.0

    @classmethod
    def of(
        cls, gateway: str, signature: str, rate: float | None, burst: float | None = None
    ) -> "Bucket":
        """The bucket of a gateway and a signature; its burst is one second's by default."""
        return cls(f"{gateway}:{signature}"[:_NAME], rate, max(burst or rate or 1.0, 1.0))

    def tokens(self, connection: Connection) -> float:
        """Tokens there are now; the bucket is this transaction's until it ends.

        A clock that has jumped back adds nothing, and counts from there.
        """
        row = self._locked(connection)
        if row is None:
            insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
            connection.execute(  # of two dispatchers at once, one makes it and both read it
                insert(token_bucket)
                .values(name=self.name, tokens=self.burst, updated_time=database_clock(connection))
                .on_conflict_do_nothing(index_elements=["name"])
            )
            row = self._locked(connection)
            assert row is not None
        now = database_clock(connection)
        passed = max((now - row[1]).total_seconds(), 0.0)
        tokens = min(self.burst, row[0] + passed * (self.rate or 0.0))
        connection.execute(
            token_bucket.update()
            .where(token_bucket.c.name == self.name)
            .values(tokens=tokens, updated_time=now)
        )
        return float(tokens)

    def _locked(self, connection: Connection) -> tuple[float, datetime] | None:
        query = select(token_bucket.c.tokens, token_bucket.c.updated_time).where(
            token_bucket.c.name == self.name
        )
        row = connection.execute(query.with_for_update()).first()
        return None if row is None else (float(row[0]), row[1])

    def spend(self, connection: Connection, number: int) -> None:
        """Take tokens, or put them back with a negative number."""
        if number and self.rate is not None:
            connection.execute(
                token_bucket.update()
                .where(token_bucket.c.name == self.name)
                .values(tokens=token_bucket.c.tokens - float(number))
            )

    def grant(self, connection: Connection, ready: int, full: int) -> tuple[int, float]:
        """How many of ``ready`` rows may be claimed now, and else the seconds to wait.

        With fewer tokens than a call of the provider takes (``full``), it is worth the wait until
        that many are there: otherwise each call would carry one or two messages.
        """
        if self.rate is None or not ready:
            return ready, 0.0
        tokens = self.tokens(connection)
        worth = min(float(ready), float(full), floor(self.burst))
        if tokens + 1e-6 < worth:
            return 0, (worth - tokens) / self.rate
        return min(ready, floor(tokens + 1e-6)), 0.0


def _circuit_name(gateway: str) -> str:
    return f"failed:{gateway}"[:128]


def is_circuit_open(store: ControlStore, gateway: str) -> bool:
    """Whether the gateway's last call failed without an answer."""
    query = select(token_bucket.c.name).where(token_bucket.c.name == _circuit_name(gateway))
    with store.read() as connection:
        return connection.scalar(query) is not None


def open_circuit(store: ControlStore, gateway: str) -> None:
    """Remember that a call failed without an answer."""
    insert = sqlite.insert if store.is_sqlite else postgresql.insert
    with store.write() as connection:
        connection.execute(
            insert(token_bucket)
            .values(name=_circuit_name(gateway), tokens=0.0, updated_time=utc_now())
            .on_conflict_do_nothing(index_elements=["name"])
        )


def close_circuit(store: ControlStore, gateway: str) -> None:
    """Forget the failure: the gateway has answered."""
    with store.write() as connection:
        connection.execute(
            token_bucket.delete().where(token_bucket.c.name == _circuit_name(gateway))
        )
