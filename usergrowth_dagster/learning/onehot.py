"""The matrix of the logistic regression: numbers scaled and cut into bins, categories one-hot.

One class does what an imputer, a scaler, a discretizer and an encoder of scikit-learn do together,
column by column. It imputes once, keeps no copy of the rows beside the matrix, and its figures are
those of the scikit-learn parts.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

BINS = 5
BINNED_ROWS = 50_000  # that quintiles are taken from, where there are more
NARROW = 1e-8  # a bin of less width is merged into its neighbor


class OneHotColumns:
    """Turns the flat frame into a sparse matrix; what it needs to know is fitted once.

    Every number enters twice: standardized on a signed log scale (arcsinh), and cut at its
    quintiles into one-hot bins. A NULL is the median, and has a flag of its own where the fitted
    rows have a NULL. A category that the fitted rows do not have is no column.

    Attributes:
        numbers, categories: names of the flat columns.
        median: of each number, shape (numbers,).
        flagged: places of the numbers with a flag, shape (flags,).
        mean, scale: of the numbers and the flags, on the arcsinh scale, shape (numbers + flags,).
        cuts: inner bounds of each number's bins.
        values: the values of each category, in order.
    """

    def __init__(self, numbers: Sequence[str], categories: Sequence[str]) -> None:
        self.numbers = list(numbers)
        self.categories = list(categories)

    def fit(self, frame: "pd.DataFrame", label: Any = None) -> "OneHotColumns":
        """Learn medians, scales, bins and categories from rows; the label is not looked at."""
        import numpy as np
        from sklearn.utils import resample

        some = slice(None)
        if len(frame) > BINNED_ROWS:
            some = resample(np.arange(len(frame)), n_samples=BINNED_ROWS, random_state=0)
        median, moments, flags, flag_moments = [], [], [], []
        self.cuts = []
        for place, name in enumerate(self.numbers):
            value = _numbers(frame, name)
            missing = np.isnan(value)
            known = value[~missing]
            middle = np.median(known) if len(known) else np.float32(0)
            value[missing] = middle
            median.append(middle)
            moments.append(_moments(np.arcsinh(value)))
            self.cuts.append(_cuts(value[some]))
            if missing.any():
                flags.append(place)
                flag_moments.append(_moments(np.arcsinh(missing.astype(np.float32))))
        self.median = np.array(median, dtype=np.float32)
        self.flagged = np.array(flags, dtype=np.int64)
        self.mean, self.scale = np.array([*moments, *flag_moments]).reshape(-1, 2).T.copy()
        self.values = [np.unique(frame[name].to_numpy()).tolist() for name in self.categories]
        return self

    def fit_transform(self, frame: "pd.DataFrame", label: Any = None) -> Any:
        """Fit on rows, and the matrix of the same rows."""
        return self.fit(frame).transform(frame)

    def transform(self, frame: "pd.DataFrame") -> Any:
        """The matrix of rows in CSR form; each row has one entry a number, flag, bin and category.

        It is of single precision where there is no category, as scikit-learn's parts have it.
        """
        import numpy as np
        from scipy.sparse import csr_matrix

        rows, scaled = len(frame), len(self.mean)
        entries = scaled + len(self.numbers) + len(self.categories)
        data = np.ones((rows, entries), dtype=np.float64 if self.categories else np.float32)
        at = np.empty((rows, entries), dtype=np.int32)
        at[:, :scaled] = np.arange(scaled, dtype=np.int32)
        flag = {place: len(self.numbers) + i for i, place in enumerate(self.flagged.tolist())}
        first = scaled
        for place, name in enumerate(self.numbers):
            value = _numbers(frame, name)
            missing = np.isnan(value)
            value[missing] = self.median[place]
            data[:, place] = self._scaled(np.arcsinh(value), place)
            if place in flag:
                own = np.arcsinh(missing.astype(np.float32))
                data[:, flag[place]] = self._scaled(own, flag[place])
            bin_of = np.full(rows, first, dtype=np.int32)
            for cut in self.cuts[place]:
                bin_of += value >= cut
            at[:, scaled + place] = bin_of
            first += len(self.cuts[place]) + 1
        for place, (name, values) in enumerate(zip(self.categories, self.values, strict=True)):
            code = _codes(frame[name], values)
            entry = scaled + len(self.numbers) + place
            at[:, entry] = first + np.maximum(code, 0)
            data[:, entry] = code >= 0
            first += len(values)
        starts = np.arange(rows + 1, dtype=np.int64) * entries
        if starts[-1] <= np.iinfo(np.int32).max:
            starts = starts.astype(np.int32)
        matrix = csr_matrix((data.ravel(), at.ravel(), starts), shape=(rows, first))
        matrix.has_sorted_indices = True
        return matrix

    def owners(self) -> Iterator[str]:
        """The flat column behind each column of the matrix."""
        yield from self.numbers
        yield from (self.numbers[place] for place in self.flagged.tolist())
        for name, cuts in zip(self.numbers, self.cuts, strict=True):
            yield from [name] * (len(cuts) + 1)
        for name, values in zip(self.categories, self.values, strict=True):
            yield from [name] * len(values)

    def _scaled(self, value: "Floats", place: int) -> "Floats":
        """Values standardized in place, in single precision as they are."""
        value -= value.dtype.type(self.mean[place])
        value /= value.dtype.type(self.scale[place])
        return value


def _numbers(frame: "pd.DataFrame", name: str) -> "Floats":
    """A copy of a numeric column."""
    import numpy as np

    return np.array(frame[name], dtype=np.float32)


def _moments(value: "Floats") -> tuple[float, float]:
    """Mean and standard deviation of a column; a constant has the deviation 1."""
    import numpy as np

    rows, wide = len(value), value.astype(np.float64)
    mean = wide.sum() / rows
    wide -= mean
    off = wide.sum()
    variance = (np.square(wide).sum() - off**2 / rows) / rows
    eps = np.finfo(np.float64).eps
    if variance <= rows * eps * variance + (rows * mean * eps) ** 2:
        return float(mean), 1.0
    return float(mean), float(np.sqrt(variance))


def _cuts(value: "Floats") -> "NDArray[np.float64]":
    """Inner bounds of the quintile bins; none of a constant."""
    import numpy as np

    if value.min() == value.max():
        return np.empty(0)
    levels = np.linspace(0, 100, BINS + 1)
    edges = np.asarray(np.percentile(value, levels, method="averaged_inverted_cdf"), np.float64)
    return edges[np.ediff1d(edges, to_begin=np.inf) > NARROW][1:-1]


def _codes(column: "pd.Series[Any]", values: Sequence[str]) -> "NDArray[np.int64]":
    """The place of each row's value among the known ones, -1 for another."""
    import numpy as np
    import pandas as pd

    place = {value: i for i, value in enumerate(values)}
    code, distinct = pd.factorize(column.to_numpy(dtype=object))
    of = np.array([*(place.get(value, -1) for value in distinct), -1], dtype=np.int64)
    return np.asarray(of[code])
