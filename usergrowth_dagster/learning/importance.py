"""Which features a fitted model leans on, in one unit for all kinds of model."""

from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.encoding import FeatureSpec
from usergrowth_dagster.learning.model import Blend, CalibratedModel, quiet

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

SAMPLE = 2000


def importance(
    model: CalibratedModel, spec: FeatureSpec, frame: "pd.DataFrame"
) -> dict[str, float]:
    """The spread of each feature's part in the score, largest first.

    The raw score on the logit scale is a sum of one part a feature: coefficients times one-hot
    columns for the logistic model, SHAP values (Lundberg & Lee 2017, by LightGBM's TreeSHAP) for
    the trees, the mean of both for their blend. The importance is the standard deviation of the
    part over at most 2,000 rows.

    Returns:
        Feature label → standard deviation in logits.
    """
    import numpy as np

    rows = frame.iloc[np.linspace(0, len(frame) - 1, min(SAMPLE, len(frame))).astype(int)]
    fitted = model.pipeline
    members = fitted.members if isinstance(fitted, Blend) else [fitted]
    spread = np.mean([_parts(member, spec, rows) for member in members], axis=0).std(axis=0)
    found = {f.label: float(s) for f, s in zip(spec.features, spread, strict=True)}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


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
            owners = _tree_owners(columns, spec)
    return np.asarray(parts @ _membership(owners, len(spec.features)))


def _membership(owners: "NDArray[np.int64]", features: int) -> "NDArray[np.float64]":
    """Matrix (model columns, features) with a one where the column belongs to the feature."""
    import numpy as np

    one: NDArray[np.float64] = (owners[:, None] == np.arange(features)).astype(np.float64)
    return one


def _positions(spec: FeatureSpec, kind: str) -> list[int]:
    return [i for i, f in enumerate(spec.features) if f.kind == kind]


def _category_owners(columns: Any, spec: FeatureSpec) -> list[int]:
    positions = _positions(spec, "category")
    if not positions:
        return []
    sizes = [len(c) for c in columns.named_transformers_["category"].categories_]
    return [p for p, size in zip(positions, sizes, strict=True) for _ in range(size)]


def _tree_owners(columns: Any, spec: FeatureSpec) -> "NDArray[np.int64]":
    import numpy as np

    return np.array(_positions(spec, "number") + _category_owners(columns, spec), dtype=np.int64)


def _logistic_owners(columns: Any, spec: FeatureSpec) -> "NDArray[np.int64]":
    """Owners in the order of :func:`estimators.logistic_pipeline`'s columns."""
    import numpy as np

    numbers = _positions(spec, "number")
    owners: list[int] = []
    if numbers:
        imputer = columns.named_transformers_["scaled"][0]
        owners += numbers + [numbers[i] for i in imputer.indicator_.features_]
        bins = columns.named_transformers_["bins"][-1].n_bins_
        owners += [p for p, size in zip(numbers, bins, strict=True) for _ in range(int(size))]
    return np.array(owners + _category_owners(columns, spec), dtype=np.int64)
