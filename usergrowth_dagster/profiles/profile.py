"""The profile of a group: how its tags differ from those of everyone, or of another group.

The TGI (target group index) of a value is 100 times its share in the group over its share in the
base; 100 is par. Its interval is that of the logarithm of a ratio of two shares (D. Katz et al.,
Obtaining confidence intervals for the risk ratio in cohort studies, Biometrics 34 (1978), 469-474):
±1.96·√((1-p_a)/n_a + (1-p_b)/n_b), where one half stands for a count of zero. A value is telling
where the group has at least 30 people with it and the interval does not hold 100.

Tags are ordered by Cramér's V between the group and the rest of the base, and tested by the
chi-squared statistic; p-values are corrected for the number of tags (Y. Benjamini, Y. Hochberg,
JRSS B 57 (1995), 289-300). A number is tested by tenths of the base. A multi-valued tag is tested
value by value, and the largest V counts, with Bonferroni's correction.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from usergrowth_dagster.quoting import identifier
from usergrowth_dagster.tags.definition import TagType
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation, bind_query

PAR = 100.0
SMALLEST = 30
"""People of a value below which it is not telling."""
VALUES = 50
"""Values of a text tag that are counted apart; the rest are one value."""
OTHERS, NO_VALUE = "(others)", "(no value)"
LEVEL = 0.05
"""Share of false findings among the tags that are called different."""
TELLING = 10
"""Most telling tags, which come first."""
_Z = 1.959964
_MOSTLY_UNIQUE = 0.5
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class ValueShare:
    """One value of a tag in the group and in the base.

    Attributes:
        value: as text.
        group: people of the group with it.
        base: people of the base with it.
        group_share, base_share: of all people of the group, and of the base.
        tgi: 100 times the ratio of the shares.
        low, high: its 95 % interval.
    """

    value: str
    group: int
    base: int
    group_share: float
    base_share: float
    tgi: float
    low: float
    high: float

    @property
    def is_telling(self) -> bool:
        """Whether the interval is off 100 and enough people have the value."""
        return self.group >= SMALLEST and not self.low <= PAR <= self.high


@dataclass(frozen=True)
class Spread:
    """How a number is spread over some people: its mean and quantiles; None without values."""

    mean: float | None
    quantiles: tuple[float, ...]


@dataclass(frozen=True)
class TagProfile:
    """One tag in the group beside the base.

    Attributes:
        key: of the tag.
        type: of its values.
        values: shares by value, the most frequent of the base first; of numbers by tenths.
        cramers_v: strength of the difference, from 0 to 1.
        p_value: after correction for the number of tags.
        group_spread, base_spread: of a number; None otherwise.
    """

    key: str
    type: TagType
    values: tuple[ValueShare, ...]
    cramers_v: float
    p_value: float
    group_spread: Spread | None = None
    base_spread: Spread | None = None

    @property
    def differs(self) -> bool:
        """Whether chance alone hardly makes such a difference."""
        return self.p_value < LEVEL


@dataclass(frozen=True)
class Profile:
    """The profile of a group.

    Attributes:
        group: people of the group who are known on the date.
        base: people of the base likewise.
        unknown: people of the group who are not.
        tags: the most different first.
        left_out: tags that are not compared, with the reason.
    """

    group: int
    base: int
    unknown: int
    tags: tuple[TagProfile, ...]
    left_out: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Counted:
    """People by value of one tag.

    Attributes:
        rows: value, people of the group, people of the base.
        inside: people of the group and of the rest of the base, for the test; in the same order.
    """

    rows: Sequence[tuple[str, int, int]]
    inside: Sequence[tuple[int, int]]


def profile_of(
    engine: Engine,
    tags: Relation,
    types: Sequence[tuple[str, TagType]],
    group: Relation,
    base: Relation | None = None,
) -> Profile:
    """Compare a group with everyone, or with another group.

    Args:
        engine: holds the relations.
        tags: ``user_tags`` of one date.
        types: key and type of each tag to compare.
        group: relation with ``user_id``, each once.
        base: likewise; None: everyone in ``tags``.
    """
    in_base = "true" if base is None else f"user_id in (select user_id from {base})"
    members = bind_query(
        engine,
        "profiled",
        f"select * from (select *, user_id in (select user_id from {group}) as _in_group, "
        f"{in_base} as _in_base from {tags}) where _in_group or _in_base",
        of=[tags, group, *([] if base is None else [base])],
        keep=True,
    )
    sizes = engine.rows(
        f"select count(*) filter (where _in_group), count(*) filter (where _in_base), "
        f"count(*) filter (where _in_base and not _in_group) from {members}"
    )[0]
    in_group = int(engine.value(f"select count(*) from {group}"))
    profiles, left_out = [], []
    for key, kind in types:
        reason = _unfit(engine, members, key, kind)
        if reason:
            left_out.append((key, reason))
        else:
            profiles.append(_profile(engine, members, key, kind, sizes))
    return Profile(
        group=sizes[0],
        base=sizes[1],
        unknown=in_group - sizes[0],
        tags=_corrected(profiles),
        left_out=tuple(left_out),
    )


def _unfit(engine: Engine, members: Relation, key: str, kind: TagType) -> str:
    """Why a tag is not compared; "" where it is."""
    column = identifier(key)
    people, distinct = engine.rows(
        f"select count({column}), count(distinct {column}) from {members}"
    )[0]
    if not people:
        return "nobody has a value"
    if kind == "text" and distinct > VALUES and distinct > _MOSTLY_UNIQUE * people:
        return "nearly everyone has a value of their own"
    return ""


def _profile(
    engine: Engine, members: Relation, key: str, kind: TagType, sizes: tuple[int, int, int]
) -> TagProfile:
    counted = _count(engine, members, key, kind)
    shares = tuple(value_share(value, a, sizes[0], b, sizes[1]) for value, a, b in counted.rows)
    if kind == "multi":
        rests = sizes[0], sizes[2]
        tests = [_test([(a, b), (rests[0] - a, rests[1] - b)]) for a, b in counted.inside]
        strength, p_value = max((one[0] for one in tests), default=0.0), 1.0
        if tests:
            p_value = min(1.0, min(one[1] for one in tests) * len(tests))
    else:
        strength, p_value = _test(counted.inside)
    made = TagProfile(key, kind, shares, strength, p_value)
    if kind not in ("int", "float"):
        return made
    spreads = [_spread(engine, members, key, side) for side in ("_in_group", "_in_base")]
    return replace(made, group_spread=spreads[0], base_spread=spreads[1])


def _count(engine: Engine, members: Relation, key: str, kind: TagType) -> _Counted:
    """People by value: all values of few, tenths of the base for numbers and days."""
    column = identifier(key)
    if kind == "multi":
        value = f"unnest(list_distinct({column}))"
    elif kind in ("int", "float", "date"):
        value = _tenth_sql(engine, members, column)
    else:
        value = f"cast({column} as varchar)"
    rows = engine.rows(
        f"select value, count(*) filter (where _in_group), count(*) filter (where _in_base), "
        "count(*) filter (where _in_base and not _in_group), min(place) "
        f"from (select {value} as value, {_place_sql(kind, column)} as place, _in_group, _in_base "
        f"from {members}) group by value order by "
        + ("min(place) nulls last" if kind in ("int", "float", "date") else "3 desc, 2 desc, 1")
    )
    named = [(NO_VALUE if value is None else str(value), a, b, r) for value, a, b, r, _ in rows]
    if kind == "multi":
        named = [one for one in named if one[0] != NO_VALUE]
    kept, rest = named[:VALUES], named[VALUES:]
    if rest:
        group, base, outside = (sum(numbers) for numbers in list(zip(*rest, strict=True))[1:])
        kept.append((OTHERS, group, base, outside))
    return _Counted([one[:3] for one in kept], [(a, r) for _, a, _, r in kept])


def _place_sql(kind: TagType, column: str) -> str:
    if kind == "date":
        return f"epoch({column})"
    return f"cast({column} as double)" if kind in ("int", "float") else "null::double"


def _tenth_sql(engine: Engine, members: Relation, column: str) -> str:
    """The tenth of the base that a value lies in, as its largest value; few values stay apart."""
    distinct = engine.value(f"select count(distinct {column}) from {members}")
    if distinct <= 10:
        return f"cast({column} as varchar)"
    points = [place / 10 for place in range(1, 10)]
    limits = engine.value(
        f"select quantile_disc({column}, {points!r}) from {members} where _in_base"
    )
    whens = " ".join(
        f"when {column} <= {_constant(limit)} then 'up to {_shown(limit)}'"
        for limit in sorted(set(limits or []))
    )
    last = _shown(max(limits)) if limits else ""
    return f"case when {column} is null then null {whens} else 'above {last}' end"


def _constant(value: object) -> str:
    return f"{value!r}::double" if isinstance(value, int | float) else f"date '{value}'"


def _shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def value_share(value: str, group: int, group_all: int, base: int, base_all: int) -> ValueShare:
    """Shares and TGI of one value from its counts."""
    group_share = group / group_all if group_all else 0.0
    base_share = base / base_all if base_all else 0.0
    n_a, n_b = (count or 0.5 for count in (group, base))
    p_a, p_b = n_a / max(group_all, 1), n_b / max(base_all, 1)
    tgi = PAR * p_a / p_b
    width = _Z * math.sqrt(max(1 - p_a, 0.0) / n_a + max(1 - p_b, 0.0) / n_b)
    low, high = tgi * math.exp(-width), tgi * math.exp(width)
    return ValueShare(value, group, base, group_share, base_share, tgi, low, high)


def _test(counts: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Cramér's V and the p-value of a table of values by (group, rest)."""
    from scipy.stats import chi2

    filled = [row for row in counts if sum(row)]
    group, rest = (sum(row[side] for row in filled) for side in (0, 1))
    everyone = group + rest
    if len(filled) < 2 or not group or not rest:
        return 0.0, 1.0
    statistic = 0.0
    for row in filled:
        for count, side in zip(row, (group, rest), strict=True):
            expected = sum(row) * side / everyone
            statistic += (count - expected) ** 2 / expected
    return math.sqrt(statistic / everyone), float(chi2.sf(statistic, len(filled) - 1))


def _corrected(profiles: Sequence[TagProfile]) -> tuple[TagProfile, ...]:
    """The profiles, most different first, with p-values corrected for their number."""
    from scipy.stats import false_discovery_control

    if not profiles:
        return ()
    corrected = false_discovery_control([one.p_value for one in profiles])
    made = [replace(one, p_value=float(p)) for one, p in zip(profiles, corrected, strict=True)]
    return tuple(sorted(made, key=lambda one: (not one.differs, -one.cramers_v, one.key)))


def _spread(engine: Engine, members: Relation, key: str, side: str) -> Spread:
    column = identifier(key)
    mean, quantiles = engine.rows(
        f"select avg({column}), quantile_cont(cast({column} as double), {list(_QUANTILES)!r}) "
        f"from {members} where {side}"
    )[0]
    return Spread(mean, tuple(quantiles or ()))
