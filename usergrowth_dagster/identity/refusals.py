"""A refusal travels to all users of a person, so that knowing persons only makes it stricter.

A person refuses when one of the users does, by user id or by the address that a row has, or when an
address that is linked to the person was refused. Keyed hashes are compared; nobody reads a number.
"""

from dataclasses import dataclass
from datetime import date

from usergrowth_dagster.identity.definition import FILE_NAME, USER, read_identity
from usergrowth_dagster.identity.links import Keys
from usergrowth_dagster.identity.tables import ONE_ID, ONE_ID_COLUMNS, types_of
from usergrowth_dagster.messaging.people.phones import PhoneVault
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literals
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation, bind_days, bind_query

_DIGITS = 32  # hexadecimal, of a hash; that of a number has one byte more before it


@dataclass(frozen=True)
class Persons:
    """The persons of a home as of an execution date.

    Attributes:
        people: rows of ``one_id``.
        addresses: the types of ids that are addresses.
    """

    people: Relation
    addresses: tuple[str, ...]


def bind_persons(engine: Engine, project: Project, day: date) -> Persons | None:
    """The persons of the newest date up to ``day``; None: the home knows no persons.

    Raises:
        UserError: identity.yml breaks its format.
    """
    home = project.settings.home
    if not (home / FILE_NAME).exists():
        return None
    addresses = tuple(one.name for one in read_identity(home).all_types if one.is_address)
    made = [one for one in project.warehouse.fingerprints(ONE_ID) if one <= day]
    if not made:
        return None
    people = bind_days(engine, project.warehouse, ONE_ID, [max(made)], types_of(ONE_ID_COLUMNS))
    return Persons(people, addresses)


def refused_with_person(
    engine: Engine,
    vault: PhoneVault,
    persons: Persons,
    population: Relation,
    keys: str,
    refused: Relation,
) -> Relation:
    """Rows of a population whose person refuses by another user or address.

    Args:
        engine: holds the relations.
        vault: made the hashes.
        persons: the persons.
        population: has row and user_id.
        keys: table with the phone_hash and user_hash of refusals, and their reason.
        refused: row and reason of the rows that are excluded by themselves.

    Returns:
        ``row``, each once.
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
        ), refusing as (
            select one_id from theirs where id_type = '{USER}' and person_key(id_value) in (
                select cast(hex(user_hash) as uuid) from {keys}
                where user_hash is not null and reason = 'suppressed')
            union
            select one_id from theirs
            where id_type in ({literals(persons.addresses) or "null"}) and id_value in (
                select lower(right(hex(phone_hash), {_DIGITS})) from {keys}
                where phone_hash is not null and reason = 'suppressed')
            union
            select m.one_id from mine as m join {refused} as r using ("row")
            where r.reason = 'suppressed'
        )
        select distinct "row" from mine where one_id in (select one_id from refusing)
        """,
        keep=True,
    )
