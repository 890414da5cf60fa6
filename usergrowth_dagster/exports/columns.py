"""The columns that an export can have: those of decisions or scores, and addresses."""

from collections.abc import Mapping

from usergrowth_dagster.audience.decisions import DECISION_COLUMNS, DECISION_MEANINGS
from usergrowth_dagster.pipeline.score import SCORE_COLUMNS

ADDRESSES: Mapping[str, tuple[str, str]] = {
    "phone": ("VARCHAR", "phone number in E.164, else as uploaded; only where it is asked for"),
    "email": ("VARCHAR", "e-mail address as uploaded; only where it is asked for"),
}
"""Columns of the upload that reach a person."""

OF_AUDIENCE: Mapping[str, tuple[str, str]] = {
    **{name: (kind, DECISION_MEANINGS[name]) for name, kind in DECISION_COLUMNS.items()},
    **ADDRESSES,
}
"""By name, the DuckDB type and the meaning of what an audience may carry."""

OF_SCORES: Mapping[str, tuple[str, str]] = {**SCORE_COLUMNS, **ADDRESSES}
"""By name, the DuckDB type and the meaning of what scores may carry."""

DEFAULT_OF_AUDIENCE = ("ds", "task_id", "user_id", "item_id", "score", "rank", "arm", "outcome")
DEFAULT_OF_SCORES = (
    "ds",
    "task_id",
    "user_id",
    "item_id",
    "score",
    "model_name",
    "model_version",
)
