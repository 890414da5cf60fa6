"""Drift: how far the features and the score of some rows are from those of the training.

The population stability index of a feature over B bins with the shares e_i of the training and a_i
of the present rows is

    PSI = sum over i of (a_i − e_i) · ln(a_i / e_i)

(Siddiqi 2006, *Credit Risk Scorecards*, ch. 8; the symmetric divergence of Kullback & Leibler 1951,
eq. 2.6). An empty bin counts as half a row. Numbers have ten quantile bins of the train slice and
one for missing; categories one bin a value. The usual reading is Siddiqi's: below .1 the same, to
.25 a shift worth a look, above that a change.

Few rows show an index without any change: it then follows (1/n + 1/m) · χ² with B − 1 degrees of
freedom (Yurdakul & Naranjo 2020, *Journal of Risk Model Validation* 14(4), theorem 1). A feature is
said to have drifted when its index is above the bound *and* above the 99.9 % point of that law.

The training's bins and counts travel with the version (``model/drift_reference.json``), so that
scoring needs no training data. Features are compared with the train slice, the score with that of
the test slice: rows that the model was not fitted on. Some features grow with the age of the log
(tenure, history) and must shift. So a check warns when it matters: when the score has drifted, or
when drifted features together carry more than ``drift_weight`` of what the model leans on. Columns
that tell of the day or the item (``as_of_*``, ``item_*``) are left out: a population is scored on
one day and often for one item, so they always differ, and say nothing of the people.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from usergrowth_dagster.learning.artifacts import LoadedModel
from usergrowth_dagster.learning.encoding import FeatureSpec, flat_frame
from usergrowth_dagster.learning.reference import Histogram, Reference
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

SURE = 0.999  # of a shift being more than chance
CHUNK_ROWS = 10_000
SCORE = "score"
NOT_PEOPLE = ("as_of_", "item_")
Level = Literal["same", "shifted", "drifted"]


@dataclass(frozen=True)
class Shift:
    """One feature's index, what chance alone would hardly exceed, and what it amounts to."""

    feature: str
    psi: float
    chance: float
    level: Level


@dataclass(frozen=True)
class Drift:
    """All indices, largest first; ``rows`` were compared.

    ``weight`` is the share of the model's weight that drifted features carry, and ``warns`` whether
    that or the score itself is beyond the bounds.
    """

    rows: int
    score: Shift | None
    features: tuple[Shift, ...]
    weight: float = 0.0
    warns: bool = False

    @property
    def drifted(self) -> list[str]:
        """What has drifted, the score first."""
        return [s.feature for s in self.every() if s.level == "drifted"]

    def every(self) -> list[Shift]:
        """The score and the features."""
        return [*([self.score] if self.score else []), *self.features]

    def sentence(self) -> str:
        """What there is to say, for a check or a log."""
        if not self.rows:
            return "no row was compared with the training"
        score = f"the score's index is {self.score.psi:.3f}, " if self.score else ""
        if not self.drifted:
            return f"{self.rows:,} rows are like the training's: {score}no feature has drifted"
        parts = [f"{s.feature} {s.psi:.2f}" for s in self.every() if s.level == "drifted"]
        more = f" and {len(parts) - 8} more" if len(parts) > 8 else ""
        return (
            f"{self.rows:,} rows differ from the training's: {score}drifted are "
            f"{', '.join(parts[:8])}{more}; the drifted features carry {self.weight:.0%} of what "
            "the model leans on"
        )

    def as_dict(self) -> dict[str, Any]:
        """For records: the thirty largest."""
        return {
            "rows": self.rows,
            "shifts": [
                {"feature": s.feature, "psi": s.psi, "chance": s.chance, "level": s.level}
                for s in self.every()[:30]
            ],
            "drifted": self.drifted,
            "weight": self.weight,
            "warns": self.warns,
            "sentence": self.sentence(),
        }


