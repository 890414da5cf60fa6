"""Learning the flat columns of :mod:`encoding` from the rows of the train slice, in SQL."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.encoding import (
    ABSENT_IS_NULL,
    KEYS,
    MISSING,
    OTHER,
    Feature,
    FeatureSpec,
    Kind,
    kind_of,
    label_columns,
    map_keys,
)
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.warehouse.engine import Engine


def fit_spec(
    engine: Engine,
    relation: str,
    *,
    where: str = "true",
    newest: str | None = None,
    exclude: Iterable[str] = (),
    top_n: int = 12,
    max_keys: int = 64,
) -> FeatureSpec:
    """Learn the flat columns from the rows of the train slice.

    Args:
        engine: holds the relation.
        relation: table or view name, or a parenthesised query.
        where: SQL condition of the train slice.
        newest: SQL condition of its newest rows; what is there no more is left out: it says
            something of earlier days, and nothing of those that are scored. None: every key counts.
        exclude: further columns that are no features; keys and labels (:func:`label_columns`) never
            are.
        top_n: categories kept by name in each categorical feature, most frequent first.
        max_keys: keys kept by name in each map, most frequent first.

    Returns:
        The spec; columns that do not vary within the slice, or have vanished by its newest
        rows, are left out.

    Raises:
        UserError: nothing varies, so there is nothing to learn from.
    """
    types = engine.describe(f"select * from {relation}")
    left_out = {*exclude}
    out = {*KEYS, *label_columns(relation), *left_out}
    kinds = {c: kind_of(t) for c, t in types.items() if c not in out}
    columns = {c: kind for c, kind in kinds.items() if kind is not None}
    maps = [c for c, kind in columns.items() if kind.endswith("_map")]
    keys = _kept_keys(map_keys(engine, relation, maps, newest or where), maps, max_keys)
    candidates = _candidates(columns, keys)
    categories = _categories(engine, relation, where, candidates, top_n)
    features, constant = [], []
    for feature in candidates:
        if feature.kind == "category":
            feature = feature.model_copy(update={"values": categories[feature.name]})
        features.append(feature)
    varying = _varying(engine, relation, where, features)
    if newest is not None:
        varying &= _present(engine, relation, newest, features)
    constant = [f.label for f in features if f.name not in varying]
    features = [f for f in features if f.name in varying]
    if not features:
        raise UserError(
            "training: no feature varies within the train slice; check that the days before it "
            "hold behavior",
            code="training.insufficient",
        )
    return FeatureSpec(
        features=tuple(features),
        columns=columns,
        keys={c: tuple(kept) for c, kept in keys.items()},
        constant=tuple(constant),
        ignored=tuple(c for c in types if c in left_out or (c in kinds and kinds[c] is None)),
    )


def _kept_keys(
    by_column: Sequence[tuple[str, str, int]], maps: Sequence[str], max_keys: int
) -> dict[str, list[str]]:
    kept: dict[str, list[str]] = {c: [] for c in maps}
    for column, key, _ in by_column:
        if len(kept[column]) < max_keys:
            kept[column].append(key)
    return {column: sorted(keys) for column, keys in kept.items()}


def _candidates(columns: Mapping[str, Kind], keys: Mapping[str, Sequence[str]]) -> list[Feature]:
    taken: set[str] = set()
    made = []
    for column, kind in columns.items():
        flat: Literal["number", "category"] = "number" if kind.startswith("number") else "category"
        if column not in keys:
            name = _safe(column, taken)
            made.append(Feature(name=name, column=column, kind=flat))
            continue
        for key in keys[column]:
            name = _safe(f"{column}__{key}", taken)
            made.append(Feature(name=name, column=column, key=key, kind=flat))
        if (
            kind == "number_map"
            and not column.startswith(ABSENT_IS_NULL)
            and OTHER not in keys[column]
        ):
            name = _safe(f"{column}__other_keys", taken)
            rest = Feature(
                name=name, column=column, key=OTHER, kind=flat, values=tuple(keys[column])
            )
            if keys[column]:
                made.append(rest)
    return made


def _safe(text: str, taken: set[str]) -> str:
    """A unique name of ASCII letters, digits and underscores (LightGBM refuses JSON characters)."""
    base = re.sub(r"[^0-9A-Za-z]", "_", text)
    name, count = base, 1
    while name.lower() in taken:
        count += 1
        name = f"{base}_{count}"
    taken.add(name.lower())
    return name


def _categories(
    engine: Engine, relation: str, where: str, candidates: Sequence[Feature], top_n: int
) -> dict[str, tuple[str, ...]]:
    """The most frequent values of each categorical candidate; one pass over the rows."""
    wanted = [f for f in candidates if f.kind == "category"]
    if not wanted:
        return {}
    listed = []
    for f in wanted:
        source = identifier(f.column)
        value = source if f.key is None else f"{source}[{literal(f.key)}]"
        listed.append(f"{{'name': {literal(f.name)}, 'value': {value}}}")
    rows = engine.rows(
        "select name, v from (select one.name as name, one.value as v, count(*) as n from "
        f"(select unnest([{', '.join(listed)}]) as one from {relation} where {where}) "
        "where one.value is not null group by all) "
        f"qualify row_number() over (partition by name order by n desc, v) <= {top_n} "
        "order by name, v"
    )
    seen: dict[str, list[str]] = {f.name: [] for f in wanted}
    for name, value in rows:
        seen[name].append(value)
    return {name: tuple(values) for name, values in seen.items()}


def _present(engine: Engine, relation: str, where: str, features: Sequence[Feature]) -> set[str]:
    """Names of the flat columns that say something in some row: not unknown, not an absent key."""

    def condition(feature: Feature) -> str:
        column = identifier(feature.name)
        if feature.kind == "category":
            return f"count(*) filter (where {column} <> {literal(MISSING)}) > 0"
        if feature.key is None:
            return f"count({column}) > 0"
        return f"count(*) filter (where {column} <> 0) > 0"

    return _columns_that_meet(engine, relation, where, features, condition)


def _varying(engine: Engine, relation: str, where: str, features: Sequence[Feature]) -> set[str]:
    """Names of the flat columns with more than one value, NULL counted as one."""

    def condition(feature: Feature) -> str:
        column = identifier(feature.name)
        if feature.kind == "category":
            return f"count(distinct {column}) > 1"
        return (
            f"coalesce(max({column}) > min({column}), false) or "
            f"(count({column}) between 1 and count(*) - 1)"
        )

    return _columns_that_meet(engine, relation, where, features, condition)


def _columns_that_meet(
    engine: Engine,
    relation: str,
    where: str,
    features: Sequence[Feature],
    condition: Callable[[Feature], str],
) -> set[str]:
    """Names of the flat columns for which an aggregate condition holds over the rows."""
    usable = [f for f in features if f.kind == "number" or f.values]
    if not usable:
        return set()
    flat = ", ".join(f"{f.sql(True)} as {identifier(f.name)}" for f in usable)
    conditions = ", ".join(condition(f) for f in usable)
    row = engine.rows(f"select {conditions} from (select {flat} from {relation} where {where})")[0]
    return {f.name for f, holds in zip(usable, row, strict=True) if holds}
