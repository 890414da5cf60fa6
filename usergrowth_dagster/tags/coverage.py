"""How many users have each tag on a date, and its most frequent values."""

from collections.abc import Sequence
from dataclasses import dataclass

from usergrowth_dagster.quoting import identifier
from usergrowth_dagster.tags.definition import TagType
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation

SHOWN = 5
"""Values of a tag that are shown."""


@dataclass(frozen=True)
class Coverage:
    """Of one tag on one date.

    Attributes:
        key: of the tag.
        users: who have a value.
        share: of all users of the date.
        top: the most frequent values with their users; of a number or day, quartiles by name.
    """

    key: str
    users: int
    share: float
    top: tuple[tuple[str, str], ...]


def coverage_of(
    engine: Engine, tags: Relation, types: Sequence[tuple[str, TagType]]
) -> list[Coverage]:
    """Coverage of tags.

    Args:
        engine: holds the tags.
        tags: the table ``user_tags`` of one date.
        types: key and type of each tag that is asked about.
    """
    counts = ", ".join(["count(*)", *(f"count({identifier(key)})" for key, _ in types)])
    everyone, *users = engine.rows(f"select {counts} from {tags}")[0]
    return [
        Coverage(key, count, count / everyone if everyone else 0.0, _top(engine, tags, key, kind))
        for (key, kind), count in zip(types, users, strict=True)
    ]


def _top(engine: Engine, tags: Relation, key: str, kind: TagType) -> tuple[tuple[str, str], ...]:
    column = identifier(key)
    if kind in ("int", "float", "date"):
        points = (0.0, 0.25, 0.5, 0.75, 1.0)
        values = engine.value(f"select quantile_disc({column}, {list(points)!r}) from {tags}")
        names = ("smallest", "quarter", "half", "three quarters", "largest")
        return tuple(
            (name, f"{value:.6g}" if isinstance(value, float) else str(value))
            for name, value in zip(names, values or (), strict=False)
        )
    value = f"unnest(list_distinct({column}))" if kind == "multi" else column
    rows = engine.rows(
        f"select cast(value as varchar), count(*) from (select {value} as value from {tags}) "
        f"where value is not null group by 1 order by 2 desc, 1 limit {SHOWN}"
    )
    return tuple((str(name), f"{count:,}") for name, count in rows)