def psi(expected: Sequence[int], actual: Sequence[int]) -> float:
    """The population stability index of two counts over the same bins; 0 without rows."""
    import numpy as np

    e, a = np.asarray(expected, dtype=np.float64), np.asarray(actual, dtype=np.float64)
    used = (e > 0) | (a > 0)
    e, a = e[used], a[used]
    if not e.sum() or not a.sum():
        return 0.0
    p, q = np.maximum(e, 0.5) / e.sum(), np.maximum(a, 0.5) / a.sum()
    return float(((q - p) * np.log(q / p)).sum())


def compare(reference: Histogram, counts: Sequence[int], name: str, settings: Settings) -> Shift:
    """One feature's shift from the training."""
    from scipy.stats import chi2

    index = psi(reference.counts, counts)
    n, m = sum(reference.counts), sum(counts)
    bins = sum(1 for a, b in zip(reference.counts, counts, strict=True) if a or b)
    chance = float(chi2.ppf(SURE, max(bins - 1, 1))) * (1 / n + 1 / m) if n and m else 0.0
    above = index > chance
    level: Level = "same"
    if above and index > settings.drift_notice:
        level = "drifted" if index > settings.drift_warning else "shifted"
    return Shift(name, index, chance, level)


def drift_of_frame(
    reference: Reference,
    spec: FeatureSpec,
    frames: Iterable["pd.DataFrame"],
    scores: "Iterable[NDArray[np.float64]] | None",
    settings: Settings,
    *,
    weights: "Sequence[NDArray[np.float64]] | None" = None,
) -> Drift:
    """The drift of flat rows and of their scores (None: not compared), both given in parts.

    The scores are asked for when the frames are through. ``weights`` are those of the rows, part by
    part, 1 on average; None: one each.
    """
    import numpy as np

    rows = 0
    compared = [f for f in spec.features if not f.column.startswith(NOT_PEOPLE)]
    counts: dict[str, Any] = {}
    for part, frame in enumerate(frames):
        rows += len(frame)
        each = None if weights is None else weights[part]
        for f in compared:
            if f.label in reference.features:
                counted = reference.features[f.label].count(frame[f.name].to_numpy(), each)
                counts[f.label] = counts.get(f.label, 0) + counted
    shifts = [
        compare(reference.features[label], counted.tolist(), label, settings)
        for label, counted in counts.items()
    ]
    shifts.sort(key=lambda s: (-s.psi, s.feature))
    own = None
    if scores is not None:
        counted = np.zeros(len(reference.score.counts), dtype=np.int64)
        for part, values in enumerate(scores):
            known = ~np.isnan(values)
            each = None if weights is None else weights[part][known]
            counted += reference.score.count(values[known], each)
        own = compare(reference.score, counted.tolist(), SCORE, settings)
    moved = [s.feature for s in shifts if s.level == "drifted"]
    weight = sum(reference.weights.get(name, 0.0) for name in moved)
    warns = weight > settings.drift_weight or (own is not None and own.level == "drifted")
    return Drift(rows, own, tuple(shifts), weight, warns)


def measure(
    engine: Engine,
    relation: str,
    model: LoadedModel,
    settings: Settings,
    *,
    scores: "Iterable[NDArray[np.float64]] | None" = None,
    chunk_rows: int = CHUNK_ROWS,
) -> Drift | None:
    """The drift of rows that are scored from the training of the version that scores them.

    Args:
        engine: holds the relation.
        relation: table or view with the feature columns.
        model: the version, with its reference.
        settings: the bounds.
        scores: what the version gave the rows, in parts of shape (n,), in any order; they are
            asked for when the rows are through, so they may come from the same engine.
        chunk_rows: rows in memory at once.

    Returns:
        None for a version that was registered without a reference.
    """
    if model.reference is None:
        return None
    import pyarrow as pa

    types = engine.describe(f"select * from {relation}")
    reader = engine.connection.sql(
        f"select {model.spec.projection(types)} from {relation}"
    ).to_arrow_reader(chunk_rows)
    frames = (
        flat_frame(pa.Table.from_batches([batch]), model.spec) for batch in reader if batch.num_rows
    )
    return drift_of_frame(model.reference, model.spec, frames, scores, settings)
