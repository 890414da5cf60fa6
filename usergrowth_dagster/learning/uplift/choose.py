"""Which ranking is used: learners of the effect and naive controls, compared where none was fitted.

Everything happens on the rows to learn from. Every candidate is fitted on some users and ranks the
others, in repeated folds of users, each with both arms; its figure is the mean Qini coefficient
over the held folds. The rule is the one-standard-error rule (Breiman, Friedman, Olshen & Stone
1984, section 3.4.3): of the candidates whose figure is within one standard error of the best one's,
the simplest is taken. A ranking is the simpler, the less of it is chosen by the effect, which is
small and noisy: nothing of a model of who returns at all, which learns from the outcome; one
feature and a direction of a ranking by a single feature; all of a learner of the effect, which is
fitted to it. The error is that of repeated cross-validation, ``sd * sqrt(1/m + 1/(k - 1))`` for m
folds of which k make a round (Nadeau & Bengio 2003). Where the best is not better than chance by
more than its error, nobody is preferred.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.uplift.boosting import Boost, user_folds
from usergrowth_dagster.learning.uplift.controls import ON, Everyone, Response, SingleFeature
from usergrowth_dagster.learning.uplift.curves import area, arms
from usergrowth_dagster.learning.uplift.learners import LEARNERS, Learner, TLearner, doubly_robust
from usergrowth_dagster.learning.uplift.scale import EffectScale, fit_scale, places_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

FOLDS, REPEATS = 5, 2
PLACED = 4_000  # rows that quantiles of a fold's scores are taken from
MANY_ROWS = 50_000  # from which one round of folds is precise enough
NONE, RESPONSE, FEATURE, EFFECT, SEVERAL = range(5)  # kinds of rankings, simplest first


class Mean(Learner):
    """The mean of all learners' effects; nothing of the weights is fitted.

    Args:
        seed, sizes, threads: as of every learner; not used.
        members: fitted learners of the same rows.
    """

    name = "mean of the learners"

    def __init__(
        self,
        seed: int = 0,
        sizes: dict[str, Boost] | None = None,
        threads: int = 1,
        *,
        members: Sequence[Learner] = (),
    ) -> None:
        super().__init__(seed, sizes, threads)
        self.members = list(members)

    def _fit(self, x: "Floats", y: "Floats", t: "Floats", e: "Floats", users: "Ints") -> None:
        """The members are fitted."""

    def uplift(self, x: "Floats") -> "Floats":
        import numpy as np

        return np.asarray(np.mean([member.uplift(x) for member in self.members], axis=0))


@dataclass(frozen=True)
class Candidate:
    """A ranking that may be chosen, and its kind."""

    learner: Learner
    family: int

    @property
    def name(self) -> str:
        """As tables show it."""
        return self.learner.name


@dataclass(frozen=True)
class Figure:
    """A candidate's cross-fitted Qini: mean over held folds, its standard error, their number."""

    name: str
    qini: float
    error: float
    folds: int


@dataclass(frozen=True)
class Choice:
    """What was chosen, fitted on all rows.

    Attributes:
        chosen: the candidate.
        scale: from its score to an effect.
        figures: of every candidate, best first.
        fitted: every candidate by name, fitted on all rows.
        sentence: what was chosen and why.
    """

    chosen: Candidate
    scale: EffectScale
    figures: tuple[Figure, ...]
    fitted: dict[str, Learner] = field(repr=False)
    sentence: str


def candidates(seed: int, threads: int = 1) -> list[Candidate]:
    """Every ranking that is compared, simplest first; the last is the mean of the learners."""
    rankings: list[Candidate] = [Candidate(Everyone(seed), NONE)]
    for on in ON:
        for boosted in (False, True):
            learner = Response(seed, threads=threads, on=on, boosted=boosted)
            rankings.append(Candidate(learner, RESPONSE))
    rankings.append(Candidate(SingleFeature(seed), FEATURE))
    rankings += [Candidate(kind(seed, threads=threads), EFFECT) for kind in LEARNERS]
    rankings.append(Candidate(Mean(seed), SEVERAL))
    return rankings


def _learners(listed: Sequence[Candidate]) -> list[Learner]:
    return [c.learner for c in listed if c.family == EFFECT]


