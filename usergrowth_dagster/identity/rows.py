"""The rows of the tables of identity, as SQL over what a partition has left in an engine."""

from collections.abc import Sequence
from datetime import date

from usergrowth_dagster.identity.definition import Identity
from usergrowth_dagster.identity.links import LINKS
from usergrowth_dagster.identity.partition import EDGES, NODES
from usergrowth_dagster.identity.people import CHANGES, PEOPLE
from usergrowth_dagster.identity.tables import (
    CONFLICT_COLUMNS,
    HISTORY_COLUMNS,
    ONE_ID_COLUMNS,
)
from usergrowth_dagster.quoting import literals
from usergrowth_dagster.warehouse.columns import types_of
from usergrowth_dagster.warehouse.engine import Engine

_SEEN, _ROWS = "identity_seen", "identity_rows"


def _names(identity: Identity) -> str:
    return f"[{literals(one.name for one in identity.all_types)}]"


def _hexadecimal(key: str) -> str:
    return f"replace(cast({key} as varchar), '-', '')"


def _as_table(columns: dict[str, str], sql: str) -> str:
    listed = ", ".join(f'cast("{name}" as {kind}) as "{name}"' for name, kind in columns.items())
    return f"select {listed} from ({sql})"


def one_id_sql(engine: Engine, identity: Identity, day: date) -> str:
    """The rows of ``one_id``: every id but hubs.

    They are put together join by join, each kept and what it read dropped, since many joins at
    once would want their memory at once. Nothing else can be read of the partition after it.
    """
    engine.run(f"""
        create or replace table {_SEEN} as
        select node, min(first_seen) as first_seen, max(last_seen) as last_seen,
            case when count(user_node) = 1 then min(user_node) end as owner
        from (
            select user_node as node, null as user_node, first_seen, last_seen from {EDGES}
            union all select node, user_node, first_seen, last_seen from {EDGES}
        ) group by node
    """)
    engine.run(f"drop table {EDGES}")
    engine.run(f"""
        create or replace table {_ROWS} as
        select n.*, s.first_seen, s.last_seen, s.owner
        from {NODES} as n join {_SEEN} as s using (node) where n.person is not null
    """)
    engine.run(f"drop table {_SEEN}")
    engine.run(f"""
        create or replace table {_SEEN} as
        select r.*, o.user_id as owner_id
        from {_ROWS} as r left join {NODES} as o on o.node = r.owner and r.type > 0
    """)
    engine.run(f"drop table {_ROWS}")
    engine.run(f"drop table {NODES}")
    sql = f"""
        select date '{day}' as ds, p.one_id, {_names(identity)}[n.type + 1] as id_type,
            case when n.type = 0 then n.user_id else {_hexadecimal("n.key")} end as id_value,
            coalesce(n.user_id, n.owner_id) as user_id, n.current, p.since,
            n.first_seen, n.last_seen
        from ({_current_sql(identity)}) as n join {PEOPLE} as p using (person)
    """
    return _as_table(types_of(ONE_ID_COLUMNS), sql)


def _current_sql(identity: Identity) -> str:
    """The rows with ``current``: of a type of one value a person, the one that was seen last."""
    single = ", ".join(str(n) for n, one in enumerate(identity.all_types) if not one.multi)
    if not single:
        return f"select *, true as current from {_SEEN}"
    return (
        f"select *, true as current from {_SEEN} where type not in ({single}) union all "
        "select *, row_number() over (partition by person, type order by last_seen desc, key) = 1 "
        f"from {_SEEN} where type in ({single})"
    )


def history_sql(day: date) -> str:
    """The rows of ``one_id_history``."""
    sql = f"select date '{day}' as ds, * from {CHANGES} order by why, old, new"
    return _as_table(types_of(HISTORY_COLUMNS), sql)


def conflicts_sql(identity: Identity, day: date) -> str:
    """The rows of ``identity_conflicts``: every link that joins nobody."""
    names = _names(identity)
    sql = f"""
        select date '{day}' as ds, reason, coalesce({names}[type + 1], other_type) as id_type,
            case when type = 0 then other_user else {_hexadecimal("key")} end as id_value,
            user_id, null as because, null as one_id, null as other_one_id, source, first_seen, rows
        from {LINKS} where reason is not null
        union all
        select date '{day}', e.reason, {names}[e.type + 1],
            case when v.type = 0 then v.user_id else {_hexadecimal("v.key")} end,
            u.user_id, e.because, p.one_id, q.one_id, e.source, e.first_seen, e.rows
        from {EDGES} as e
        join {NODES} as u on u.node = e.user_node join {NODES} as v on v.node = e.node
        left join {PEOPLE} as p on p.person = u.person
        left join {PEOPLE} as q on q.person = v.person
        where e.reason is not null
    """
    return _as_table(types_of(CONFLICT_COLUMNS), sql)


def sizes(engine: Engine) -> dict[str, int]:
    """How many persons have so many user ids: by 0, 1, 2, 3, 4-9 and 10+."""
    rows = engine.rows(f"""
        select case when users < 4 then cast(users as varchar) when users < 10 then '4-9'
            else '10+' end as size, count(*)
        from (select person, count(*) filter (type = 0) as users from {NODES}
            where person is not null group by person) group by size
    """)
    order = ("0", "1", "2", "3", "4-9", "10+")
    return {str(size): int(n) for size, n in sorted(rows, key=lambda row: order.index(row[0]))}


def left_out(engine: Engine, relations: Sequence[str] = (LINKS, EDGES)) -> dict[str, int]:
    """Landed rows that link nobody, by reason."""
    listed = " union all ".join(f"select reason, rows from {name}" for name in relations)
    rows = engine.rows(
        f"select reason, sum(rows) from ({listed}) where reason is not null "
        "group by reason order by reason"
    )
    return {reason: int(n) for reason, n in rows}


def types_present(engine: Engine, identity: Identity) -> dict[str, tuple[int, int]]:
    """By type, landed rows and ids of the links that were bound."""
    rows = engine.rows(
        f"select coalesce({_names(identity)}[type + 1], other_type), sum(rows), "
        f"count(distinct key) from {LINKS} group by 1 order by 1"
    )
    return {str(name): (int(count), int(ids)) for name, count, ids in rows}
