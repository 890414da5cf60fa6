"""The persons of an execution date, for whoever asks which users belong together."""

from dataclasses import dataclass
from datetime import date

from usergrowth_dagster.identity.definition import FILE_NAME, USER, read_identity
from usergrowth_dagster.identity.tables import ONE_ID, ONE_ID_COLUMNS
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.columns import types_of
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation, bind_days, bind_query


@dataclass(frozen=True)
class Persons:
    """The persons of a home as of an execution date.

    Attributes:
        people: rows of ``one_id``.
        phones: the types of ids that are phone numbers.
        emails: the types of ids that are e-mail addresses.
    """

    people: Relation
    phones: tuple[str, ...]
    emails: tuple[str, ...]

    @property
    def addresses(self) -> tuple[str, ...]:
        """The types of ids that are addresses."""
        return (*self.phones, *self.emails)


def bind_persons(engine: Engine, project: Project, day: date) -> Persons | None:
    """The persons of the newest date up to ``day``; None: the home knows no persons.

    Raises:
        UserError: identity.yml breaks its format.
    """
    home = project.settings.home
    if not (home / FILE_NAME).exists():
        return None
    types = read_identity(home).all_types
    made = [one for one in project.warehouse.fingerprints(ONE_ID) if one <= day]
    if not made:
        return None
    return Persons(
        _people(engine, project, max(made)),
        tuple(one.name for one in types if one.normalise == "phone"),
        tuple(one.name for one in types if one.normalise == "email"),
    )


def recorded_people(engine: Engine, project: Project) -> Relation | None:
    """The rows of ``one_id`` that a decision was made from; None: it knew no persons.

    Args:
        engine: where they are bound.
        project: the home as it was recorded.
    """
    days = project.warehouse.files(ONE_ID)
    return _people(engine, project, max(days)) if days else None


def _people(engine: Engine, project: Project, day: date) -> Relation:
    return bind_days(engine, project.warehouse, ONE_ID, [day], types_of(ONE_ID_COLUMNS))


def bind_users_of_persons(engine: Engine, people: Relation, population: Relation) -> Relation:
    """The users of a population who are one person with other users.

    Args:
        engine: holds the relations.
        people: rows of ``one_id``.
        population: has user_id.

    Returns:
        ``user_id``, each once; ``person``, the one_id; and ``person_users`` VARCHAR[], the ids of
        all users of the person in order, those who are not in the population too.
    """
    return bind_query(
        engine,
        "users_of_persons",
        f"""
        with users as (
            select one_id, id_value as user_id from {people} where id_type = '{USER}'
        ), asked as (
            select one_id from users where user_id in (select user_id from {population})
        ), together as (
            select one_id, list(user_id order by user_id) as person_users
            from users where one_id in (select one_id from asked)
            group by one_id having count(*) > 1
        )
        select u.user_id, t.one_id as person, t.person_users
        from together as t join users as u using (one_id)
        where u.user_id in (select user_id from {population})
        """,
        of=[people],
        keep=True,
    )
