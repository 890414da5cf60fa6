"""Links into persons: connected components, none of which has two values of a unique type.

Ids are the nodes of a graph and links its edges. Components come from
``scipy.sparse.csgraph.connected_components``. Only those with a clash, two values of a unique type,
are built again edge by edge: in the order of priority, first day, id and user, with a union-find
structure (Tarjan 1975) that refuses an edge which would join two values. So the order of rows and
files changes nothing.

Arrays are NumPy's, four bytes a node and an end of an edge; no row becomes a Python object but in
components with a clash, whose ends pass through as numbers.
"""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.identity.definition import Identity
from usergrowth_dagster.identity.links import LINKS
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray[Any, np.dtype[np.int32]]

NODES = "identity_nodes"
"""Relation of :func:`partition`: node, type, key, user_id (of users), hub, person (NULL: a hub)."""

EDGES = "identity_edges"
"""Relation of :func:`partition`: LINKS that have no reason, with edge, user_node, node, priority
and, of those that link nobody, the reason hub or unique; ``because`` is the type of a unique."""


@dataclass(frozen=True)
class Partition:
    """How many there are: ids, links that join, persons, and ids that are hubs."""

    nodes: int
    links: int
    persons: int
    hubs: int
    refused: int


def partition(engine: Engine, identity: Identity) -> Partition:
    """Make the tables :data:`NODES` and :data:`EDGES` of the links.

    Args:
        engine: holds :data:`~.links.LINKS`.
        identity: the types.
    """
    _bind_nodes(engine)
    _bind_edges(engine, identity)
    _mark_hubs(engine, identity)
    persons = _components(engine)
    refused = _refuse_clashes(engine, identity)
    if refused:
        persons = _components(engine)
    nodes, hubs, links = engine.rows(
        f"select (select count(*) from {NODES}), (select count(*) from {NODES} where hub), "
        f"(select count(*) from {EDGES} where reason is null)"
    )[0]
    return Partition(int(nodes), int(links), persons, int(hubs), refused)


def _bind_nodes(engine: Engine) -> None:
    """Number the ids; which number an id has decides nothing."""
    engine.run(f"""
        create or replace table {NODES} as
        select cast(row_number() over () - 1 as integer) as node, type, key, user_id, false as hub,
            cast(null as integer) as person
        from (
            select type, key, max(user_id) as user_id from (
                select cast(0 as utinyint) as type, user_key as key, user_id from {LINKS}
                where reason is null
                union all
                select type, key, other_user from {LINKS} where reason is null
            ) group by type, key
        )
    """)


def _bind_edges(engine: Engine, identity: Identity) -> None:
    ranks = ", ".join(str(one.priority) for one in identity.all_types)
    engine.run(f"""
        create or replace table {EDGES} as
        select cast(row_number() over () - 1 as integer) as edge, u.node as user_node,
            v.node as node, cast([{ranks}][l.type + 1] as smallint) as priority,
            l.type, l.first_seen, l.last_seen, l.source, l.rows,
            cast(null as varchar) as reason, cast(null as varchar) as because
        from {LINKS} as l
        join {NODES} as u on u.type = 0 and u.key = l.user_key
        join {NODES} as v on v.type = l.type and v.key = l.key
        where l.reason is null
    """)


def _mark_hubs(engine: Engine, identity: Identity) -> None:
    """Values that more users have than their type allows, and their links."""
    for number, one in enumerate(identity.all_types):
        if one.most is None:
            continue
        engine.run(f"""
            update {NODES} set hub = true where node in (
                select node from {EDGES} where type = {number} and node <> user_node
                group by node having count(*) > {one.most}
            )
        """)
    engine.run(
        f"update {EDGES} set reason = 'hub' where node in (select node from {NODES} where hub)"
    )


