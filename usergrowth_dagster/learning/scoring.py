"""Scores of many users by a registered version, in chunks of bounded memory.

Before anybody is scored, the features are held against those of the training: a column that is gone
or has another kind, or whose values are nearly all new to the model, stops the scoring with one
sentence, since the model would answer all the same, and wrongly.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.artifacts import LoadedModel, load
from usergrowth_dagster.learning.calibration import shift_level
from usergrowth_dagster.learning.config import quote_text
from usergrowth_dagster.learning.drift import unseen_share
from usergrowth_dagster.learning.encoding import (
    MISSING,
    OTHER,
    Feature,
    Kind,
    flat_frame,
    kind_of,
    map_keys,
    quoted,
)
from usergrowth_dagster.learning.store import ModelRef
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK_ROWS = 50_000
LEAST_VALUES = 50  # of a column, from which its new ones are counted
HALF = 0.5
COPIED = ("ds", "task_id", "row", "user_id", "item_id")


def score(
    engine: Engine,
    model: ModelRef | LoadedModel,
    relation: str,
    *,
    chunk_rows: int = CHUNK_ROWS,
    max_unseen_share: float = 0.95,
    level: float = 0.0,
) -> "pa.Table":
    """Score every row of a relation.

    A score depends on its own row only, so it is the same whatever the chunks are.

    Args:
        engine: holds the relation.
        model: the version to use.
        relation: table or view with the feature columns and the key columns; rows without features
            are to be left out by the caller (they have no score).
        chunk_rows: rows in memory at once, beside the scores themselves.
        max_unseen_share: as the setting of that name.
        level: shift of the scores' log-odds; 0 leaves them bit for bit.

    Returns:
        Those of the columns ds, task_id, row, user_id and item_id that the relation has, and
        ``score`` (double, the calibrated probability), sorted by the keys.

    Raises:
        UserError: the relation's features are not those of the training; see
            :func:`require_features`.
    """
    import pyarrow as pa

    loaded = load(model) if isinstance(model, ModelRef) else model
    spec = loaded.spec
    types = engine.describe(f"select * from {relation}")
    require_features(engine, loaded, relation, most=max_unseen_share)
    keys = [key for key in COPIED if key in types]
    listed = "".join(f'"{key}" as "_key_{key}", ' for key in keys)
    reader = engine.connection.sql(
        f"select {listed}{spec.projection(types)} from {relation}"
    ).to_arrow_reader(chunk_rows)
    schema = pa.schema(
        [
            *(reader.schema.field(i).with_name(key) for i, key in enumerate(keys)),
            pa.field("score", pa.float64()),
        ]
    )
    parts: list[Any] = []
    for batch in reader:
        if batch.num_rows:
            chunk = pa.Table.from_batches([batch])
            found = loaded.model.score(flat_frame(chunk, spec))
            values = pa.array(shift_level(found, level) if level else found, pa.float64())
            parts.append(
                pa.table([*(chunk.column(i) for i in range(len(keys))), values], schema=schema)
            )
    if not parts:
        return schema.empty_table()
    table = pa.concat_tables(parts)
    return table.sort_by([(key, "ascending") for key in keys]) if keys else table


def require_features(engine: Engine, model: LoadedModel, relation: str, *, most: float) -> None:
    """Refuse rows whose features the model cannot read.

    Args:
        engine: holds the relation.
        model: the version.
        relation: the rows to be scored.
        most: share of a column's known values, or of a map's keys, that may be new to the model.
            Asked of columns with 50 such values or more; not of those that describe the item, which
            is new in every campaign, nor of a category that the training itself knew in small part.

    Raises:
        UserError: a column is gone, has another kind, or nearly all its values are new.
    """
    types = engine.describe(f"select * from {relation}")
    wanted = {f.column: model.spec.columns[f.column] for f in model.spec.features}
    told = []
    missing = sorted(c for c in wanted if c not in types)
    if len(missing) == len(wanted):
        told.append("the rows have none of its features")
    elif missing:
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        told.append(f"the rows lack {', '.join(missing[:8])}{more}")
    told += [
        f"{c} was a {wanted[c].replace('_', ' of ')} and is {types[c]} now"
        for c in sorted(wanted)
        if c in types and kind_of(types[c]) != wanted[c]
    ]
    if not told:
        told = [
            f"{share:.0%} of the {rows:,} {what} are new to it"
            for what, share, rows in _unseen(engine, model, relation, wanted)
            if share > most and rows >= LEAST_VALUES
        ]
    if told:
        ref = model.ref
        raise UserError(
            f"model {ref.name} version {ref.version} cannot score these rows: {'; '.join(told)}; "
            "build the features of the execution date anew (usergrowth run), or train again on "
            "features as they are now (usergrowth train)"
        )


def _unseen(
    engine: Engine, model: LoadedModel, relation: str, wanted: Mapping[str, Kind]
) -> Iterator[tuple[str, float, int]]:
    """Columns with values of their own: what they are, the share of new ones, and their number."""
    spec = model.spec
    maps = [c for c, kind in wanted.items() if kind == "number_map" and not _of_item(c)]
    counts: dict[str, list[int]] = {}
    for column, key, rows in map_keys(engine, relation, maps, "true"):
        found = counts.setdefault(column, [0, 0])
        found[0] += 0 if key in spec.keys[column] else rows
        found[1] += rows
    for column, (new, rows) in counts.items():
        yield f"values in {column}, by their keys,", new / rows, rows
    kept = [
        f
        for f in spec.features
        if f.kind == "category" and not _of_item(f.column) and not _mostly_other(model, f)
    ]
    if not kept:
        return
    flat = ", ".join(f"{f.sql(True)} as {quoted(f.name)}" for f in kept)
    asked = ", ".join(
        f"count(*) filter (where {quoted(f.name)} = {quote_text(OTHER)}), "
        f"count(*) filter (where {quoted(f.name)} <> {quote_text(MISSING)})"
        for f in kept
    )
    row = engine.rows(f"select {asked} from (select {flat} from {relation})")[0]
    for place, feature in enumerate(kept):
        new, known = row[2 * place], row[2 * place + 1]
        if known:
            yield f"values of {feature.label}", new / known, known


def _of_item(column: str) -> bool:
    return column.startswith("item_")


def _mostly_other(model: LoadedModel, feature: Feature) -> bool:
    """Whether the training, too, knew few of a category's values by name."""
    known = model.reference.features.get(feature.label) if model.reference else None
    return known is not None and unseen_share(known) > HALF
