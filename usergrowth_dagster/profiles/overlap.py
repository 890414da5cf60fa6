"""How groups of people overlap: people by the exact set of groups that they are in."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation

MOST = 10
"""Groups that are compared at once."""


@dataclass(frozen=True)
class Intersection:
    """People who are in these groups and in no other one."""

    groups: tuple[str, ...]
    people: int


@dataclass(frozen=True)
class Pair:
    """Two groups: people in both, of the smaller group, and of all in either (Jaccard)."""

    one: str
    other: str
    both: int
    of_smaller: float
    jaccard: float


@dataclass(frozen=True)
class Overlap:
    """The overlap of some groups.

    Attributes:
        sizes: people of each group.
        intersections: exact sets of groups with people, the largest first.
        pairs: every two groups.
    """

    sizes: Mapping[str, int]
    intersections: tuple[Intersection, ...]
    pairs: tuple[Pair, ...]


def overlap_of(engine: Engine, groups: Mapping[str, Relation]) -> Overlap:
    """Count how groups overlap.

    Args:
        engine: holds the groups.
        groups: relations with ``user_id``, each person once, by name.

    Raises:
        UserError: they are fewer than two or too many.
    """
    names = list(groups)
    if not 2 <= len(names) <= MOST:
        raise UserError(
            f"give 2 to {MOST} different groups, not {len(names)}", code="command.invalid"
        )
    members = " union all ".join(
        f"select user_id, {1 << place} as bit from {groups[name]}"
        for place, name in enumerate(names)
    )
    rows = engine.rows(
        f"select bits, count(*) from (select user_id, bit_or(bit) as bits from ({members}) "
        "group by user_id) group by bits order by 2 desc, 1"
    )
    intersections = [
        (tuple(name for place, name in enumerate(names) if bits >> place & 1), people)
        for bits, people in rows
    ]
    return overlap_from(names, intersections)


def overlap_from(
    names: Sequence[str], intersections: Iterable[tuple[Sequence[str], int]]
) -> Overlap:
    """The overlap of groups, from the people in exactly each set of them.

    Args:
        names: the groups.
        intersections: sets of groups and the people in exactly them, the largest first.
    """
    counts = {tuple(groups): people for groups, people in intersections}
    sizes = {name: sum(n for held, n in counts.items() if name in held) for name in names}
    pairs = []
    for one, other in combinations(names, 2):
        both = sum(n for held, n in counts.items() if one in held and other in held)
        smaller, either = min(sizes[one], sizes[other]), sizes[one] + sizes[other] - both
        pairs.append(Pair(one, other, both, both / (smaller or 1), both / (either or 1)))
    return Overlap(sizes, tuple(Intersection(*item) for item in counts.items()), tuple(pairs))
