"""Scores of many users by a registered version, in chunks of bounded memory.

The features are held against those of the training: a column that is gone or has another kind, or
whose values are nearly all new to the model, stops the scoring with one sentence, since the model
would answer all the same, and wrongly. New values are counted in the pass that scores, and nobody
gets a score before all of them are counted.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar, cast

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.artifacts import LoadedModel, load
from usergrowth_dagster.learning.calibration import shift_level
from usergrowth_dagster.learning.encoding import (
    MISSING,
    OTHER,
    Feature,
    flat_frame,
    kind_of,
)
from usergrowth_dagster.learning.reference import unseen_share
from usergrowth_dagster.learning.store import ModelRef
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation, bind_batches

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

CHUNK_ROWS = 10_000
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
        ``score`` (double, the calibrated probability or expected amount), sorted by the keys.

    Raises:
        UserError: the relation's features are not those of the training; see
            :func:`require_features`.
    """
    import pyarrow as pa

    parts = Scoring(engine, model, relation, chunk_rows, level)
    table = pa.Table.from_batches(parts.batches(max_unseen_share), parts.schema)
    return table.sort_by([(key, "ascending") for key in parts.keys]) if parts.keys else table


def score_apart(
    engine: Engine,
    model: ModelRef | LoadedModel,
    relation: str,
    *,
    chunk_rows: int = CHUNK_ROWS,
    max_unseen_share: float = 0.95,
    level: float = 0.0,
) -> Relation:
    """As :func:`score`, but the scores lie in a file of the engine: memory does not grow with them.

    They are in no order. Arguments and errors are those of :func:`score`.
    """
    parts = Scoring(engine, model, relation, chunk_rows, level)
    return bind_batches(engine, "model_scores", parts.schema, parts.batches(max_unseen_share))


class Scoring:
    """One pass of a model over a relation.

    Attributes:
        keys: the columns of :data:`COPIED` that the relation has.
        schema: of what comes out: the keys and ``score``.
    """

    def __init__(
        self,
        engine: Engine,
        model: ModelRef | LoadedModel,
        relation: str,
        chunk_rows: int,
        level: float,
    ) -> None:
        import pyarrow as pa

        self.model = load(model) if isinstance(model, ModelRef) else model
        self.level = level
        types = engine.describe(f"select * from {relation}")
        require_columns(self.model, types)
        self.unseen = Unseen(self.model)
        self.keys = [key for key in COPIED if key in types]
        listed = "".join(f'"{key}" as "_key_{key}", ' for key in self.keys)
        projection = self.model.spec.projection(types)
        self.reader = engine.connection.sql(
            f"select {listed}{self.unseen.columns}{projection} from {relation}"
        ).to_arrow_reader(chunk_rows)
        fields = [self.reader.schema.field(i).with_name(k) for i, k in enumerate(self.keys)]
        self.schema = pa.schema([*fields, pa.field("score", pa.float64())])

    def batches(self, max_unseen_share: float) -> "Iterator[pa.RecordBatch]":
        """The keys and scores of all rows; values that are new to the model are judged at the end.

        Raises:
            UserError: more than a share of a column's values are new.
        """
        import pyarrow as pa

        for batch in ahead(self.reader):
            if batch.num_rows:
                chunk = pa.Table.from_batches([batch])
                self.unseen.count(chunk)
                scores = self.model.model.score(flat_frame(chunk, self.model.spec))
                if self.level:
                    scores = shift_level(scores, self.level)
                columns = [batch.column(i) for i in range(len(self.keys))]
                yield pa.record_batch([*columns, pa.array(scores, pa.float64())], self.schema)
        self.unseen.require(max_unseen_share)


def ahead(batches: Iterable[T]) -> Iterator[T]:
    """The same batches; a thread gets the next one while the caller works on this one."""
    done = object()
    stream = iter(batches)
    with ThreadPoolExecutor(1, thread_name_prefix="usergrowth-scoring") as reader:
        coming = reader.submit(next, stream, done)
        while (batch := coming.result()) is not done:
            coming = reader.submit(next, stream, done)
            yield cast(T, batch)


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
    require_columns(model, engine.describe(f"select * from {relation}"))
    unseen = Unseen(model)
    if unseen.columns:
        unseen.add(engine.rows(f"select {unseen.sums} from {relation}")[0])
    unseen.require(most)


