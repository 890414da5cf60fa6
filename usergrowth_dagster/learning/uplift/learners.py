"""Learners of the effect of a text on each person, all on LightGBM behind one interface.

With x what is known of a row, t the arm, y the return, e the chance of treatment as it was drawn:

* **S**: one model of y on (x, t); the effect is its difference between t = 1 and t = 0.
* **T**: one model of y for each arm; the effect is their difference.
* **X** (Künzel, Sekhon, Bickel & Yu 2019, PNAS 116: 4156-4165, S, T and X in section 2): the
  effects ``y - m0(x)`` of the treated and ``m1(x) - y`` of the control rows are regressed on x
  arm by arm, and averaged with weights 1 - g and g, where g is the treated share.
* **DR** (Kennedy 2023, Electronic Journal of Statistics 17: 3008-3049, algorithm 1): regress
  ``m1 - m0 + (t - e) / (e (1 - e)) (y - mt)`` on x; right when either e or m is.
* **Class transformation** (Jaskowski & Jaroszewicz 2012): P(z = 1) of z = [y = t], rows weighted
  by the inverse chance of their arm; the effect is 2 P(z = 1) - 1.

m0 and m1 of X and DR are cross-fitted: a row's are those of models that never saw its user.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

from usergrowth_dagster.learning.uplift.boosting import (
    Boost,
    Booster,
    choose_size,
    user_folds,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


NUISANCE_FOLDS = 3


class Learner(ABC):
    """Learns from rows of both arms what a text changes; every score is one of a row alone.

    Args:
        seed: of folds and sampling; the same seed and rows give the same effects.
        sizes: sizes of the boosters by their part in the method; those not given are chosen by
            folds of users when it is fitted, and kept.
        threads: of LightGBM.
    """

    name: str

    def __init__(
        self, seed: int = 0, sizes: dict[str, Boost] | None = None, threads: int = 1
    ) -> None:
        self.seed = seed
        self.threads = threads
        self.sizes = dict(sizes or {})
        self.boosters: dict[str, Booster] = {}
        self._known: tuple[Floats, Floats] | None = None

    def fit(
        self,
        x: "Floats",
        y: "NDArray[Any]",
        treated: "NDArray[Any]",
        propensity: "NDArray[Any] | None" = None,
        users: "NDArray[Any] | None" = None,
        *,
        outcomes: "tuple[Floats, Floats] | None" = None,
    ) -> Self:
        """Learn.

        Args:
            x: features, NaN where unknown, shape (n, columns).
            y: 1 where the person returned, shape (n,).
            treated: 1 where texted, shape (n,).
            propensity: chance of treatment, shape (n,); None: the treated share of the rows.
            users: user of each row, shape (n,); None makes every row a user of its own.
            outcomes: cross-fitted probabilities of a return untreated and treated, as of
                :meth:`outcomes` on these rows, so that several learners need them only once.
        """
        import numpy as np

        self._known = outcomes
        t = np.asarray(treated, dtype=np.float64)
        share = float(t.mean())
        if not 0 < share < 1:
            raise ValueError("both arms are needed: some rows treated and some not")
        e = np.full(len(t), share) if propensity is None else np.asarray(propensity, float)
        who = np.arange(len(t)) if users is None else np.unique(users, return_inverse=True)[1]
        self._fit(np.asarray(x, float), np.asarray(y, float), t, e, who)
        self._known = None
        return self

    @abstractmethod
    def _fit(self, x: "Floats", y: "Floats", t: "Floats", e: "Floats", users: "Ints") -> None:
        """Learn from checked arrays."""

    @abstractmethod
    def uplift(self, x: "Floats") -> "Floats":
        """The effect on each row: change of the probability of a return, shape (n,)."""

    def fresh(self) -> Self:
        """One like this, not fitted, with the sizes that were chosen."""
        return type(self)(self.seed, self.sizes, self.threads)

    def _boost(
        self,
        part: str,
        x: "Floats",
        target: "Floats",
        users: "Ints",
        weight: "Floats | None" = None,
        *,
        binary: bool = True,
    ) -> Booster:
        """A booster of some part of the method, of the size that stands or is chosen now."""
        self._choose(part, x, target, users, weight, binary=binary)
        return Booster(binary).fit(x, target, weight, self.sizes[part], self.seed, self.threads)

    def _choose(
        self,
        part: str,
        x: "Floats",
        target: "Floats",
        users: "Ints",
        weight: "Floats | None" = None,
        *,
        binary: bool = True,
    ) -> None:
        import numpy as np

        if part not in self.sizes:
            who = np.unique(users, return_inverse=True)[1]
            self.sizes[part] = choose_size(
                x, target, weight, who, binary=binary, seed=self.seed, threads=self.threads
            )

    def outcomes(
        self, x: "Floats", y: "Floats", t: "Floats", users: "Ints"
    ) -> "tuple[Floats, Floats]":
        """Cross-fitted probabilities of a return untreated and treated, each (n,)."""
        import numpy as np

        if self._known is not None:
            return self._known
        predicted = np.empty((2, len(y)))
        for arm in (0, 1):
            own = np.flatnonzero(t == arm)
            self._choose(f"outcome {arm}", x[own], y[own], users[own])
        for fit, held in user_folds(users, NUISANCE_FOLDS, self.seed):
            for arm in (0, 1):
                own = fit[t[fit] == arm]
                made = self._boost(f"outcome {arm}", x[own], y[own], users[own])
                predicted[arm, held] = made.predict(x[held])
        return predicted[0], predicted[1]


class SLearner(Learner):
    """One model, with the arm as a feature."""

    name = "S"

    def _fit(self, x: "Floats", y: "Floats", t: "Floats", e: "Floats", users: "Ints") -> None:
        import numpy as np

        self.boosters["outcome"] = self._boost("outcome", np.column_stack([x, t]), y, users)

    def uplift(self, x: "Floats") -> "Floats":
        import numpy as np

        model, one = self.boosters["outcome"], np.ones(len(x))
        with_text = model.predict(np.column_stack([x, one]))
        return with_text - model.predict(np.column_stack([x, one * 0]))


class TLearner(Learner):
    """A model for each arm."""

    name = "T"

    def _fit(self, x: "Floats", y: "Floats", t: "Floats", e: "Floats", users: "Ints") -> None:
        for arm in (0, 1):
            own = t == arm
            part = f"outcome {arm}"
            self.boosters[part] = self._boost(part, x[own], y[own], users[own])

    def uplift(self, x: "Floats") -> "Floats":
        treated = self.boosters["outcome 1"].predict(x)
        return treated - self.boosters["outcome 0"].predict(x)


class XLearner(Learner):
    """Effects imputed from the other arm's model, one regression of them for each arm."""

    name = "X"

    def _fit(self, x: "Floats", y: "Floats", t: "Floats", e: "Floats", users: "Ints") -> None:
        import numpy as np

        untreated, treated = self.outcomes(x, y, t, users)
        imputed = np.where(t == 1, y - untreated, treated - y)
        self.share = float(t.mean())
        for arm in (0, 1):
            own, part = t == arm, f"effect {arm}"
            self.boosters[part] = self._boost(part, x[own], imputed[own], users[own], binary=False)

    def uplift(self, x: "Floats") -> "Floats":
        of_control = self.boosters["effect 0"].predict(x)
        of_treated = self.boosters["effect 1"].predict(x)
        return self.share * of_control + (1 - self.share) * of_treated


