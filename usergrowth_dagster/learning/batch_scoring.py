"""Scores of Arrow batches in a process that has the model and no home, such as a worker of Spark.

A worker does with each batch what :mod:`scoring` does with a relation: it puts the batch into a
DuckDB of its own and scores it by the same code. So a score is the same bit for bit wherever it is
made.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usergrowth_dagster.learning.artifacts import LoadedModel
from usergrowth_dagster.learning.scoring import CHUNK_ROWS, Scoring, Unseen
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    import pyarrow as pa

COUNTS = "counts"
"""What a batch adds to :class:`Unseen`, in its first row; NULL in the others."""


@dataclass(frozen=True)
class BatchScorer:
    """Scores batches of rows; it can be pickled, and sent to another machine.

    That machine needs this package, at the same version.

    Attributes:
        model: the version, without the address of the MLflow that it comes from.
        level: shift of the scores' log-odds.
    """

    model: LoadedModel
    level: float = 0.0

    def __call__(self, batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        """The keys of the rows that come in, ``score``, and :data:`COUNTS`."""
        import duckdb

        with duckdb.connect(config={"threads": 1}) as connection:
            engine = Engine(connection)
            for batch in batches:
                if batch.num_rows:
                    yield self._scored(engine, batch)

    def _scored(self, engine: Engine, batch: "pa.RecordBatch") -> "pa.RecordBatch":
        import pyarrow as pa

        engine.connection.register("batch", pa.Table.from_batches([batch]))
        scoring = Scoring(engine, self.model, "batch", CHUNK_ROWS, self.level)
        scores = pa.Table.from_batches(scoring.batches(1.0), scoring.schema)
        counts = [scoring.unseen.counts, *[None] * (scores.num_rows - 1)]
        scored = scores.append_column(COUNTS, pa.array(counts, pa.list_(pa.int64())))
        engine.connection.unregister("batch")
        (whole,) = scored.combine_chunks().to_batches()
        return whole


def gathered(
    model: LoadedModel, scored: "Iterable[pa.Table]", schema: "pa.Schema", max_unseen_share: float
) -> "Iterator[pa.RecordBatch]":
    """The keys and scores that :class:`BatchScorer` made; new values are judged at the end.

    Args:
        model: the version that scored.
        scored: what came back, in any order.
        schema: of the keys and ``score``.
        max_unseen_share: as the setting of that name.

    Raises:
        UserError: more than that share of a column's values are new to the model.
    """
    unseen = Unseen(model)
    for table in scored:
        for counts in table.column(COUNTS).drop_null().to_pylist():
            unseen.add(counts)
        yield from table.select(schema.names).cast(schema).to_batches()
    unseen.require(max_unseen_share)
