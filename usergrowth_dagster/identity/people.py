"""Persons keep the ``one_id`` that most of their ids had before; without one they get a new one.

Of several old ones the person takes that of the most ids, then the older, then the smaller. Of
several persons that would take the same one, the person with the most of its ids gets it, then that
with the smallest id; the others are split off and get new ones. A new ``one_id`` is a hash of the
person's smallest id and of the date, so that a run made again makes the same one.
"""

from dataclasses import dataclass
from datetime import date

from usergrowth_dagster.identity.definition import Identity
from usergrowth_dagster.identity.links import user_key_sql
from usergrowth_dagster.identity.partition import EDGES, NODES
from usergrowth_dagster.quoting import literals
from usergrowth_dagster.warehouse.engine import Engine

PEOPLE = "identity_people"
"""Relation of :func:`name_people`: person, one_id, since, inherited."""

CHANGES = "identity_changes"
"""Relation of :func:`name_people`: old, new, why, id_type, source, ids."""

_OLD, _SHARED = "identity_old", "identity_shared"


@dataclass(frozen=True)
class Changes:
    """What has become of persons since the day before, in persons."""

    created: int
    merged: int
    split: int
    gone: int


def name_people(engine: Engine, identity: Identity, day: date, before: str) -> Changes:
    """Make the tables :data:`PEOPLE` and :data:`CHANGES`.

    Args:
        engine: holds the partition.
        identity: the types.
        day: the execution date.
        before: relation with the ``one_id`` table of an earlier date, or none of its rows.
    """
    _bind_old(engine, identity, before)
    _bind_people(engine, day)
    _bind_changes(engine, identity)
    counts = dict(engine.rows(f"select why, count(*) from {CHANGES} group by why"))
    return Changes(*(int(counts.get(why, 0)) for why in ("created", "merged", "split", "gone")))


def _bind_old(engine: Engine, identity: Identity, before: str) -> None:
    """By node, the old one_id; and how many nodes a person shares with each."""
    names = literals(one.name for one in identity.all_types)
    engine.run(f"""
        create or replace table {_OLD} as
        select n.node, n.person, b.one_id, b.since
        from (
            select *, cast(list_position([{names}], id_type) - 1 as utinyint) as type,
                case when id_type = 'user_id' then {user_key_sql("id_value")}
                    else try_cast(id_value as uuid) end as key
            from {before}
        ) as b left join {NODES} as n on n.type = b.type and n.key = b.key and not n.hub
    """)
    engine.run(f"""
        create or replace table {_SHARED} as
        select person, one_id, any_value(since) as since, count(*) as ids
        from {_OLD} where person is not null group by person, one_id
    """)


def _bind_people(engine: Engine, day: date) -> None:
    """Every person with its one_id."""
    engine.run(f"""
        create or replace table {PEOPLE} as
        with smallest as (
            select person, min({{'type': type, 'key': key}}) as id
            from {NODES} where person is not null group by person
        ), liked as (
            select person, one_id, since, ids from {_SHARED} qualify row_number() over (
                partition by person order by ids desc, since, one_id) = 1
        ), taken as (
            select l.person, l.one_id, l.since from liked as l join smallest as s using (person)
            qualify row_number() over (partition by l.one_id order by l.ids desc, s.id) = 1
        )
        select s.person, t.one_id is not null as inherited,
            coalesce(t.one_id, concat('p', left(sha256(
                concat_ws(' ', '{day}', cast(s.id.type as varchar), cast(s.id.key as varchar))
            ), 24))) as one_id,
            coalesce(t.since, date '{day}') as since
        from smallest as s left join taken as t using (person)
    """)


def _bind_changes(engine: Engine, identity: Identity) -> None:
    """What became of each old one_id, and which persons are new.

    An old one_id that lives on lost some ids by a split; one that does not was merged, unless the
    person who has its ids got a new one.
    """
    names = literals(one.name for one in identity.all_types)
    engine.run(f"""
        create or replace table {CHANGES} as
        with moved as (
            select s.person, s.one_id as old, p.one_id as new, s.ids,
                case when not p.inherited or exists (
                    select 1 from {PEOPLE} as o where o.one_id = s.one_id
                ) then 'split' else 'merged' end as why
            from {_SHARED} as s join {PEOPLE} as p using (person) where p.one_id <> s.one_id
        ), through as ({_through_sql()})
        select m.old, m.new, m.why, [{names}][t.link.type + 1] as id_type,
            t.link.source as source, m.ids
        from moved as m
        left join through as t on m.why = 'merged' and t.person = m.person and t.old = m.old
        union all
        select null, p.one_id, 'created', null, null,
            (select count(*) from {NODES} as n where n.person = p.person)
        from {PEOPLE} as p
        where not p.inherited and p.person not in (select person from {_SHARED})
        union all
        select one_id, null, 'gone', null, null, count(*) from {_OLD}
        group by one_id having count(person) = 0
    """)


def _through_sql() -> str:
    """By person and old one_id, the first link between an id that had it and one that had not."""
    link = (
        "{'priority': priority, 'seen': first_seen, 'type': type, 'key': key, "
        "'user_key': user_key, 'source': source}"
    )
    return f"""
        select person, old, min({link}) as link from (
            select v.person, v.type, v.key, u.key as user_key, e.priority, e.first_seen, e.source,
                unnest([a.one_id, b.one_id]) as old
            from {EDGES} as e
            join {NODES} as u on u.node = e.user_node join {NODES} as v on v.node = e.node
            left join {_OLD} as a on a.node = e.user_node left join {_OLD} as b on b.node = e.node
            where e.reason is null and a.one_id is distinct from b.one_id
                and v.person in (select person from moved where why = 'merged')
        ) where old is not null group by person, old
    """
