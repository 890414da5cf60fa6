"""Which features a fitted model leans on, in one unit for all kinds of model."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.encoding import FeatureSpec
from usergrowth_dagster.learning.model import Blend, CalibratedModel, quiet
from usergrowth_dagster.learning.onehot import OneHotColumns

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

SAMPLE = 2000
FLAT = 1e-9  # logits: a part that varies less is constant
CLEAR = 0.5  # correlation from which a feature has one direction


@dataclass(frozen=True)
class Lean:
    """How a model leans on one feature.

    Attributes:
        weight: standard deviation of the feature's part in the score, in logits.
        direction: in words; see :func:`lean`.
    """

    weight: float
    direction: str


def lean(model: CalibratedModel, spec: FeatureSpec, frame: "pd.DataFrame") -> dict[str, Lean]:
    """How much a model leans on each feature, and in which direction, largest first.

    The raw score on the logit scale is a sum of one part a feature: coefficients times one-hot
    columns for the logistic model, SHAP values (Lundberg & Lee 2017, by LightGBM's TreeSHAP) for
    the trees, the mean of both for their blend. The weight is the standard deviation of the part
    over at most 2,000 rows. The direction of a number is the sign of the correlation of its ranks
    with those of its part (Spearman), where that is at least one half; that of a category is the
    value with the highest mean part. It says what the model does, not what causes what.
    """
    import numpy as np

    rows = frame.iloc[np.linspace(0, len(frame) - 1, min(SAMPLE, len(frame))).astype(int)]
    parts = row_parts(model, spec, rows)
    leans = {
        f.label: Lean(float(parts[:, i].std()), _direction(f.kind, rows[f.name], parts[:, i]))
        for i, f in enumerate(spec.features)
    }
    return dict(sorted(leans.items(), key=lambda item: (-item[1].weight, item[0])))


def row_parts(
    model: CalibratedModel, spec: FeatureSpec, rows: "pd.DataFrame"
) -> "NDArray[np.float64]":
    """Each feature's part in the raw score of each row, shape (rows, features), in logits."""
    import numpy as np

    fitted = model.pipeline
    members = fitted.members if isinstance(fitted, Blend) else [fitted]
    return np.asarray(np.mean([_parts(member, spec, rows) for member in members], axis=0))


def _direction(kind: str, value: "pd.Series[Any]", part: "NDArray[np.float64]") -> str:
    """One feature's direction in words, for values and parts of shape (rows,)."""
    import numpy as np
    from scipy.stats import rankdata

    if part.std() < FLAT:
        return "not used"
    if kind == "category":
        names, at = np.unique(value.to_numpy().astype(str), return_inverse=True)
        mean = np.bincount(at, weights=part) / np.bincount(at)
        return f"most likely at {names[mean.argmax()]}, least at {names[mean.argmin()]}"
    number = value.to_numpy(dtype=np.float64)
    known = ~np.isnan(number)
    if known.sum() < 2 or number[known].std() == 0 or part[known].std() < FLAT:
        return "matters where it is missing"
    rho = float(np.corrcoef(rankdata(number[known]), rankdata(part[known]))[0, 1])
    if abs(rho) < CLEAR:
        return "both ways"
    return f"higher → {'more' if rho > 0 else 'less'} likely"


def _parts(pipeline: Any, spec: FeatureSpec, rows: "pd.DataFrame") -> "NDArray[np.float64]":
    """Each feature's part in the raw score of each row, shape (rows, features), in logits."""
    import numpy as np

    columns, last = pipeline[0], pipeline[-1]
    with quiet():
        matrix = columns.transform(rows)
        if hasattr(last, "coef_"):
            sparse = hasattr(matrix, "multiply")
            parts = matrix.multiply(last.coef_).tocsr() if sparse else matrix * last.coef_
            owners = _logistic_owners(columns, spec)
        else:
            parts = last.predict(matrix, pred_contrib=True)[:, :-1]
            owners = tree_owners(columns, spec)
    return np.asarray(parts @ _membership(owners, len(spec.features)))


def _membership(owners: "NDArray[np.int64]", features: int) -> "NDArray[np.float64]":
    """Matrix (model columns, features) with a one where the column belongs to the feature."""
    import numpy as np

    one: NDArray[np.float64] = (owners[:, None] == np.arange(features)).astype(np.float64)
    return one


def _positions(columns: Any, spec: FeatureSpec, part: str) -> list[int]:
    """Places in the spec of the features that a part of the column transformer takes."""
    place = {name: i for i, name in enumerate(spec.names)}
    return [place[name] for key, _, names in columns.transformers_ if key == part for name in names]


def _category_owners(columns: Any, spec: FeatureSpec) -> list[int]:
    positions = _positions(columns, spec, "category")
    if not positions:
        return []
    sizes = [len(c) for c in columns.named_transformers_["category"].categories_]
    return [p for p, size in zip(positions, sizes, strict=True) for _ in range(size)]


def tree_owners(columns: Any, spec: FeatureSpec) -> "NDArray[np.int64]":
    import numpy as np

    return np.array(
        _positions(columns, spec, "number") + _category_owners(columns, spec), dtype=np.int64
    )


def _logistic_owners(columns: Any, spec: FeatureSpec) -> "NDArray[np.int64]":
    """Owners in the order of :func:`estimators.logistic_columns`'s columns.

    A version of before has a transformer of scikit-learn's parts, with the columns in the same
    order.
    """
    import numpy as np

    if isinstance(columns, OneHotColumns):
        place = {name: i for i, name in enumerate(spec.names)}
        return np.array([place[name] for name in columns.owners()], dtype=np.int64)
    numbers = _positions(columns, spec, "scaled")
    owners: list[int] = []
    if numbers:
        imputer = columns.named_transformers_["scaled"][0]
        owners += numbers + [numbers[i] for i in imputer.indicator_.features_]
        bins = columns.named_transformers_["bins"][-1].n_bins_
        owners += [p for p, size in zip(numbers, bins, strict=True) for _ in range(int(size))]
    return np.array(owners + _category_owners(columns, spec), dtype=np.int64)