class DRLearner(Learner):
    """A regression of doubly robust pseudo-outcomes."""

    name = "DR"

    def _fit(self, x: "Floats", y: "Floats", t: "Floats", e: "Floats", users: "Ints") -> None:
        pseudo = doubly_robust(y, t, e, *self.outcomes(x, y, t, users))
        self.boosters["effect"] = self._boost("effect", x, pseudo, users, binary=False)

    def uplift(self, x: "Floats") -> "Floats":
        return self.boosters["effect"].predict(x)


class ClassTransformation(Learner):
    """One model of whether the outcome agrees with the arm."""

    name = "class transformation"

    def _fit(self, x: "Floats", y: "Floats", t: "Floats", e: "Floats", users: "Ints") -> None:
        import numpy as np

        agrees = (y == t).astype(float)
        weight = np.where(t == 1, 1 / e, 1 / (1 - e))
        self.boosters["agreement"] = self._boost(
            "agreement", x, agrees, users, weight / weight.mean()
        )

    def uplift(self, x: "Floats") -> "Floats":
        return 2 * self.boosters["agreement"].predict(x) - 1


LEARNERS: tuple[type[Learner], ...] = (
    SLearner,
    TLearner,
    XLearner,
    DRLearner,
    ClassTransformation,
)


def doubly_robust(
    y: "Floats", t: "Floats", e: "Floats", untreated: "Floats", treated: "Floats"
) -> "Floats":
    """Kennedy's pseudo-outcome of each row: its mean over like rows is their effect, shape (n,)."""
    import numpy as np

    own = np.where(t == 1, treated, untreated)
    return np.asarray(treated - untreated + (t - e) / (e * (1 - e)) * (y - own))