def choose(
    x: "Floats",
    y: "NDArray[Any]",
    treated: "NDArray[Any]",
    propensity: "NDArray[Any] | None" = None,
    users: "NDArray[Any] | None" = None,
    *,
    seed: int = 0,
    threads: int = 1,
    names: Sequence[str] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> Choice:
    """Compare every candidate on unseen users, choose by the rule, fit on all rows.

    The boosters' sizes are chosen once, on all of these rows, and kept in the folds: they are few
    numbers, and choosing them anew takes most of the time.

    Args:
        x: features, NaN where unknown, shape (n, columns).
        y: 1 where the person returned, shape (n,).
        treated: 1 where texted, shape (n,).
        propensity: chance of treatment, shape (n,); None: the treated share.
        users: user of each row, shape (n,); None makes every row a user of its own.
        seed: of folds and sampling.
        threads: of LightGBM.
        names: of the columns, for the sentence.
        progress: told the candidate that is fitted next.
    """
    import numpy as np

    t = np.asarray(treated, dtype=np.float64)
    outcome = np.asarray(y, dtype=np.float64)
    share = float(t.mean())
    e = np.full(len(t), share) if propensity is None else np.asarray(propensity, np.float64)
    who = np.arange(len(t)) if users is None else np.unique(users, return_inverse=True)[1]
    listed = candidates(seed, threads)
    nuisance = TLearner(seed, threads=threads)
    known = nuisance.outcomes(x, outcome, t, who)
    for candidate in listed[:-1]:
        progress(candidate.name)
        candidate.learner.fit(x, outcome, t, e, who, outcomes=known)
    listed[-1] = Candidate(Mean(seed, members=_learners(listed)), SEVERAL)
    held, qinis = _cross_fit(listed, nuisance, x, outcome, t, e, who, seed)
    figures = _figures(listed, qinis)
    chosen = _by_rule(listed, figures)
    place = [c.name for c in listed].index(chosen.name)
    pseudo = doubly_robust(outcome, t, e, *known)
    scale = fit_scale(chosen.learner.uplift(x), held[place], pseudo, who)
    return Choice(
        chosen=chosen,
        scale=scale,
        figures=tuple(sorted(figures, key=lambda f: -f.qini)),
        fitted={c.name: c.learner for c in listed},
        sentence=_sentence(chosen, figures, names),
    )


def _cross_fit(
    listed: Sequence[Candidate],
    nuisance: Learner,
    x: "Floats",
    y: "Floats",
    t: "Floats",
    e: "Floats",
    users: "Ints",
    seed: int,
) -> "tuple[Floats, Floats]":
    """Mean held-out places in [0, 1], (candidates, n), and Qinis, (candidates, folds)."""
    import numpy as np

    held = np.zeros((len(listed), len(y)))
    qinis: list[list[float]] = [[] for _ in listed]
    repeats = REPEATS if len(y) < MANY_ROWS else 1
    for repeat in range(repeats):
        for fit, out in user_folds(users, FOLDS, seed + 1000 * (repeat + 1), t):
            rows = arms(y[out], t[out], e[out])
            own = (x[fit], y[fit], t[fit], e[fit], users[fit])
            who = np.unique(users[fit], return_inverse=True)[1]
            known = nuisance.fresh().outcomes(x[fit], y[fit], t[fit], who)
            again = [
                Candidate(c.learner.fresh().fit(*own, outcomes=known), c.family)
                for c in listed[:-1]
            ]
            some = fit[:: max(1, len(fit) // PLACED)]
            seen = _scores_of(again, np.vstack([x[out], x[some]]))
            for at, score in enumerate(seen):
                qinis[at].append(area(rows, score[: len(out)], guarded=True))
                level, place = places_of(score[len(out) :])
                held[at, out] += np.interp(score[: len(out)], level, place) / repeats
    return held, np.nan_to_num(np.array(qinis))


def _scores_of(fitted: Sequence[Candidate], x: "Floats") -> "list[Floats]":
    """Scores of every candidate, that of the mean of the learners last."""
    import numpy as np

    scores = [candidate.learner.uplift(x) for candidate in fitted]
    effects = [s for s, c in zip(scores, fitted, strict=True) if c.family == EFFECT]
    return [*scores, np.mean(effects, axis=0)]


def _figures(listed: Sequence[Candidate], qinis: "Floats") -> list[Figure]:
    rounds = qinis.shape[1]
    widen = (1 / rounds + 1 / (FOLDS - 1)) ** 0.5
    return [
        Figure(
            name=candidate.name,
            qini=float(own.mean()),
            error=float(own.std(ddof=1) * widen),
            folds=rounds,
        )
        for candidate, own in zip(listed, qinis, strict=True)
    ]


def _by_rule(listed: Sequence[Candidate], figures: Sequence[Figure]) -> Candidate:
    """The one-standard-error rule: the first, and so simplest, that is near the best."""
    best = max(figures, key=lambda f: f.qini)
    near = (f.qini >= best.qini - best.error for f in figures)
    return next(c for c, close in zip(listed, near, strict=True) if close)


def _sentence(chosen: Candidate, figures: Sequence[Figure], names: Sequence[str]) -> str:
    best = max(figures, key=lambda f: f.qini)
    own = next(f for f in figures if f.name == chosen.name)
    if chosen.family == NONE:
        return (
            f"No ranking is better than chance by more than its standard error: the best, "
            f"{best.name}, has a cross-fitted Qini of {best.qini:.4f} ± {best.error:.4f}."
        )
    sentence = _named(chosen, names)
    if own.name == best.name:
        return f"{sentence} has the highest cross-fitted Qini, {own.qini:.4f} ± {own.error:.4f}."
    return (
        f"{sentence} is the simplest of those within one standard error of the best: cross-fitted "
        f"Qini {own.qini:.4f} against {best.qini:.4f} ± {best.error:.4f} of {best.name}."
    )


def _named(chosen: Candidate, names: Sequence[str]) -> str:
    learner = chosen.learner
    if isinstance(learner, SingleFeature) and names:
        direction = "highest" if learner.sign > 0 else "lowest"
        return f"The single feature {names[learner.column]} ({direction} first)"
    return f"{chosen.name[0].upper()}{chosen.name[1:]}"
