"""People who were forgotten and people who refuse to be contacted, among given people.

An export leaves for a tool whose channel nobody here knows, and a segment has no channel yet. So a
refusal on any channel and for any signature counts. Caps do not: they belong to a campaign.
"""

from typing import TYPE_CHECKING

from sqlalchemy import select

from usergrowth_dagster.addresses.sql import email_sql, number_sql
from usergrowth_dagster.control import schema
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.data.forgotten import Forgotten, is_forgotten_sql
from usergrowth_dagster.messaging.people.phones import PhoneVault, open_vault
from usergrowth_dagster.messaging.policy.suppression import FORGOTTEN
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation, bind_arrow

if TYPE_CHECKING:
    import pyarrow as pa

suppression = schema.suppression


def mark_refusals(
    engine: Engine, settings: Settings, store: ControlStore, people: Relation
) -> Relation:
    """For each row, whether its person was forgotten, and whether they refuse.

    Args:
        engine: holds the people.
        settings: of the home: its folder and the country of numbers without one.
        store: holds the suppressions.
        people: ``n`` (unique), ``user_id``, ``phone`` and ``email`` as uploaded, both may be NULL.

    Returns:
        ``n``, ``forgotten`` and ``refuses``, both BOOLEAN, of every row.
    """
    vault = open_vault(settings.home, settings.default_country)
    hashes = suppression.c
    query = select(hashes.user_hash, hashes.phone_hash, hashes.reason).where(
        hashes.lifted_time.is_(None)
    )
    with store.read() as connection:
        in_force = connection.execute(query).all()
    forgotten = frozenset(user for user, _, reason in in_force if user and reason == FORGOTTEN)
    Forgotten(vault.user_pads(), forgotten).bind(engine.connection)
    users = _bind_hashes(engine, "refusing_users", [user.hex() for user, _, _ in in_force if user])
    addresses = frozenset(address for _, address, _ in in_force if address)
    refusing = _rows_with_refused_address(engine, vault, people, addresses)
    return _marked(engine, people, users, refusing)


def _marked(engine: Engine, people: Relation, users: Relation, refusing: Relation) -> Relation:
    name = engine.unique_name("marked")
    engine.run(
        f"create temp table {name} as select n, {is_forgotten_sql('user_id')} as forgotten, "
        f"coalesce(person_hash(user_id) in (select hash from {users}), false) "
        f"or n in (select n from {refusing}) as refuses from {people}"
    )
    return Relation(name, {"n": "BIGINT", "forgotten": "BOOLEAN", "refuses": "BOOLEAN"})


def _bind_hashes(engine: Engine, kind: str, hashes: list[str]) -> Relation:
    import pyarrow as pa

    return bind_arrow(engine, kind, pa.table({"hash": pa.array(sorted(hashes), pa.string())}))


def _rows_with_refused_address(
    engine: Engine, vault: PhoneVault, people: Relation, refused: frozenset[bytes]
) -> Relation:
    """The ``n`` of rows whose number or e-mail address is refused."""
    import pyarrow as pa

    layout = pa.schema([("n", pa.int64())])
    chunks: list[pa.Table] = []
    if refused:
        sql = f"select n, {number_sql('phone')} as phone, {email_sql('email')} as email "
        for batch in engine.stream(f"{sql} from {people}"):
            chunks.append(pa.table([_refused_rows(vault, batch, refused)], schema=layout))
    return bind_arrow(engine, "refusing", pa.concat_tables([layout.empty_table(), *chunks]))


def _refused_rows(
    vault: PhoneVault, batch: "pa.RecordBatch", refused: frozenset[bytes]
) -> "pa.Array":
    import pyarrow as pa

    phones, emails = (batch.column(name).to_pylist() for name in ("phone", "email"))
    rows = []
    for n, phone, email in zip(batch.column("n").to_pylist(), phones, emails, strict=True):
        addresses = [address for address in (phone, email) if address]
        if addresses and not refused.isdisjoint(vault.every_digest(addresses)):
            rows.append(n)
    return pa.array(rows, pa.int64())
