"""What anyone could do without a model of many features: the figures that a model must beat.

``recency`` and ``rfm`` are candidates like the others (:mod:`candidates`): a logistic regression of
few columns. A question may add its own (:meth:`Problem.baseline_scores`). Each is left out where
the data has none of its columns.
"""

from usergrowth_dagster.learning.encoding import FeatureSpec

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
    specs: dict[str, FeatureSpec] = {}
    for name, columns in (("recency", RECENCY_COLUMNS), ("rfm", RFM_COLUMNS)):
        kept = tuple(f for f in spec.features if f.column in columns)
        if kept and kept not in [known.features for known in specs.values()]:
            specs[name] = spec.model_copy(update={"features": kept})
    return specs
