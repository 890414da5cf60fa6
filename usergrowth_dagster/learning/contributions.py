"""What moved one row's score: each feature's part in it, beside that of the other rows.

The score on the logit scale is a sum of one part a feature
(:func:`usergrowth_dagster.learning.importance.lean`). A row's part less the mean part of the others
says how much the row's value, where the others have theirs, changes the odds: exp(0.7) doubles
them. The calibration map stretches that by its slope from the others' mean score to the row's, so
that all factors together lead from the calibrated odds there to those of the row.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.artifacts import LoadedModel
from usergrowth_dagster.learning.calibration import apply_knots, logit
from usergrowth_dagster.learning.encoding import MISSING, OTHER, Feature, flat_frame
from usergrowth_dagster.learning.importance import row_parts
from usergrowth_dagster.learning.model import positive_share
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    import pandas as pd

    from usergrowth_dagster.learning.model import CalibratedModel

SAMPLE = 500
_MARGIN = 0.01  # logits: a part that moves the odds by less than 1 % is not told


@dataclass(frozen=True)
class Contribution:
    """One feature's part in one score.

    Attributes:
        feature: the feature as people read it, ``column`` or ``column[key]``.
        column: its column.
        key: of a map column; None for another.
        value: the row's value; None: unknown.
        usual: the median of the others, or their most frequent category; None: mostly unknown.
        odds: what the calibrated odds of the label are multiplied by, against the others' mean
            part.
    """

    feature: str
    column: str
    key: str | None
    value: float | str | None
    usual: float | str | None
    odds: float


def contributions(
    engine: Engine, model: LoadedModel, relation: str, row: int, *, top: int = 6
) -> list[Contribution]:
    """The features that moved a row's score most, the strongest first.

    Args:
        engine: holds the relation.
        model: the version that scored.
        relation: rows with features and a column ``row``, as they were scored.
        row: which of them.
        top: how many at most.

    Returns:
        Empty when the row is not in the relation.
    """
    import numpy as np

    spec = model.spec
    columns = spec.projection(engine.describe(f"select * from {relation}"))
    mine = engine.arrow(f'select {columns} from {relation} where "row" = {int(row)} limit 1')
    if mine.num_rows == 0:
        return []
    # By a hash, so that the same others are looked at each time; their features are read last.
    by_hash = 'order by hash("row"), "row"'
    places = engine.rows(
        f'select "row" from {relation} where "row" <> {int(row)} {by_hash} limit {SAMPLE}'
    )
    listed = ", ".join(str(place) for (place,) in places) or "null"
    others = engine.arrow(
        f'select {columns} from (select * from {relation} where "row" in ({listed}) {by_hash})'
    )
    frame = flat_frame(mine, spec)
    rest = flat_frame(others, spec) if others.num_rows else frame
    moved = row_parts(model.model, spec, frame)[0] - row_parts(model.model, spec, rest).mean(axis=0)
    moved = moved * _slope(model.model, frame, rest)
    order = np.argsort(-np.abs(moved), kind="stable")[:top]
    return [
        _contribution(spec.features[i], frame, rest, float(moved[i]))
        for i in order
        if abs(moved[i]) > _MARGIN
    ]


def _slope(model: "CalibratedModel", mine: "pd.DataFrame", rest: "pd.DataFrame") -> float:
    """Slope of the calibration map, logits over logits, from the others' mean to the row."""
    import numpy as np

    if model.knots is None:
        return 1.0
    raw = logit(positive_share(model.pipeline, mine))[0]
    mean = logit(positive_share(model.pipeline, rest)).mean()
    if abs(raw - mean) < _MARGIN:
        return 1.0
    ends = 1 / (1 + np.exp(-np.array([raw, mean])))
    after = logit(apply_knots(ends, model.knots))
    return float((after[0] - after[1]) / (raw - mean))


def _contribution(
    feature: Feature, frame: "pd.DataFrame", rest: "pd.DataFrame", moved: float
) -> Contribution:
    import numpy as np

    value, others = frame[feature.name].iloc[0], rest[feature.name]
    if feature.kind == "category":
        usual: Any = others.mode().iloc[0]
    else:
        usual = others.median()
    return Contribution(
        feature=feature.label,
        column=feature.column,
        key=feature.key,
        value=_plain(value),
        usual=_plain(usual),
        odds=float(np.exp(moved)),
    )


def _plain(value: Any) -> float | str | None:
    """A value as JSON has it."""
    if isinstance(value, str):
        return {MISSING: None, OTHER: "another"}.get(value, value)
    number = float(value)
    return None if number != number else number
