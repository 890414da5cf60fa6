"""Phone numbers meet users: by the newest number of each in an upload, else by identity."""

from datetime import date

from usergrowth_dagster.addresses.sql import number_sql
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.project import Project
from usergrowth_dagster.segments.uploaded import bind_uploads
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation, bind_files, bind_query

ONE_ID = "one_id"
"""Table of identity: by keyed hash of an id, the one user who has it."""

_UPLOADS = {
    "ds": "DATE",
    "task_id": "VARCHAR",
    "row": "BIGINT",
    "user_id": "VARCHAR",
    "phone": "VARCHAR",
}
_IDS = {"ds": "DATE", "id_value": "VARCHAR", "user_id": "VARCHAR"}
_TAIL = 4
"""Last digits of a number by which uploads are narrowed: every spelling of a number has them."""


def bind_numbers(engine: Engine, project: Project, day: date) -> Relation:
    """The rows of all uploads up to a date, with their numbers."""
    return bind_uploads(engine, project, day, _UPLOADS)


def bind_owners(
    engine: Engine, project: Project, uploads: Relation, numbers: str, day: date
) -> Relation:
    """The user of each number that has one.

    A number is that of the user whose newest uploaded number it is; of several users, of the one
    whose upload is the newest. A number of no upload is that of the user who has it by identity,
    if that is one user.

    Args:
        engine: where it is bound.
        project: the home.
        uploads: from :func:`bind_numbers`.
        numbers: a table with ``number`` (E.164), NULL where there is none.
        day: the execution date.

    Returns:
        ``number`` and ``user_id``, each number once.
    """
    wanted = bind_query(
        engine,
        "wanted",
        f"select distinct number from {numbers} where number is not null",
        keep=True,
    )
    uploaded = bind_query(engine, "owned", _by_uploads(uploads, wanted), of=[uploads], keep=True)
    identified = _by_identity(engine, project, wanted, day)
    return bind_query(
        engine,
        "owners",
        f"select number, user_id from {uploaded} union all select number, user_id "
        f"from {identified} where number not in (select number from {uploaded})",
        of=[uploads, identified],
        keep=True,
    )


def _by_uploads(uploads: Relation, wanted: Relation) -> str:
    place = '(ds, task_id, -"row")'
    return f"""
        with uploaded as (
            select user_id, {place} as place, nullif(trim(phone), '') as phone from {uploads}
        ), newest as (
            select user_id, max_by(phone, place) as phone, max(place) as place from uploaded
            where phone is not null and user_id is not null group by user_id
        ), likely as (
            select * from newest
            where right(regexp_replace(phone, '[^0-9]', '', 'g'), {_TAIL})
                    in (select right(number, {_TAIL}) from {wanted})
                or regexp_matches(phone, '[^ -~]')
        ), read as (
            select user_id, place, {number_sql("phone")} as number from likely
        )
        select number, max_by(user_id, (place, user_id)) as user_id from read
        where number in (select number from {wanted}) group by number"""


def _by_identity(engine: Engine, project: Project, wanted: Relation, day: date) -> Relation:
    """Numbers by the newest date of identity up to a day; none where nothing was made."""
    known = project.warehouse.exists(ONE_ID)
    days = project.warehouse.files(ONE_ID, last=day) if known else {}
    ids = bind_files(engine, ONE_ID, days[max(days)] if days else [], _IDS)
    if not days:
        return bind_query(
            engine,
            "identified",
            f"select id_value as number, user_id from {ids}",
            of=[ids],
        )
    _bind_hash(engine, project)
    return bind_query(
        engine,
        "identified",
        f"""
        select number, min(i.user_id) as user_id
        from {wanted} join {ids} as i on i.id_value = number_hash(number)
        where i.user_id is not null group by number having count(distinct i.user_id) = 1""",
        of=[ids],
        keep=True,
    )


def _bind_hash(engine: Engine, project: Project) -> None:
    """Make the macro of a number's keyed hash, by which identity knows it."""
    vault = open_vault(project.settings.home, project.settings.default_country)
    # Bound as values: the text of a query may end up in a log.
    engine.run(
        "create or replace temp table _number_pads as select ?::blob as inside, ?::blob as outside",
        list(vault.pads()),
    )
    engine.run(
        """
        create or replace temp macro number_hash(number) as left(sha256(
            (select outside from _number_pads)
            || unhex(sha256((select inside from _number_pads) || encode(number)))
        ), 32)
        """
    )
