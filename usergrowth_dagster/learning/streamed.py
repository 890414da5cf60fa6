"""LightGBM on more rows than fit in memory: they pass through once, into LightGBM's own bins.

The rows are read as batches, made a matrix of and put into one file; LightGBM takes a sample of
that file to find the bins, and then the whole of it, one batch after the other. What stays in
memory is one byte a value, an eighth of what rows and matrix would take. Where the sample that
finds the bins is all rows (up to 200,000), the trees are those of the rows in memory.

What is chosen (number of trees, leaves) and what a category is comes from the sample that the other
candidates learn from; its weights are not needed here, since all rows are there.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.encoding import FeatureSpec, flat_frame
from usergrowth_dagster.learning.estimators import tree_settings
from usergrowth_dagster.learning.model import quiet
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BATCH_ROWS = 20_000

Batches = Callable[[], "Iterator[tuple[Any, NDArray[np.int64]]]"]
"""Opens a pass over rows: flat frames, and the labels of their rows."""


@dataclass(frozen=True)
class AllRows:
    """The rows of a slice, in batches.

    Attributes:
        engine: holds the relation.
        relation: the training relation.
        spec: the flat columns.
        config: the job, whose label is learned.
        where: the SQL condition of the rows.
    """

    engine: Engine
    relation: str
    spec: FeatureSpec
    config: TrainingConfig
    where: str

    def batches(self) -> "Iterator[tuple[Any, NDArray[np.int64]]]":
        """Flat frames of the rows, in the order of day, user and item, with their labels."""
        import numpy as np
        import pyarrow as pa

        types = self.engine.describe(f"select * from {self.relation}")
        order = [c for c in ("ds", "user_id", "item_id", "target") if c in types]
        reader = self.engine.stream(
            f"select {self.config.label_sql()} as _label, {self.spec.projection(types)} "
            f"from {self.relation} where {self.where} order by {', '.join(order)}",
            BATCH_ROWS,
        )
        for batch in reader:
            rows = pa.Table.from_batches([batch])
            label = rows.column("_label").to_numpy().astype(np.int64)
            yield flat_frame(rows, self.spec), label


class StreamedTrees:
    """LightGBM's trees with the methods of its classifier that are asked of one.

    Attributes:
        booster_: the trees.
        rows: that they were grown on.
    """

    def __init__(self, booster: Any, rows: int) -> None:
        self.booster_ = booster
        self.rows = rows

    def predict_proba(self, matrix: Any) -> "NDArray[np.float64]":
        """Probabilities of 0 and 1, shape (n, 2)."""
        import numpy as np

        p = np.asarray(self.booster_.predict(matrix), dtype=np.float64)
        return np.column_stack([1 - p, p])

    def predict(self, matrix: Any, *, pred_contrib: bool = False) -> "NDArray[Any]":
        """The likelier label, shape (n,); or the parts of each row's score, as LightGBM does."""
        import numpy as np

        if pred_contrib:
            return np.asarray(self.booster_.predict(matrix, pred_contrib=True))
        return (self.predict_proba(matrix)[:, 1] >= 0.5).astype(np.int64)


class StreamedPipeline:
    """A fitted transformer and trees behind it; stands where a scikit-learn pipeline does.

    scikit-learn's own takes estimators alone, which would have to be imported for a class of them.

    Attributes:
        steps: the two.
    """

    def __init__(self, columns: Any, trees: StreamedTrees) -> None:
        self.steps = [columns, trees]

    def __getitem__(self, place: int) -> Any:
        return self.steps[place]

    def predict_proba(self, frame: Any) -> "NDArray[np.float64]":
        """Probabilities of 0 and 1 of rows of the flat frame, shape (n, 2)."""
        columns, trees = self.steps
        shares: NDArray[np.float64] = trees.predict_proba(columns.transform(frame))
        return shares


def fit_streamed(
    rows: Batches, columns: Any, *, trees: int, leaves: int, seed: int, threads: int
) -> StreamedTrees:
    """Grow trees on rows that pass through once.

    Args:
        rows: opens a pass over the rows.
        columns: a fitted transformer to the matrix.
        trees: how many.
        leaves: of one tree.
        seed: of LightGBM's sampling.
        threads: of LightGBM.

    The file with the matrix lies where temporary files do until then: four bytes a value.
    """
    import lightgbm

    params = tree_settings(trees, leaves, seed, threads) | {"objective": "binary"}
    rounds = params.pop("n_estimators")
    with tempfile.TemporaryDirectory(prefix="usergrowth-") as scratch, quiet():
        path = Path(scratch) / "matrix"
        width, label = _spool(rows, columns, path)
        with path.open("rb") as file:
            sequence = _matrix_file(file, len(label), width)
            data = lightgbm.Dataset(sequence, label, params=params, free_raw_data=True).construct()
    with quiet():
        return StreamedTrees(lightgbm.train(params, data, num_boost_round=rounds), len(label))


def _spool(rows: Batches, columns: Any, path: Path) -> "tuple[int, NDArray[np.float32]]":
    """Write the matrix of all rows into a file; its width, and the labels."""
    import numpy as np

    width, labels = 0, []
    with path.open("wb") as file:
        for frame, label in rows():
            matrix = np.ascontiguousarray(columns.transform(frame), dtype=np.float32)
            width = matrix.shape[1]
            file.write(matrix.data)
            labels.append(label.astype(np.float32))
    return width, np.concatenate(labels)


def _matrix_file(file: Any, rows: int, width: int) -> Any:
    """A file of rows of single precision, as LightGBM takes them; its pages are nobody's memory."""
    import lightgbm
    import numpy as np

    def read(first: int, end: int) -> "NDArray[np.float64]":
        file.seek(first * width * 4)
        values = np.fromfile(file, dtype=np.float32, count=(end - first) * width)
        return values.reshape(-1, width).astype(np.float64)

    class MatrixFile(lightgbm.Sequence):  # type: ignore[misc]
        batch_size = BATCH_ROWS

        def __len__(self) -> int:
            return rows

        def __getitem__(self, place: "int | slice") -> "NDArray[np.float64]":
            if isinstance(place, slice):
                return read(int(place.start), int(place.stop))
            row: NDArray[np.float64] = read(int(place), int(place) + 1)[0]
            return row

    return MatrixFile()
