"""What anyone could do without a model: the figures a model must beat.

Each baseline takes a few columns by name and is left out where the data has none of them.
"""

from typing import TYPE_CHECKING

from usergrowth_dagster.learning.config import Algorithm, TrainingConfig
from usergrowth_dagster.learning.encoding import Feature, FeatureSpec
from usergrowth_dagster.learning.estimators import Slice, logistic_pipeline
from usergrowth_dagster.learning.model import positive_share, quiet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RANKING_ONLY = ("recency", "past_response")
RFM_COLUMNS = (
    "recency_days",
    "events_30d",
    "events_90d",
    "active_days_30d",
    "active_days_90d",
    "amount_30d",
    "amount_90d",
)


def baseline_scores(
    config: TrainingConfig, spec: FeatureSpec, train: Slice, test: Slice
) -> "dict[str, NDArray[np.float64]]":
    """Scores of the test rows by baseline name.

    * ``recency``: days since the last behavior alone (long means churn; short means return)
    * ``rfm``: logistic regression on recency, frequency and money of 30 and 90 days
    * ``past_response`` (win-back): share of the user's past touches that were answered
    """
    found = {
        "recency": _recency(config.algorithm, spec, test),
        "rfm": _rfm(spec, train, test),
        "past_response": _past_response(config, spec, test),
    }
    return {name: scores for name, scores in found.items() if scores is not None}


def _column(spec: FeatureSpec, column: str, key: str | None = None) -> Feature | None:
    return next((f for f in spec.features if f.column == column and f.key == key), None)


def _recency(algorithm: Algorithm, spec: FeatureSpec, test: Slice) -> "NDArray[np.float64] | None":
    import numpy as np

    feature = _column(spec, "recency_days")
    if feature is None:
        return None
    days: NDArray[np.float64] = test.frame[feature.name].to_numpy(dtype=np.float64, copy=True)
    days[np.isnan(days)] = np.nanmax(days, initial=0) + 1
    return days if algorithm == "churn" else -days


def _rfm(spec: FeatureSpec, train: Slice, test: Slice) -> "NDArray[np.float64] | None":
    kept = tuple(f for f in spec.features if f.column in RFM_COLUMNS)
    if not kept:
        return None
    with quiet():
        pipeline = logistic_pipeline(spec.model_copy(update={"features": kept}), 0.1)
        return positive_share(pipeline.fit(train.frame, train.label), test.frame)


def _past_response(
    config: TrainingConfig, spec: FeatureSpec, test: Slice
) -> "NDArray[np.float64] | None":
    import numpy as np

    if config.algorithm != "winback":
        return None
    rate = _column(spec, "item_answer_rate")
    touches = _column(spec, "touches_lookback")
    kinds = [_column(spec, "touches_answered", kind) for kind in config.return_behaviors]
    answered = [] if config.return_on_item else [f for f in kinds if f is not None]
    if touches is not None and answered:
        count = test.frame[touches.name].to_numpy(dtype=np.float64)
        hits = test.frame[[f.name for f in answered]].to_numpy(dtype=np.float64).max(axis=1)
        found: NDArray[np.float64] = np.where(count > 0, hits / np.maximum(count, 1), 0.0)
        return found
    if rate is None:
        return None
    return np.asarray(np.nan_to_num(test.frame[rate.name].to_numpy(dtype=np.float64)))
