"""Scores of many users by a registered version, in chunks of bounded memory."""

from typing import TYPE_CHECKING, Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.encoding import FeatureMismatch, flat_frame
from usergrowth_dagster.learning.store import LoadedModel, ModelRef, load
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK_ROWS = 50_000
COPIED = ("ds", "task_id", "row", "user_id", "item_id")


def score(
    engine: Engine,
    model: ModelRef | LoadedModel,
    relation: str,
    *,
    chunk_rows: int = CHUNK_ROWS,
) -> "pa.Table":
    """Score every row of a relation.

    A score depends on its own row only, so it is the same whatever the chunks are.

    Args:
        engine: holds the relation.
        model: the version to use.
        relation: table or view with the feature columns and the key columns; rows without features
            are to be left out by the caller (they have no score).
        chunk_rows: rows in memory at once, beside the scores themselves.

    Returns:
        Those of the columns ds, task_id, row, user_id and item_id that the relation has, and
        ``score`` (double, the calibrated probability), sorted by the keys.

    Raises:
        UserError: the relation has none of the model's features.
    """
    import pyarrow as pa

    loaded = load(model) if isinstance(model, ModelRef) else model
    spec, ref = loaded.spec, loaded.ref
    types = engine.describe(f"select * from {relation}")
    if not {f.column for f in spec.features} & set(types):
        raise UserError(
            f"model {ref.name} version {ref.version}: {relation} has none of its features; build "
            "the features of the execution date first, or train again"
        )
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
            values = pa.array(loaded.model.score(flat_frame(chunk, spec)), pa.float64())
            parts.append(
                pa.table([*(chunk.column(i) for i in range(len(keys))), values], schema=schema)
            )
    if not parts:
        return schema.empty_table()
    table = pa.concat_tables(parts)
    return table.sort_by([(key, "ascending") for key in keys]) if keys else table


def feature_mismatch(
    engine: Engine, model: ModelRef | LoadedModel, relation: str
) -> FeatureMismatch:
    """What a relation's features have less or more than those the version was trained on."""
    loaded = load(model) if isinstance(model, ModelRef) else model
    return loaded.spec.mismatch(engine, relation)
