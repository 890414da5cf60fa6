"""From a relation with scalar and MAP columns to flat feature columns, in SQL.

A :class:`FeatureSpec` is fitted on the train slice only and says which flat columns a model sees:

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
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.models import load_graph

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

KEYS = ("ds", "user_id", "item_id", "target", "channel", "task_id", "row", "phone")
OTHER, MISSING = "(other)", "(missing)"
ABSENT_IS_NULL = ("attribute", "item_attribute")  # of these maps an absent key is unknown, not zero

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


def label_columns(relation: str) -> frozenset[str]:
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
        zero = self.key is not None and not self.column.startswith(ABSENT_IS_NULL)
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
        known = {*self.columns, *self.ignored, *KEYS, *label_columns(relation)}
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
