"""The canary: features that know what cannot be known on the day of a snapshot.

A leaked column (made from days after the snapshot) differs from a strong honest one in that nothing
else knows what it knows. The honest features of a person overlap: take away the strongest, and the
others say nearly the same. Three signs, each by name:

* **Alone**: one feature by itself ranks the test rows with an AUC of at least ``leak_auc``. A
  feature's own score is the share of positives of its value's bin (21 quantile bins, a bin for
  missing; each category) on the train slice, so numbers that are telling at both ends, missing
  values and categories all count.
* **Dependence**: a stand-in model (LightGBM, 150 trees) is fitted with all features and without the
  k it uses most, k = 1, 2, 4, 8 (copies of a leak hide each other). If the log-loss on the test
  slice falls by more than ``leak_dependence`` of itself thanks to the one (twice that for several,
  which may honestly know more), with an interval by user that leaves out 0, each of them that alone
  brings back half of the fall is named. Then the rest is asked again, without those named.
* **Jump** (in :mod:`gates`): a feature's own AUC has risen by more than ``leak_jump`` over what it
  was in the approved version before.

On the tables of this product the honest fall is at most 3 % of the log-loss, with the eight most
used features gone; the label itself with 15 % of its values flipped takes off about a third, with
30 % flipped about a tenth. A small table without overlap (fewer than 40 features) is only asked for
one feature at a time.

What it cannot see: a leak whose own information is below the bound; one spread thinly over more
than eight columns; one that shows only in combination with another; and with few test rows, any
noisy one, since the interval is wide. A new honest column that is worth more than the bound is
stopped as well: then a person approves the version with a reason, or names the column in the
setting ``trusted_features``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usergrowth_dagster.learning.dataset import TestRows
from usergrowth_dagster.learning.encoding import Feature, FeatureSpec
from usergrowth_dagster.learning.estimators import lightgbm_model, matrix_columns
from usergrowth_dagster.learning.importance import tree_owners
from usergrowth_dagster.learning.metrics import Interval, as_interval, resample_weights
from usergrowth_dagster.learning.model import quiet
from usergrowth_dagster.learning.rows import Slice
from usergrowth_dagster.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ROWS = 10_000  # of each slice that are looked at
BINS = 21
TREES, LEAVES = 150, 7  # of the stand-in
TOGETHER = (1, 2, 4, 8)
FEW = 20  # features for each removed one; small tables have no overlap to speak of
PRIOR = 10.0  # rows at the base rate that every bin starts with
RESAMPLES = 300
ROUNDS = 4


@dataclass(frozen=True)
class Dependence:
    """Features that the model cannot do without, and the share of log-loss the first take off."""

    features: tuple[str, ...]
    fall: Interval


@dataclass(frozen=True)
class Screening:
    """What single features tell.

    Attributes:
        alone: feature label → AUC on the test slice of the feature by itself, largest first.
        seen: rows and positive rows of the test slice that were looked at.
        dependence: the features that the stand-in cannot do without; None when there are none.
    """

    alone: dict[str, float]
    seen: tuple[int, int]
    dependence: Dependence | None


def screen(spec: FeatureSpec, train: Slice, test: TestRows, settings: Settings) -> Screening:
    """Look at every feature by itself, and at what the model is without the strongest.

    Args:
        spec: the features.
        train: rows that rates and stand-ins are fitted on.
        test: rows judged on, with their users.
        settings: the bound, the trusted features and the seed.
    """
    early, late = _spread(len(train.label)), _spread(len(test.label))
    rows = Slice(train.frame.iloc[early], train.label[early], train.day[early])
    frame, label, user = test.frame.iloc[late], test.label[late], test.user[late]
    alone = {f.label: auc(label, own_score(f, rows, frame)) for f in spec.features}
    alone = dict(sorted(alone.items(), key=lambda item: (-item[1], item[0])))
    seen = len(label), int(label.sum())
    if not rows.both_classes() or not 0 < label.sum() < len(label):
        return Screening(alone, seen, None)
    losses = _Losses(spec, rows, frame, label, user, settings)
    return Screening(alone, seen, losses.dependence(settings))


def is_trusted(feature: Feature, settings: Settings) -> bool:
    """Whether an operator vouches for a feature, by its label or its column."""
    return bool({feature.label, feature.column} & set(settings.trusted_features))


def auc(label: "NDArray[np.int64]", score: "Floats") -> float:
    """Area under the ROC curve by the rank sum; one half where there is one class only."""
    from scipy.stats import rankdata

    positives = int(label.sum())
    pairs = positives * (len(label) - positives)
    if not pairs:
        return 0.5
    ranks = float(rankdata(score)[label == 1].sum())
    return (ranks - positives * (positives + 1) / 2) / pairs


def own_score(feature: Feature, train: Slice, frame: "pd.DataFrame") -> "Floats":
    """Share of positives in the bin of each row's value, as the train rows have it."""
    import numpy as np

    if feature.kind == "category":
        names, seen = np.unique(train.frame[feature.name].to_numpy(), return_inverse=True)
        place = {name: i for i, name in enumerate(names)}
        now = np.array([place.get(v, len(names)) for v in frame[feature.name].to_numpy()])
        bins = len(names) + 1
    else:
        edges = quantile_edges(train.frame[feature.name].to_numpy(dtype=np.float64), BINS)
        seen = binned(train.frame[feature.name].to_numpy(dtype=np.float64), edges)
        now = binned(frame[feature.name].to_numpy(dtype=np.float64), edges)
        bins = len(edges) + 2
    base = float(train.label.mean())
    rows = np.bincount(seen, minlength=bins)
    hits = np.bincount(seen, weights=train.label, minlength=bins)
    rate = (hits + PRIOR * base) / (rows + PRIOR)
    own: Floats = rate[now]
    return own