def _components(engine: Engine) -> int:
    """Write every node's person, a number, into NODES; returns how many persons there are."""
    import numpy as np
    import pyarrow as pa
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    nodes = int(engine.value(f"select count(*) from {NODES}"))
    ends = engine.connection.sql(
        f"select user_node, node from {EDGES} where reason is null"
    ).fetchnumpy()
    start, end = _plain(ends["user_node"]), _plain(ends["node"])
    graph = coo_matrix((np.ones(len(start), np.int8), (start, end)), shape=(nodes, nodes))
    _, labels = connected_components(graph.tocsr(), directed=False)
    del graph, start, end, ends
    found = pa.table(
        {
            "node": pa.array(np.arange(nodes, dtype=np.int32)),
            "person": pa.array(labels.astype(np.int32)),
        }
    )
    del labels
    engine.connection.register("_found", found)
    engine.run(f"""
        create or replace table {NODES} as
        select n.* exclude (person), case when not hub then f.person end as person
        from {NODES} as n join _found as f using (node)
    """)
    engine.connection.unregister("_found")
    return int(engine.value(f"select count(distinct person) from {NODES}"))


def _plain(values: Any) -> "Numbers":
    """Numbers without a mask; none of them is missing."""
    import numpy as np

    return np.ascontiguousarray(np.ma.getdata(values), dtype=np.int32)


def _refuse_clashes(engine: Engine, identity: Identity) -> int:
    """Mark the edges that would join two values of a unique type; returns how many."""
    unique = [n for n, one in enumerate(identity.all_types) if one.unique]
    if not unique:
        return 0
    listed = ", ".join(map(str, unique))
    clashes = (
        f"select distinct person from (select person from {NODES} where type in ({listed}) "
        "and person is not null group by person, type having count(*) > 1)"
    )
    holders = engine.connection.sql(
        f"select node, type from {NODES} where type in ({listed}) and person in ({clashes})"
    ).fetchnumpy()
    if not len(holders["node"]):
        return 0
    ordered = engine.connection.sql(f"""
        select e.edge, e.user_node, e.node from {EDGES} as e
        join {NODES} as v on v.node = e.node join {NODES} as u on u.node = e.user_node
        where e.reason is null and v.person in ({clashes})
        order by e.priority, e.first_seen, v.type, v.key, u.key
    """).fetchnumpy()
    refused = refuse(
        _plain(ordered["user_node"]),
        _plain(ordered["node"]),
        _plain(holders["node"]),
        _plain(holders["type"]),
    )
    _write_refused(engine, identity, _plain(ordered["edge"]), refused)
    return len(refused)


def _write_refused(
    engine: Engine, identity: Identity, edges: "Numbers", refused: Mapping[int, int]
) -> None:
    import pyarrow as pa

    names = [one.name for one in identity.all_types]
    table = pa.table(
        {
            "edge": pa.array([int(edges[place]) for place in refused], pa.int32()),
            "because": pa.array([names[kind] for kind in refused.values()], pa.string()),
        }
    )
    engine.bind_arrow("_refused", table)
    engine.run(
        f"update {EDGES} as e set reason = 'unique', because = r.because from _refused as r "
        "where r.edge = e.edge"
    )
    engine.run("drop table _refused")


def refuse(
    start: "Numbers", end: "Numbers", holders: "Numbers", types: "Numbers"
) -> Mapping[int, int]:
    """The edges that would join two values of a unique type, one after another.

    Args:
        start: node at one end of each edge, in the order in which edges are made.
        end: node at the other end.
        holders: nodes that are values of unique types.
        types: the type of each holder.

    Returns:
        By place of the edge, the type of which it would have joined two values.
    """
    import numpy as np

    known = np.unique(np.concatenate([start, end, holders]))
    left, right = (array("i", np.searchsorted(known, side).astype("i")) for side in (start, end))
    parent = array("i", range(len(known)))
    held: dict[int, array[int]] = {}
    for kind in np.unique(types).tolist():
        mine = np.full(len(known), -1, "i")
        places = np.searchsorted(known, holders[types == kind])
        mine[places] = places
        held[kind] = array("i", mine)
    refused: dict[int, int] = {}
    for place in range(len(left)):
        one, other = _root(parent, left[place]), _root(parent, right[place])
        if one == other:
            continue
        clash = _clash(held, one, other)
        if clash is not None:
            refused[place] = clash
            continue
        parent[other] = one
        for values in held.values():
            if values[one] < 0:
                values[one] = values[other]
    return refused


def _root(parent: "array[int]", node: int) -> int:
    """The root of a node; halves the way to it."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


def _clash(held: "Mapping[int, Sequence[int]]", one: int, other: int) -> int | None:
    """The first type of which two roots hold different values."""
    for kind, values in held.items():
        if values[one] >= 0 and values[other] >= 0 and values[one] != values[other]:
            return kind
    return None
