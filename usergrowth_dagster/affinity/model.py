"""Scores users for groups of items: fits on one period, chooses on the next, reports on the third.

Two naive orders stand beside every model: the recent share of a user's interactions that fall on
the group, and popularity, which is a user's activity times the group's base rate. The model is a
logistic regression on history, collaborative mass and the user's profile. It scores only where the
paired interval of its average precision leaves out 0 against both; else the better naive one does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from usergrowth_dagster.affinity.features import (
    HALF_LIVES,
    AsOf,
    as_of,
    expected,
    history_features,
    mass_features,
    outcomes,
    profile_features,
    recent_share,
)
from usergrowth_dagster.affinity.figures import Interval, OrderFigures, compare_orders
from usergrowth_dagster.affinity.log import Log
from usergrowth_dagster.affinity.windows import DAY, Windows, windows_of

if TYPE_CHECKING:
    from usergrowth_dagster.affinity.features import Matrix
    from usergrowth_dagster.affinity.log import Bools, Floats, Ints

MODEL, SHARE, POPULARITY = "model", "recent share", "popularity"
NAIVE = (SHARE, POPULARITY)

_LEAST = 20
"""Users with and without the outcome that a period must have for anything to be learned."""

_STRENGTHS = (0.01, 0.3)
"""Inverse strengths of the ridge that are tried."""

_GAIN = 1.02
"""Factor by which the average precision must grow before a model may look at more."""

Parts = tuple[Literal["history", "mass", "profile"], ...]
_CANDIDATES: tuple[Parts, ...] = (
    ("history",),
    ("history", "mass"),
    ("history", "mass", "profile"),
)


@dataclass(frozen=True)
class Report:
    """What is known of the scores of one expression.

    Attributes:
        expression: its text.
        items: items with interactions that it takes.
        shipped: the order that scores: model, recent share or popularity.
        sentence: why, in one sentence.
        parts: what the model looks at; empty where none was fitted.
        collaborative: EASE or SVD; empty where none was fitted.
        period_days: length of the period that is foretold, in days.
        users: users that the test period could show.
        took: those who interacted with such an item in it.
        n: users who are chosen.
        figures: of each order in the test period; empty where there is too little.
        gains: average precision of the model minus that of each naive order.
    """

    expression: str
    items: int
    shipped: str
    sentence: str
    parts: tuple[str, ...]
    collaborative: str
    period_days: float
    users: int
    took: int
    n: int
    figures: tuple[OrderFigures, ...]
    gains: dict[str, Interval]


@dataclass(frozen=True)
class Scores:
    """The users of a log by what is foretold of them.

    Attributes:
        user: numbers of the users, the best first.
        score: chance that each interacts with an item of the group in the period after the log.
    """

    user: "Ints"
    score: "Floats"


class Trainer:
    """Scores a log for any number of expressions; what they share is worked out once.

    Args:
        log: all interactions.
        seed: of everything that draws at random.
    """

    def __init__(self, log: Log, *, seed: int) -> None:
        self.log = log
        self.seed = seed
        self.windows: Windows | None = windows_of(log)

    @cached_property
    def _states(self) -> dict[str, AsOf]:
        """The log as of the start of each period, and as of its end."""
        windows = self.windows
        assert windows is not None
        moments = {
            "fit": windows.fit,
            "choose": windows.choose,
            "test": windows.test,
            "end": windows.end,
        }
        return {
            name: as_of(self.log, moment, windows.period, seed=self.seed)
            for name, moment in moments.items()
        }

    @cached_property
    def _profiles(self) -> "dict[str, Matrix]":
        return {name: profile_features(state) for name, state in self._states.items()}

    def train(self, expression: str, group: "Bools", n: int) -> tuple[Scores, Report]:
        """Scores of all users for one expression, and how good they are.

        Args:
            expression: its text.
            group: which items it takes.
            n: users who will be chosen.
        """
        if self.windows is None:
            return self._short(expression, group, n)
        return _Attempt(self, expression, group, n).result()

    def _short(self, expression: str, group: "Bools", n: int) -> tuple[Scores, Report]:
        """The scores of a log without room for three periods: shares, untested."""
        log = self.log
        end = float(log.time[-1]) + 1.0
        period = max((end - float(log.time[0])) / 4, 1.0)
        state = as_of(log, end, period, seed=self.seed)
        share = recent_share(state, group, HALF_LIVES[1])
        sentence = (
            f"there is not enough to learn: {len(log.time):,} interactions have no room for a "
            "history and three equal periods behind it; recent share scores, untested"
        )
        report = Report(
            expression, int(group.sum()), SHARE, sentence, (), "", period / DAY, 0, 0, n, (), {}
        )
        return _ordered(state, share, share, self.seed), report


def _ordered(state: AsOf, order: "Floats", score: "Floats", seed: int) -> Scores:
    """Users by an order, ties parted by a seeded draw, with their scores."""
    import numpy as np

    parted = np.random.default_rng(seed).permutation(len(order))
    by = parted[np.argsort(-order[parted], kind="stable")]
    return Scores(state.active[by], np.clip(score[by], 0.0, 1.0))


class _Attempt:
    """The training for one expression."""

    def __init__(self, trainer: Trainer, expression: str, group: "Bools", n: int) -> None:
        self.trainer, self.expression, self.group, self.n = trainer, expression, group, n
        self.states = trainer._states
        self.took = {
            name: outcomes(self.states[name], trainer.log, group)
            for name in ("fit", "choose", "test")
        }
        self._features: dict[tuple[str, str], Matrix] = {}

    def result(self) -> tuple[Scores, Report]:
        """The scores, and how good they are."""
        least = min(int(min(took.sum(), (~took).sum())) for took in self.took.values())
        if least < _LEAST:
            sentence = (
                f"there is not enough to learn: a period has only {least:,} users of one kind "
                f"(with or without such an interaction), and {_LEAST} are needed; recent share "
                "scores, untested"
            )
            scores = self._naive_scores(SHARE, HALF_LIVES[1])
            return scores, self._report(SHARE, sentence, (), (), {})
        lives = self._naive_half_lives()
        parts, strength = self._choose()
        tested = {
            MODEL: self._fit(parts, strength, ("fit", "choose"))(self._matrix("test", parts)),
            **{name: self._naive(name, "test", lives[name]) for name in NAIVE},
        }
        seed = self.trainer.seed
        figures, differences = compare_orders(tested, self.took["test"], self.n, seed=seed)
        gains = {name: differences[MODEL, name] for name in NAIVE}
        shipped, sentence = _verdict(figures, gains)
        report = self._report(shipped, sentence, parts, figures, gains)
        if shipped != MODEL:
            return self._naive_scores(shipped, lives[shipped]), report
        made = self._fit(parts, strength, ("fit", "choose", "test"))(self._matrix("end", parts))
        return _ordered(self.states["end"], made, made, seed), report

    def _naive(self, name: str, window: str, half_life: float) -> "Floats":
        make: Callable[[AsOf, Bools, float], Floats] = recent_share if name == SHARE else expected
        return make(self.states[window], self.group, half_life)

    def _naive_half_lives(self) -> dict[str, float]:
        """The half-life of each naive order that does best in the period of choice."""
        return {
            name: max(HALF_LIVES, key=lambda life: self._quality(self._naive(name, "choose", life)))
            for name in NAIVE
        }

    def _quality(self, values: "Floats") -> float:
        """Average precision in the period of choice."""
        from sklearn.metrics import average_precision_score

        return float(average_precision_score(self.took["choose"], values))

    def _part(self, window: str, part: str) -> "Matrix":
        if part == "profile":
            return self.trainer._profiles[window]
        if (window, part) not in self._features:
            make = history_features if part == "history" else mass_features
            self._features[window, part] = make(self.states[window], self.group)
        return self._features[window, part]

    def _matrix(self, window: str, parts: Parts) -> "Matrix":
        import numpy as np

        return np.column_stack([self._part(window, part) for part in parts])

    def _choose(self) -> tuple[Parts, float]:
        """The candidate that does best in the period of choice, fitted on the one before.

        One that looks at more has to do better than those before it by :data:`_GAIN`.
        """
        best, reached = (_CANDIDATES[0], _STRENGTHS[0]), 0.0
        for parts in _CANDIDATES:
            fitted = {
                strength: self._quality(
                    self._fit(parts, strength, ("fit",))(self._matrix("choose", parts))
                )
                for strength in _STRENGTHS
            }
            strength = max(fitted, key=lambda one: fitted[one])
            if fitted[strength] > reached * _GAIN:
                best, reached = (parts, strength), fitted[strength]
        return best

    def _fit(
        self, parts: Parts, strength: float, windows: Sequence[str]
    ) -> "Callable[[Matrix], Floats]":
        import numpy as np

        return _logistic(
            np.vstack([self._matrix(name, parts) for name in windows]),
            np.concatenate([self.took[name] for name in windows]),
            strength,
        )

    def _naive_scores(self, name: str, half_life: float) -> Scores:
        """The order of a naive rule, with the chances that it stood for in the test period."""
        import numpy as np

        values = self._naive(name, "end", half_life)
        took = self.took["test"]
        chance = np.full(len(values), took.mean())
        if min(took.sum(), (~took).sum()) >= _LEAST:
            column = np.log(self._naive(name, "test", half_life))[:, None]
            fitted = _logistic(column, took, 1.0)
            calibrated = fitted(np.log(values)[:, None])
            low, high = np.argmin(values), np.argmax(values)
            if calibrated[low] <= calibrated[high]:  # else the order would turn around
                chance = calibrated
        return _ordered(self.states["end"], values, chance, self.trainer.seed)

    def _report(
        self,
        shipped: str,
        sentence: str,
        parts: Sequence[str],
        figures: tuple[OrderFigures, ...],
        gains: dict[str, Interval],
    ) -> Report:
        took = self.took["test"]
        return Report(
            self.expression,
            int(self.group.sum()),
            shipped,
            sentence,
            tuple(parts),
            self.states["test"].weights.kind if "mass" in parts else "",
            self.states["test"].period / DAY,
            len(took),
            int(took.sum()),
            self.n,
            figures,
            gains,
        )


def _verdict(figures: tuple[OrderFigures, ...], gains: dict[str, Interval]) -> tuple[str, str]:
    """Which order scores, and why in one sentence."""
    failed = [name for name, gain in gains.items() if not gain.low > 0]
    if not failed:
        return MODEL, (
            "the model scores: its average precision beats recent share by "
            f"{gains[SHARE].shown} and popularity by {gains[POPULARITY].shown}"
        )
    reached = {one.order: one.average_precision.value for one in figures}
    better = max(NAIVE, key=lambda name: reached[name])
    return better, (
        f"there is not enough to learn: the model does not surely beat {' or '.join(failed)} "
        f"(average precision {', '.join(gains[name].shown for name in failed)}); the better "
        f"naive order, {better}, scores"
    )


def _logistic(x: "Matrix", y: "Bools", strength: float) -> "Callable[[Matrix], Floats]":
    """A ridge logistic regression on standardized columns, as a function that gives chances."""
    from sklearn.linear_model import LogisticRegression

    middle, spread = x.mean(axis=0), x.std(axis=0)
    spread = spread + (spread < 1e-9)
    # Many rows and few columns: a few steps of Newton instead of hundreds of a quasi-Newton method.
    model = LogisticRegression(C=strength, max_iter=100, solver="newton-cholesky")
    fitted: Any = model.fit((x - middle) / spread, y)

    def chances(values: "Matrix") -> "Floats":
        made: Floats = fitted.predict_proba((values - middle) / spread)[:, 1]
        return made

    return chances
