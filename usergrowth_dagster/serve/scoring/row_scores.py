"""Scores of a few rows at once, without pandas and scikit-learn's checks on the way.

A frame of one row costs milliseconds. Here the transformers' matrices are made of arrays, all
columns at once, and the trees are asked in one thread; the arithmetic is that of the batch path.
A model of a kind that is not known here is asked through a frame, and so is one whose answers to
made-up rows differ from those through a frame: the figures are right in any case.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.amounts.model import AmountModel, TwoStage
from usergrowth_dagster.learning.artifacts import LoadedModel
from usergrowth_dagster.learning.encoding import MISSING, OTHER, FeatureSpec
from usergrowth_dagster.learning.model import Blend, CalibratedModel, quiet
from usergrowth_dagster.learning.onehot import OneHotColumns
from usergrowth_dagster.learning.streamed import StreamedTrees
from usergrowth_dagster.learning.uplift.model import UpliftModel
from usergrowth_dagster.serve.scoring.row_features import FlatRows, RowReader

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Matrix = Callable[[FlatRows], Any]
Answer = Callable[[FlatRows], "Floats"]
Estimate = Callable[[Any], "Floats"]
"""The answer of an estimator to rows of its matrix."""
TOLERANCE = 1e-9
"""Of a score, and relative to an amount: a model that differs by more is asked through a frame."""
_PROBES = 64
_log = logging.getLogger("usergrowth.scoring")


class RowScorer:
    """Scores rows by one version.

    Args:
        loaded: the version.

    Attributes:
        reader: reads the rows that it takes.
        quick: whether rows are scored without a frame.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.reader = RowReader(loaded.spec)
        self._answer = self._checked(_answer_of(loaded.model, loaded.spec))
        self.quick = self._answer != self._by_frame

    def score(self, rows: FlatRows) -> "Floats":
        """Probabilities, amounts or effects, shape (n,), as :func:`scoring.score` gives them."""
        import numpy as np

        return self._answer(rows) if len(rows) else np.empty(0)

    def _by_frame(self, rows: FlatRows) -> "Floats":
        return self.loaded.model.score(rows.frame())

    def _checked(self, answer: Answer | None) -> Answer:
        """The answer without a frame if it is that of the frame; this warms the model up, too."""
        import numpy as np

        probes = _probes(self.loaded.spec)
        right = self._by_frame(probes)
        if answer is not None:
            ours = answer(probes)
            if np.allclose(ours, right, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
                return answer
            ref = self.loaded.ref
            _log.warning("%s %d is scored by frames: rows differ", ref.name, ref.version)
        return self._by_frame


def _probes(spec: FeatureSpec) -> FlatRows:
    """Made-up rows: small and large numbers, unknown ones, and every kind of category."""
    import numpy as np

    draw = np.random.default_rng(7)
    shape = (_PROBES, len(spec.numbers))
    numbers = np.where(
        draw.random(shape) < 0.5, draw.integers(0, 40, shape), draw.normal(0, 9, shape)
    )
    numbers[draw.random(shape) < 0.15] = np.nan
    values = {f.name: (*f.values, OTHER, MISSING) for f in spec.features if f.kind == "category"}
    texts = np.empty((_PROBES, len(values)), dtype=object)
    for place, name in enumerate(spec.categories):
        texts[:, place] = draw.choice(np.array(values[name], dtype=object), _PROBES)
    return FlatRows(spec, numbers.astype(np.float32), texts)


def _answer_of(model: Any, spec: FeatureSpec) -> Answer | None:
    """A model's answer to flat rows; None of a kind that is not known here."""
    import numpy as np

    if isinstance(model, CalibratedModel):
        share = _share_of(model.pipeline, spec)
        return None if share is None else lambda rows: model.calibrated(share(rows))
    if isinstance(model, AmountModel):
        amount = _amount_of(model.estimator, spec)
        return None if amount is None else lambda rows: np.maximum(amount(rows), 0.0) * model.level
    matrix = _matrix_of(model.columns, spec) if isinstance(model, UpliftModel) else None
    if matrix is None:
        return None
    return lambda rows: model.scale(model.learner.uplift(matrix(rows).astype(np.float64)))


def _share_of(pipeline: Any, spec: FeatureSpec) -> Answer | None:
    """The raw probability of the label by a pipeline or a blend of them."""
    if isinstance(pipeline, Blend):
        members = [_share_of(member, spec) for member in pipeline.members]
        known = [member for member in members if member is not None]
        if len(known) < len(members):
            return None
        return lambda rows: Blend.pool([member(rows) for member in known])
    parts = _parts(pipeline)
    if parts is None:
        return None
    matrix, share = _matrix_of(parts[0], spec), _share(parts[1])
    return None if matrix is None else lambda rows: share(matrix(rows))


def _amount_of(estimator: Any, spec: FeatureSpec) -> Answer | None:
    """The amount by a pipeline or by chance and size."""
    if isinstance(estimator, TwoStage):
        columns, value = estimator.columns, _value(estimator.size)
        if estimator.chance is not None:
            value = _product(_share(estimator.chance), value)
    elif (parts := _parts(estimator)) is not None:
        columns, value = parts[0], _value(parts[1])
    else:
        return None
    matrix = _matrix_of(columns, spec)
    return None if matrix is None else lambda rows: value(matrix(rows))


def _product(chance: Estimate, size: Estimate) -> Estimate:
    """The chance of an amount times its size."""
    return lambda matrix: chance(matrix) * size(matrix)


def _parts(pipeline: Any) -> tuple[Any, Any] | None:
    """The transformer and the estimator of a pipeline of the two."""
    if len(getattr(pipeline, "steps", ())) != 2:
        return None
    return pipeline[0], pipeline[1]


def _share(estimator: Any) -> Estimate:
    """Probability of 1 by a fitted classifier, of rows of its matrix."""
    import numpy as np
    from lightgbm import LGBMClassifier
    from sklearn.linear_model import LogisticRegression

    if isinstance(estimator, LGBMClassifier | StreamedTrees):
        return _trees(estimator)
    if isinstance(estimator, LogisticRegression) and len(estimator.classes_) == 2:
        from scipy.special import expit

        weights, shift = estimator.coef_[0], estimator.intercept_[0]
        return lambda matrix: np.asarray(expit(matrix @ weights + shift), dtype=np.float64)

    def asked(matrix: Any) -> "Floats":
        with quiet():
            return np.asarray(estimator.predict_proba(matrix)[:, 1], dtype=np.float64)

    return asked


def _value(estimator: Any) -> Estimate:
    """The amount by a fitted regressor, of rows of its matrix."""
    import numpy as np
    from lightgbm import LGBMRegressor

    if isinstance(estimator, LGBMRegressor):
        return _trees(estimator)

    def asked(matrix: Any) -> "Floats":
        with quiet():
            return np.asarray(estimator.predict(matrix), dtype=np.float64)

    return asked


def _trees(estimator: Any) -> Estimate:
    """LightGBM's trees in the caller's thread: the others' start costs more than a row."""
    import numpy as np

    trees = estimator.booster_

    def asked(matrix: Any) -> "Floats":
        chances = trees.predict(matrix, num_threads=1, validate_features=False)
        return np.asarray(chances, dtype=np.float64)

    return asked


def _matrix_of(columns: Any, spec: FeatureSpec) -> Matrix | None:
    """The matrix of a fitted transformer; None of a kind that is not known here."""
    from sklearn.compose import ColumnTransformer

    if isinstance(columns, OneHotColumns):
        return _one_hot(columns, spec)
    if isinstance(columns, ColumnTransformer):
        return _plain(columns, spec)
    return None


@dataclass(frozen=True)
class _Taken:
    """The features that a transformer takes: places in flat rows, and codes of the categories.

    Attributes:
        numbers: places of the numbers.
        texts: places of the categories.
        codes: by category, the column of the matrix of each value that has one.
        width: columns of the matrix.
    """

    numbers: "NDArray[np.int64]"
    texts: tuple[int, ...]
    codes: tuple[dict[str, int], ...]
    width: int

    def coded(self, rows: FlatRows) -> Iterator[tuple[int, list[int]]]:
        """The place of each row, and the columns of its categories, -1 where there is none."""
        for place, texts in enumerate(rows.texts.tolist()):
            yield (
                place,
                [c.get(texts[at], -1) for at, c in zip(self.texts, self.codes, strict=True)],
            )


def _taken(
    spec: FeatureSpec,
    numbers: Sequence[str],
    categories: Sequence[str],
    values: Sequence[Sequence[str]],
    first: int,
) -> _Taken:
    """What a transformer takes; its one-hot columns begin with the first one that is free."""
    import numpy as np

    of_number = {name: place for place, name in enumerate(spec.numbers)}
    of_text = {name: place for place, name in enumerate(spec.categories)}
    codes = []
    for kept in values:
        codes.append({value: first + place for place, value in enumerate(kept)})
        first += len(kept)
    places = np.array([of_number[name] for name in numbers], dtype=np.int64)
    return _Taken(places, tuple(of_text[name] for name in categories), tuple(codes), first)


def _plain(columns: Any, spec: FeatureSpec) -> Matrix | None:
    """Numbers as they are, and categories one-hot, in single precision."""
    import numpy as np

    parts = {name: (part, names) for name, part, names in columns.transformers_}
    if set(parts) != {"number", "category"}:
        return None
    numbers, (encoder, categories) = parts["number"][1], parts["category"]
    values = [kept.tolist() for kept in encoder.categories_] if categories else []
    taken = _taken(spec, numbers, categories, values, len(numbers))

    def matrix(rows: FlatRows) -> "NDArray[np.float32]":
        made = np.zeros((len(rows), taken.width), dtype=np.float32)
        made[:, : len(taken.numbers)] = rows.numbers[:, taken.numbers]
        for row, codes in taken.coded(rows):
            for code in codes:
                if code >= 0:
                    made[row, code] = 1.0
        return made

    return matrix


def _one_hot(columns: OneHotColumns, spec: FeatureSpec) -> Matrix:
    """As :meth:`OneHotColumns.transform`, for all columns of a row at once."""
    import numpy as np
    from scipy.sparse import csr_matrix

    numbers, scaled = len(columns.numbers), len(columns.mean)
    mean, scale = (part.astype(np.float32) for part in (columns.mean, columns.scale))
    cuts = np.full((numbers, max((len(one) for one in columns.cuts), default=0)), np.inf)
    for place, own in enumerate(columns.cuts):
        cuts[place, : len(own)] = own
    bins = scaled + np.cumsum([0, *(len(own) + 1 for own in columns.cuts)])
    taken = _taken(spec, columns.numbers, columns.categories, columns.values, int(bins[-1]))
    binned = scaled + numbers
    entries = binned + len(taken.codes)
    kind = np.float64 if taken.codes else np.float32

    def matrix(rows: FlatRows) -> Any:
        known = rows.numbers[:, taken.numbers]
        missing = np.isnan(known)
        value = np.where(missing, columns.median, known)
        flags = missing[:, columns.flagged].astype(np.float32)
        data = np.ones((len(rows), entries), dtype=kind)
        data[:, :scaled] = (np.arcsinh(np.concatenate([value, flags], axis=1)) - mean) / scale
        at = np.empty((len(rows), entries), dtype=np.int32)
        at[:, :scaled] = np.arange(scaled)
        at[:, scaled:binned] = bins[:-1] + (value[:, :, None] >= cuts).sum(axis=2)
        if taken.codes:
            for row, codes in taken.coded(rows):
                at[row, binned:] = codes
            data[:, binned:] = at[:, binned:] >= 0
            np.maximum(at[:, binned:], 0, out=at[:, binned:])
        starts = np.arange(len(rows) + 1, dtype=np.int32) * entries
        return csr_matrix((data.ravel(), at.ravel(), starts), shape=(len(rows), taken.width))

    return matrix
