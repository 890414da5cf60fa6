"""Naive rankings that stand beside the learners of the effect, and may win.

Where an effect is small, what is learned of it can be worse than what is known anyway: the single
feature that orders the effect best, or who is likely to return at all. Scores rank only; what
effect they stand for is found by :mod:`scale`.
"""

from typing import TYPE_CHECKING, Any, Self

from usergrowth_dagster.learning.model import quiet
from usergrowth_dagster.learning.uplift.boosting import Boost
from usergrowth_dagster.learning.uplift.curves import area, arms
from usergrowth_dagster.learning.uplift.learners import Learner

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

PENALTY = 0.01  # inverse strength of the logistic regression's ridge
ON = ("all", "control", "treated")
UNKNOWN = -1e30


class Everyone(Learner):
    """The same for everyone: what is left when nothing ranks better than chance."""

    name = "random"

    def _fit(self, x: "Floats", y: "Floats", t: "Floats", e: "Floats", users: "Ints") -> None:
        """Nothing is learned."""

    def uplift(self, x: "Floats") -> "Floats":
        import numpy as np

        return np.zeros(len(x))


class SingleFeature(Learner):
    """One feature in one direction: the one with the highest training Qini, unless it is given.

    Args:
        seed, sizes, threads: as of every learner; not used.
        column: place of the feature, None to find it.
        sign: 1 or -1.
    """

    name = "single feature"

    def __init__(
        self,
        seed: int = 0,
        sizes: dict[str, Boost] | None = None,
        threads: int = 1,
        *,
        column: int | None = None,
        sign: int = 1,
    ) -> None:
        super().__init__(seed, sizes, threads)
        self.given = column is not None
        self.column = column or 0
        self.sign = sign

    def fresh(self) -> Self:
        column = self.column if self.given else None
        return type(self)(
            self.seed, self.sizes, self.threads, column=column, sign=self.sign if self.given else 1
        )

    def _fit(self, x: "Floats", y: "Floats", t: "Floats", e: "Floats", users: "Ints") -> None:
        if not self.given:
            self.column, self.sign = strongest_features(x, y, t, e, 1)[0]

    def uplift(self, x: "Floats") -> "Floats":
        return directed(x, self.column, self.sign)


def directed(x: "Floats", column: int, sign: int) -> "Floats":
    """A feature as a score; rows where it is unknown come last."""
    import numpy as np

    value = x[:, column]
    return np.where(np.isfinite(value), sign * value, UNKNOWN)


def strongest_features(
    x: "Floats", y: "Floats", t: "Floats", e: "Floats", count: int
) -> list[tuple[int, int]]:
    """The features with the highest Qini on these rows, as (column, sign), best first.

    Looked at are the ten in either direction whose line through the transformed outcome is
    steepest against its error, since a curve for every feature takes long.
    """
    import numpy as np

    transformed = y * (t - e) / (e * (1 - e))
    filled = np.where(np.isfinite(x), x, np.nan)
    strongest = []
    with np.errstate(all="ignore"):
        for column in range(x.shape[1]):
            value = np.nan_to_num(filled[:, column], nan=np.nanmin(filled[:, column]) - 1)
            ranks = np.searchsorted(np.sort(value), value, side="left").astype(float)
            ranks -= ranks.mean()
            spread = float(ranks @ ranks)
            if spread > 0:
                slope = float(ranks @ transformed) / spread**0.5
                strongest.append((abs(slope), column, 1 if slope > 0 else -1))
    rows = arms(y, t, e)
    looked_at = [(column, sign) for _, column, sign in sorted(strongest, reverse=True)[:10]]
    qinis = {f: area(rows, directed(x, *f), normalized=False, guarded=True) for f in looked_at}
    ranked = sorted(looked_at, key=lambda f: -qinis[f])
    return ranked[:count] or [(0, 1)]


class Response(Learner):
    """Who is likely to return, whatever makes them: rows of both arms or of one.

    Args:
        seed, sizes, threads: as of every learner.
        on: ``all``, ``control`` or ``treated`` rows.
        boosted: LightGBM; else a logistic regression on scaled features with missing flags.
    """

    def __init__(
        self,
        seed: int = 0,
        sizes: dict[str, Boost] | None = None,
        threads: int = 1,
        *,
        on: str = "all",
        boosted: bool = True,
    ) -> None:
        super().__init__(seed, sizes, threads)
        self.on, self.boosted = on, boosted
        rows = "" if on == "all" else f" of {on} rows"
        self.name = f"response{rows} ({'LightGBM' if boosted else 'logistic'})"
        self.pipeline: Any = None

    def fresh(self) -> Self:
        return type(self)(self.seed, self.sizes, self.threads, on=self.on, boosted=self.boosted)

    def _fit(self, x: "Floats", y: "Floats", t: "Floats", e: "Floats", users: "Ints") -> None:
        import numpy as np

        own = np.flatnonzero({"all": t >= 0, "control": t == 0, "treated": t == 1}[self.on])
        if self.boosted or not 0 < y[own].sum() < len(own):
            self.boosters["outcome"] = self._boost("outcome", x[own], y[own], users[own])
        else:
            with quiet():
                self.pipeline = logistic().fit(x[own], y[own])

    def uplift(self, x: "Floats") -> "Floats":
        import numpy as np

        if self.pipeline is None:
            return self.boosters["outcome"].predict(x)
        with quiet():
            return np.asarray(self.pipeline.predict_proba(x)[:, 1], dtype=np.float64)


def logistic() -> Any:
    """Ridge logistic regression on features on a signed log scale, NaN the median and a flag."""
    import numpy as np
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    return make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
        FunctionTransformer(np.arcsinh),
        StandardScaler(),
        LogisticRegression(C=PENALTY, max_iter=300),
    )