def quantile_edges(values: "Floats", bins: int) -> "Floats":
    """Upper bounds of all quantile bins but the last, each once; none when nothing is known."""
    import numpy as np

    known = values[~np.isnan(values)]
    if not len(known):
        return np.empty(0)
    edges: Floats = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)[1:-1]))
    return edges


def binned(values: "Floats", edges: "Floats") -> "NDArray[np.int64]":
    """Bin of each value: how many bounds lie below it; one past the last bin when missing."""
    import numpy as np

    at = np.searchsorted(edges, values, side="left")
    return np.where(np.isnan(values), len(edges) + 1, at).astype(np.int64)


def _spread(rows: int) -> "NDArray[np.int64]":
    import numpy as np

    return np.linspace(0, rows - 1, min(ROWS, rows)).astype(np.int64)


class _Losses:
    """The stand-in's log-loss of each test row, with and without some features."""

    def __init__(
        self,
        spec: FeatureSpec,
        train: Slice,
        frame: "pd.DataFrame",
        label: "NDArray[np.int64]",
        user: "NDArray[np.object_]",
        settings: Settings,
    ) -> None:
        import numpy as np

        columns = matrix_columns(spec)
        with quiet():
            self.matrix, self.later = columns.fit_transform(train.frame), columns.transform(frame)
        self.owners = tree_owners(columns, spec)
        self.spec, self.train, self.label = spec, train.label, label
        self.cluster = np.unique(user, return_inverse=True)[1]
        self.seed = settings.seed

    def dependence(self, settings: Settings) -> Dependence | None:
        """All features that the stand-in cannot do without, those that weigh most first."""
        named: tuple[str, ...] = ()
        first: Interval | None = None
        for _ in range(ROUNDS):
            next_set = self._dependence(settings, named)
            if next_set is None:
                break
            named += next_set.features
            first = first or next_set.fall
        return Dependence(named, first) if first else None

    def _dependence(self, settings: Settings, out: tuple[str, ...]) -> Dependence | None:
        """The smallest set, of those tried, that a stand-in without ``out`` cannot do without."""
        full, gain = self._without(out)
        trusted = {f.label for f in self.spec.features if is_trusted(f, settings)}
        used = [name for name in sorted(gain, key=lambda n: -gain[n]) if name not in trusted]
        for count in TOGETHER:
            if count > max(1, len(self.spec.features) // FEW) or count > len(used):
                return None
            removed = (*out, *used[:count])
            rest, _ = self._without(removed)
            bound = settings.leak_dependence * (1 if count == 1 else 2)
            if rest.sum() - full.sum() <= bound * rest.sum():
                continue
            fall = self._fall(rest, full)
            if fall.low > 0:
                return Dependence(self._guilty(out, used[:count], rest, full), fall)
        return None

    def _without(self, names: Iterable[str]) -> tuple["Floats", dict[str, float]]:
        """Log-loss of each test row without some features, and the gain of the others."""
        import numpy as np

        out = set(names)
        labels = [f.label for f in self.spec.features]
        left = [place for place, label in enumerate(labels) if label not in out]
        if not left:
            share = np.full(len(self.label), float(self.train.mean()))
            return _loss(self.label, share), {}
        kept = np.flatnonzero(np.isin(self.owners, left))
        with quiet():
            model = lightgbm_model(TREES, LEAVES, self.seed, 1)
            model.fit(self.matrix[:, kept], self.train)
            share = np.asarray(model.predict_proba(self.later[:, kept])[:, 1], dtype=np.float64)
        gains = model.booster_.feature_importance("gain")
        owned = np.bincount(self.owners[kept], weights=gains, minlength=len(labels))
        return _loss(self.label, share), {labels[place]: float(owned[place]) for place in left}

    def _fall(self, rest: "Floats", full: "Floats") -> Interval:
        """Share of the log-loss without them that some features take off, with its interval."""
        import numpy as np

        drawn = [
            1 - (weights @ full) / (weights @ rest)
            for weights in resample_weights(self.cluster, RESAMPLES, self.seed)
        ]
        return as_interval(float(1 - full.sum() / rest.sum()), np.concatenate(drawn))

    def _guilty(
        self, out: tuple[str, ...], removed: Sequence[str], rest: "Floats", full: "Floats"
    ) -> tuple[str, ...]:
        """Those that alone bring back half of what all of them bring; all if none does."""
        if len(removed) == 1:
            return tuple(removed)
        half = (rest.sum() - full.sum()) / 2
        guilty = []
        for name in removed:
            others = [*out, *(other for other in removed if other != name)]
            if rest.sum() - self._without(others)[0].sum() >= half:
                guilty.append(name)
        return tuple(guilty or removed)


def _loss(label: "NDArray[np.int64]", share: "Floats") -> "Floats":
    import numpy as np

    p = np.clip(share, 1e-6, 1 - 1e-6)
    out: Floats = -np.where(label > 0, np.log(p), np.log1p(-p))
    return out
