"""The sizes of a segment that matter: who matches, who can be reached, and who may be texted."""

import math
from dataclasses import dataclass
from datetime import date

from usergrowth_dagster.addresses.sql import email_sql, number_sql
from usergrowth_dagster.audience.holdout import Holdout, epoch_in_force
from usergrowth_dagster.audience.persons import USERS, held_sql
from usergrowth_dagster.identity.persons import bind_persons, bind_users_of_persons
from usergrowth_dagster.messaging.policy.refused_people import mark_refusals
from usergrowth_dagster.project import Project
from usergrowth_dagster.segments.uploaded import bind_uploads
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation, bind_query

SAMPLED = 20_000
"""People of a hash sample."""

_UPLOAD = {
    "ds": "DATE",
    "task_id": "VARCHAR",
    "row": "BIGINT",
    "user_id": "VARCHAR",
    "phone": "VARCHAR",
    "variables": "MAP(VARCHAR, VARCHAR)",
}


@dataclass(frozen=True)
class Sizes:
    """How many people; every other figure is of those who match.

    Attributes:
        matches: people of the segment.
        with_address: people with a readable number or e-mail address in an upload.
        not_refused: people who refuse on no channel, and were not forgotten; a refusal of one user
            is one of all users of the person.
        not_held_out: people outside the control group of all campaigns, as are all their users.
        sendable: people who meet all three. Caps and consent belong to a campaign.
    """

    matches: int
    with_address: int
    not_refused: int
    not_held_out: int
    sendable: int


@dataclass(frozen=True)
class Estimate:
    """The size of a segment by a sample.

    Attributes:
        people: the estimate.
        low: lower end of its 95 % interval.
        high: upper end.
        sampled: people of the sample.
    """

    people: int
    low: int
    high: int
    sampled: int


def estimate(matches: int, sampled: int, everybody: int) -> Estimate:
    """The size by a hash sample, with Wilson's interval for a share.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22
    (1927) 209-212.

    Args:
        matches: people of the sample who match.
        sampled: people of the sample, at least one.
        everybody: people in all.
    """
    z2, share = 1.959964**2, matches / sampled
    middle = (share + z2 / (2 * sampled)) / (1 + z2 / sampled)
    half = math.sqrt(z2 * (share * (1 - share) / sampled + z2 / (4 * sampled**2))) / (
        1 + z2 / sampled
    )
    return Estimate(
        round(share * everybody),
        max(round((middle - half) * everybody), matches),
        min(round((middle + half) * everybody), everybody - sampled + matches),
        sampled,
    )


def sample_share(everybody: int) -> float | None:
    """The share of a sample; None: so few people are counted at once."""
    return SAMPLED / everybody if everybody > 2 * SAMPLED else None


def global_control(settings: Settings, day: date) -> Holdout:
    """The control group of all campaigns that is in force on a day."""
    return Holdout(
        scope="global",
        epoch=epoch_in_force(
            settings.global_holdout_epoch, settings.global_holdout_rotate_days, day
        ),
        share=settings.global_holdout_share,
    )


def bind_addresses(engine: Engine, project: Project, people: Relation, day: date) -> Relation:
    """For each user, the number and the e-mail address of the newest upload up to a day.

    Args:
        engine: where it is bound.
        project: the home.
        people: ``user_id``, each once.
        day: uploads of later execution dates are not looked at.

    Returns:
        ``n`` (1, 2, 3 …), ``user_id``, ``phone`` (E.164) and ``email``; NULL where there is none.
    """
    uploads = bind_uploads(engine, project, day, _UPLOAD)
    order = '(ds, task_id, -"row")'
    return bind_query(
        engine,
        "reachable",
        f"""
        with uploaded as (
            select user_id, ds, task_id, "row", nullif(trim(phone), '') as phone,
                nullif(trim(variables['email']), '') as email
            from {uploads} where user_id in (select user_id from {people})
        ), newest as (
            select user_id, max_by(phone, {order}) filter (where phone is not null) as phone,
                max_by(email, {order}) filter (where email is not null) as email
            from uploaded group by user_id
        )
        select row_number() over () as n, m.user_id, {number_sql("u.phone")} as phone,
            {email_sql("u.email")} as email
        from {people} as m left join newest as u on m.user_id = u.user_id""",
        keep=True,
    )


def sizes_of(engine: Engine, project: Project, people: Relation, day: date) -> Sizes:
    """The sizes of a segment, as of now: refusals count that are in force.

    Args:
        engine: holds the people.
        project: the home.
        people: ``user_id``, each once.
        day: the execution date.
    """
    together = _bind_together(engine, project, people, day)
    reachable = bind_addresses(engine, project, together, day)
    marked = mark_refusals(engine, project.settings, project.store, reachable)
    held_out = held_sql(global_control(project.settings, day), by_person=True)
    row = engine.rows(f"""
        with looked as (
            select asked, phone is not null or email is not null as reached,
                not bool_or(forgotten or refuses) over (
                    partition by coalesce(person, user_id), person is null
                ) as willing,
                not {held_out} as free
            from {reachable} join {marked} using (n) join {together} using (user_id)
        )
        select count(*), count(*) filter (where reached), count(*) filter (where willing),
            count(*) filter (where free), count(*) filter (where reached and willing and free)
        from looked where asked""")[0]
    return Sizes(*map(int, row))


def _bind_together(engine: Engine, project: Project, people: Relation, day: date) -> Relation:
    """People, and the other users of their persons where the home knows persons.

    Returns:
        ``user_id``, each once; ``asked``, whether it is one of the people; ``person`` and
        ``person_users`` as of :func:`bind_users_of_persons`, else NULL.
    """
    persons = bind_persons(engine, project, day)
    if persons is None:
        alone = f"select user_id, true as asked, null as person, null::varchar[] as {USERS}"
        return bind_query(engine, "together", f"{alone} from {people}", of=[people])
    known = bind_users_of_persons(engine, persons.people, people)
    return bind_query(
        engine,
        "together",
        f"""
        with others as (
            select distinct person, {USERS}, unnest({USERS}) as user_id from {known}
        )
        select coalesce(m.user_id, o.user_id) as user_id, m.user_id is not null as asked,
            o.person, o.{USERS}
        from {people} as m full join others as o on m.user_id = o.user_id""",
        of=[people, persons.people],
        keep=True,
    )
