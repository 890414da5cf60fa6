"""From a relation with scalar and MAP columns to flat feature columns, in SQL.

A :class:`FeatureSpec` is fitted on the train slice only (:func:`fit_spec`) and says which flat
columns a model sees:

* numeric scalar → one numeric feature (NULL stays NULL); boolean → 0/1
* VARCHAR → one categorical feature: the most frequent categories, the rest ``(other)``
* MAP(VARCHAR, number) → one numeric feature a key: an absent key is 0, but NULL in a column whose
  name starts with ``attribute`` or ``item_attribute``; keys beyond the kept ones are summed
  into ``(other)``
* MAP(VARCHAR, VARCHAR) → one categorical feature a key

Every step is one SQL statement over all rows. At serving a column, map or key that is missing, and
a key or category never seen, are handled and reported by :meth:`FeatureSpec.mismatch`.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.models import load_graph

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

KEYS = ("ds", "user_id", "item_id", "target", "channel", "task_id", "row", "phone")
OTHER, MISSING = "(other)", "(missing)"
_ABSENT_IS_NULL = (
    "attribute",
    "item_attribute",
)  # of these maps an absent key is unknown, not zero

Kind = Literal["number", "category", "number_map", "category_map"]
_NUMBER = re.compile(
    r"^(U?(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT)|FLOAT|DOUBLE|BOOLEAN|DECIMAL\(\d+, ?\d+\))$"
)
_MAP = re.compile(r"^MAP\(VARCHAR, (.+)\)$")


def kind_of(sql_type: str) -> Kind | None:
    """The feature kind of a DuckDB type; None for a type that is no feature (dates, lists)."""
    if _NUMBER.match(sql_type):
        return "number"
    if sql_type == "VARCHAR":
        return "category"
    inner = _MAP.match(sql_type)
    if inner and _NUMBER.match(inner[1]):
        return "number_map"
    if inner and inner[1] == "VARCHAR":
        return "category_map"
    return None


def _label_columns(relation: str) -> frozenset[str]:
    """Columns that describe what followed a row, or how it was drawn, and are no features.

    They are the ``labels`` of a training model's yml; for a relation that is no model, those of
    every model.
    """
    models = load_graph().models
    own = [models[relation]] if relation in models else models.values()
    return frozenset(label for model in own for label in model.labels)


class Feature(BaseModel):
    """One flat column.

    Attributes:
        name: the flat column's name: letters, digits and underscores only.
        column: source column; ``key``: the map's key, None for a scalar, ``(other)`` for the rest.
        kind: ``number`` or ``category``.
        values: the kept categories of a category, or the kept keys that ``(other)`` leaves out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    column: str
    key: str | None = None
    kind: Literal["number", "category"]
    values: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The feature as people read it: ``column`` or ``column[key]``."""
        return self.column if self.key is None else f"{self.column}[{self.key}]"

    def sql(self, present: bool) -> str:
        """The flat column as SQL over the source relation, without its alias."""
        zero = self.key is not None and not self.column.startswith(_ABSENT_IS_NULL)
        if not present:
            empty = "cast(0 as float)" if zero else "cast(null as float)"
            return literal(MISSING) if self.kind == "category" else empty
        source = identifier(self.column)
        if self.kind == "number" and self.key == OTHER:
            value = _rest_sql(source, self.values)
        else:
            value = source if self.key is None else f"{source}[{literal(self.key)}]"
        if self.kind == "category":
            value = f"cast({value} as varchar)"
            kept = ", ".join(literal(v) for v in self.values)
            return (
                f"case when {value} is null then {literal(MISSING)} "
                f"when {value} in ({kept}) then {value} else {literal(OTHER)} end"
            )
        number = _finite_sql(value)
        return f"coalesce({number}, cast(0 as float))" if zero else number


def _rest_sql(source: str, kept: Sequence[str]) -> str:
    listed = ", ".join(literal(key) for key in kept)
    return (
        f"list_sum(list_transform(list_filter(map_entries({source}), "
        f"lambda e: e.key not in ({listed})), lambda e: e.value))"
    )


def _finite_sql(value: str) -> str:
    """A value as float; what is no finite number of single precision becomes NULL."""
    cast = f"try_cast({value} as float)"
    return f"case when isfinite({cast}) then {cast} end"


class FeatureMismatch(BaseModel):
    """What a serving relation has less or more than the training one; empty lists when nothing."""

    missing_columns: list[str] = []
    changed_types: list[str] = []
    unseen_columns: list[str] = []
    unseen_keys: list[str] = []

    @property
    def any(self) -> bool:
        """Whether the model lacks something it was trained on."""
        return bool(self.missing_columns or self.changed_types)

    def sentence(self) -> str:
        """One sentence for logs and metadata."""
        parts = [
            f"{name.replace('_', ' ')}: {', '.join(values[:8])}{' …' if len(values) > 8 else ''}"
            for name, values in self.model_dump().items()
            if values
        ]
        return "; ".join(parts) or "the features are those of the training set"


class FeatureSpec(BaseModel):
    """The flat columns of a model; JSON by ``model_dump_json`` and ``model_validate_json``.

    Attributes:
        features: the columns, in the model's order.
        columns: source column → feature kind, as seen at training.
        keys: map column → keys kept.
        constant: labels of what was left out because it never varied, or had vanished by the newest
            days of the train slice.
        ignored: source columns whose type is no feature, or that were excluded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: tuple[Feature, ...]
    columns: dict[str, Kind]
    keys: dict[str, tuple[str, ...]]
    constant: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Names of all flat columns, in order."""
        return [feature.name for feature in self.features]

    @property
    def numbers(self) -> list[str]:
        """Names of the numeric flat columns."""
        return [f.name for f in self.features if f.kind == "number"]

    @property
    def categories(self) -> list[str]:
        """Names of the categorical flat columns."""
        return [f.name for f in self.features if f.kind == "category"]

    def projection(self, types: Mapping[str, str]) -> str:
        """The select list of all flat columns over a relation with these column types."""
        present = self._present(types)
        return ", ".join(
            f"{f.sql(f.column in present)} as {identifier(f.name)}" for f in self.features
        )

    def _present(self, types: Mapping[str, str]) -> set[str]:
        return {c for c, kind in self.columns.items() if kind_of(types.get(c, "")) == kind}

    def mismatch(self, engine: Engine, relation: str) -> FeatureMismatch:
        """Compare a serving relation with the training one; one pass over its map keys."""
        types = engine.describe(f"select * from {relation}")
        present = self._present(types)
        lost = sorted({f.column for f in self.features} - present)
        known = {*self.columns, *self.ignored, *KEYS, *_label_columns(relation)}
        known |= set(self.constant)
        maps = [c for c in self.keys if c in present]
        seen = map_keys(engine, relation, maps, "true")
        return FeatureMismatch(
            missing_columns=[c for c in lost if c not in types],
            changed_types=[c for c in lost if c in types],
            unseen_columns=sorted(c for c in types if c not in known and kind_of(types[c])),
            unseen_keys=sorted(
                f"{column}[{key}]"
                for column, key, _ in seen
                if key not in self.keys[column] and f"{column}[{key}]" not in self.constant
            ),
        )


def map_keys(
    engine: Engine, relation: str, maps: Sequence[str], where: str
) -> list[tuple[str, str, int]]:
    """Every (map column, key, rows with it), most frequent first; one pass over the rows."""
    if not maps:
        return []
    listed = ", ".join(
        f"{{'source': {literal(c)}, 'keys': map_keys({identifier(c)})}}" for c in maps
    )
    return engine.rows(
        "select source, key, count(*) as n from (select one.source as source, unnest(one.keys) as "
        f"key from (select unnest([{listed}]) as one from {relation} where {where})) "
        "group by source, key order by source, n desc, key"
    )


def flat_frame(table: "pa.Table", spec: FeatureSpec) -> "pd.DataFrame":
    """The flat columns of an Arrow table as the pandas frame that the estimators take."""
    import pandas as pd
    import polars as pl

    numbers = pl.from_arrow(table.select(spec.numbers))
    assert isinstance(numbers, pl.DataFrame)
    block = numbers.cast(pl.Float32).to_numpy(order="fortran")
    frame = pd.DataFrame(block, columns=spec.numbers, copy=False)
    categories = set(spec.categories)
    for place, name in enumerate(spec.names):
        if name in categories:
            frame.insert(place, name, pd.Series(_texts(table.column(name)), dtype=object))
    return frame


def _texts(column: "pa.ChunkedArray") -> Any:
    """A column of texts as objects, one for all rows that have the same."""
    import numpy as np

    coded = column.combine_chunks().dictionary_encode()
    texts = np.array([*coded.dictionary.to_pylist(), None], dtype=object)
    return texts[coded.indices.fill_null(len(texts) - 1).to_numpy()]


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
        exclude: further columns that are no features; keys and labels (:func:`_label_columns`)
            never are.
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
    out = {*KEYS, *_label_columns(relation), *left_out}
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
            and not column.startswith(_ABSENT_IS_NULL)
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