def require_columns(model: LoadedModel, types: Mapping[str, str]) -> None:
    """Refuse rows without a column of the features, or with one of another kind.

    Args:
        model: the version.
        types: DuckDB type of each column of the rows.

    Raises:
        UserError: the sentence names the columns.
    """
    wanted = {f.column: model.spec.columns[f.column] for f in model.spec.features}
    faults = []
    missing = sorted(c for c in wanted if c not in types)
    if len(missing) == len(wanted):
        faults.append("the rows have none of its features")
    elif missing:
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        faults.append(f"the rows lack {', '.join(missing[:8])}{more}")
    faults += [
        f"{c} was a {wanted[c].replace('_', ' of ')} and is {types[c]} now"
        for c in sorted(wanted)
        if c in types and kind_of(types[c]) != wanted[c]
    ]
    _refuse(model, faults)


def _refuse(model: LoadedModel, faults: Sequence[str]) -> None:
    if faults:
        ref = model.ref
        raise UserError(
            f"model {ref.name} version {ref.version} cannot score these rows: {'; '.join(faults)}; "
            "build the features of the execution date anew (usergrowth run), or train again on "
            "features as they are now (usergrowth train)",
            code="model.none_usable",
        )


class Unseen:
    """Counts, of columns with values of their own, those that are new to a model.

    Attributes:
        columns: what to select of each row, a comma after each; empty where nothing is counted.
        sums: the sums of the same over all rows.
        counts: of each column the new values so far, and all of them.
    """

    def __init__(self, model: LoadedModel) -> None:
        spec, self.model = model.spec, model
        wanted = {f.column: spec.columns[f.column] for f in spec.features}
        counted: list[tuple[str, str, str]] = []  # what, the new ones of a row, all of a row
        for column, kind in wanted.items():
            if kind == "number_map" and not _of_item(column):
                kept = ", ".join(map(literal, spec.keys[column]))
                keys = f"map_keys({identifier(column)})"
                new = f"len(list_filter({keys}, lambda k: k not in ({kept})))" if kept else ""
                what = f"values in {column}, by their keys,"
                counted.append((what, new or f"len({keys})", f"len({keys})"))
        for f in spec.features:
            if f.kind == "category" and not _of_item(f.column) and not _mostly_other(model, f):
                value = f.sql(True)
                new = f"cast({value} = {literal(OTHER)} as integer)"
                known = f"cast({value} <> {literal(MISSING)} as integer)"
                counted.append((f"values of {f.label}", new, known))
        self._what = [what for what, _, _ in counted]
        parts = [part for _, *both in counted for part in both]
        self.columns = "".join(f'{part} as "_count_{i}", ' for i, part in enumerate(parts))
        self.sums = ", ".join(f"sum({part})" for part in parts)
        self.counts = [0] * len(parts)

    def count(self, chunk: "pa.Table") -> None:
        """Count the rows of a chunk that has ``columns``."""
        import pyarrow.compute as pc

        names = [f"_count_{i}" for i in range(len(self.counts))]
        self.add([pc.sum(chunk.column(name)).as_py() for name in names])

    def add(self, counts: Sequence[int | None]) -> None:
        """Add the counts of some rows; None of a column without a value."""
        self.counts = [
            known + int(more or 0) for known, more in zip(self.counts, counts, strict=True)
        ]

    def require(self, most: float) -> None:
        """Refuse rows where more than a share of a column's values are new.

        Raises:
            UserError: they are; the sentence names the columns.
        """
        pairs = zip(self._what, self.counts[::2], self.counts[1::2], strict=True)
        _refuse(
            self.model,
            [
                f"{new / rows:.0%} of the {rows:,} {what} are new to it"
                for what, new, rows in pairs
                if rows >= LEAST_VALUES and new / rows > most
            ],
        )


def _of_item(column: str) -> bool:
    return column.startswith("item_")


def _mostly_other(model: LoadedModel, feature: Feature) -> bool:
    """Whether the training, too, knew few of a category's values by name."""
    known = model.reference.features.get(feature.label) if model.reference else None
    return known is not None and unseen_share(known) > HALF
