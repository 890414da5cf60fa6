"""What excludes a user excludes all users of the person: knowing persons only makes it stricter.

A person refuses when one of the users does, by user id or by the address that a row has, or when an
address that is linked to the person was refused; and has had as many messages as one may get when
one of the users or addresses has. Keyed hashes are compared; nobody reads a number.
"""

from usergrowth_dagster.identity.definition import USER
from usergrowth_dagster.identity.links import Keys
from usergrowth_dagster.identity.persons import Persons
from usergrowth_dagster.messaging.people.phones import E164, PhoneVault
from usergrowth_dagster.quoting import literals
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation, bind_query

_DIGITS = 32  # hexadecimal, of a hash; that of a number has one byte more before it


def excluded_with_person(
    engine: Engine,
    vault: PhoneVault,
    persons: Persons,
    population: Relation,
    keys: str,
    excluded: Relation,
) -> Relation:
    """Rows of a population whose person is excluded by another user or address.

    Args:
        engine: holds the relations.
        vault: made the hashes.
        persons: the persons.
        population: has row and user_id.
        keys: table with the phone_hash, user_hash or user_id of who is excluded, and the reason.
        excluded: row and reason of the rows that are excluded by themselves.

    Returns:
        ``row``, each once, and ``reason``; of two the greater word, which is suppressed.
    """
    Keys(vault.user_pads()).bind(engine, "person_key")
    return bind_query(
        engine,
        "persons_asked",
        f"""
        with mine as (
            select distinct p."row", u.one_id
            from {population} as p join {persons.people} as u
                on u.id_type = '{USER}' and u.id_value = p.user_id
        ), theirs as (
            select * from {persons.people} where one_id in (select one_id from mine)
        ), users as (
            select one_id, id_value as user_id, person_key(id_value) as hash
            from theirs where id_type = '{USER}'
        ), reasons as (
            select u.one_id, k.reason from users as u join {keys} as k
                on u.hash = cast(hex(k.user_hash) as uuid)
            union all
            select u.one_id, k.reason from users as u join {keys} as k on u.user_id = k.user_id
            union all
            select a.one_id, k.reason from theirs as a join {keys} as k
                on a.id_value = lower(right(hex(k.phone_hash), {_DIGITS}))
            where a.id_type in ({literals(persons.addresses) or "null"})
            union all
            select m.one_id, e.reason from mine as m join {excluded} as e using ("row")
        )
        select m."row", max(r.reason) as reason
        from mine as m join reasons as r using (one_id) group by m."row"
        """,
        keep=True,
    )


def keys_of_persons(
    engine: Engine, vault: PhoneVault, persons: Persons | None, users: Relation
) -> Relation:
    """By user, the keys by which the ledger knows the person's other users and the addresses.

    Args:
        engine: holds the relations.
        vault: made the hashes.
        persons: the persons; None: the home knows none, so nobody has keys.
        users: has user_id, each once.

    Returns:
        ``user_hash`` BLOB of every user, and ``keys`` BLOB[], empty where the person is this user
        alone.
    """
    Keys(vault.user_pads()).bind(engine, "person_key")
    mine = f"select user_id, person_key(user_id) as hash from {users}"
    if persons is None:
        sql = f"select {_blob_sql('hash')} as user_hash, cast([] as blob[]) as keys from ({mine})"
        return bind_query(engine, "person_keys", sql)
    phones, emails = (literals(names) or "null" for names in (persons.phones, persons.emails))
    return bind_query(
        engine,
        "person_keys",
        f"""
        with mine as ({mine}), persons as (
            select m.hash, p.one_id from mine as m join {persons.people} as p
                on p.id_type = '{USER}' and p.id_value = m.user_id
        ), keys as (
            select one_id, case
                when id_type = '{USER}' then {_blob_sql("person_key(id_value)")}
                when id_type in ({phones}) then unhex('{E164.hex()}' || id_value)
                when id_type in ({emails}) then unhex(id_value) end as key
            from {persons.people} where one_id in (select one_id from persons)
        ), theirs as (
            select p.hash, list(distinct k.key) as keys
            from persons as p join keys as k using (one_id)
            where k.key is not null and k.key <> {_blob_sql("p.hash")} group by p.hash
        )
        select {_blob_sql("m.hash")} as user_hash, coalesce(t.keys, []) as keys
        from mine as m left join theirs as t using (hash)
        """,
    )


def _blob_sql(uuid: str) -> str:
    return f"unhex(replace(cast({uuid} as varchar), '-', ''))"
