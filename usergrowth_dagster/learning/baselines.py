"""What anyone could do without a model of many features: the figures that a model must beat.

``recency`` and ``rfm`` are candidates like the others (:mod:`candidates`): a logistic regression of
few columns. ``past_response`` only ranks. Each is left out where the data has none of its columns.
"""

from typing import TYPE_CHECKING

from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.encoding import Feature, FeatureSpec
from usergrowth_dagster.learning.estimators import Slice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RANKING_ONLY = ("past_response",)
RECENCY_COLUMNS = ("recency_days",)
RFM_COLUMNS = (
    "recency_days",
    "events_30d",
    "events_90d",
    "active_days_30d",
    "active_days_90d",
    "amount_30d",
    "amount_90d",
)


def simple_specs(spec: FeatureSpec) -> dict[str, FeatureSpec]:
    """The features of the candidates of few columns, those that the data has.

    * ``recency``: days since the last behavior alone
    * ``rfm``: recency, frequency and money of 30 and 90 days
    """
    found: dict[str, FeatureSpec] = {}
    for name, columns in (("recency", RECENCY_COLUMNS), ("rfm", RFM_COLUMNS)):
        kept = tuple(f for f in spec.features if f.column in columns)
        if kept and kept not in [known.features for known in found.values()]:
            found[name] = spec.model_copy(update={"features": kept})
    return found


def baseline_scores(
    config: TrainingConfig, spec: FeatureSpec, test: Slice
) -> "dict[str, NDArray[np.float64]]":
    """Scores of the test rows by the name of what only ranks.

    ``past_response`` (win-back): share of the user's past touches that were answered.
    """
    found = _past_response(config, spec, test)
    return {} if found is None else {"past_response": found}


def _column(spec: FeatureSpec, column: str, key: str | None = None) -> Feature | None:
    return next((f for f in spec.features if f.column == column and f.key == key), None)


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
