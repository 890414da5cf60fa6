"""What another policy would have earned, from the chances with which people were texted.

Of each person it is known whether they were texted, with what chance that was drawn (the decision's
propensity), and what came of it. A policy says how likely it texts each of them. Its worth is
measured against a second policy (texting nobody, unless another is given), so that whoever would
have come anyway counts for nothing; people whom both treat alike do not enter.

With a person's weight d (chance under the one policy less that under the other), chance e of being
texted, T whether they were, and outcome Y, the gain is the sum over people of

* **IPS** (inverse propensity scores; Horvitz and Thompson, "A generalization of sampling without
  replacement from a finite universe", JASA 47, 1952): d (T Y / e - (1 - T) Y / (1 - e));
* **SNIPS** (self-normalized; Swaminathan and Joachims, "The self-normalized estimator for
  counterfactual learning", NeurIPS 2015): the weighted mean of Y of those texted less that of the
  others, times the sum of d;
* **DR** (doubly robust; Dudík, Langford and Li, "Doubly robust policy evaluation and learning",
  ICML 2011): d (m1 - m0 + T (Y - m1) / e - (1 - T) (Y - m0) / (1 - e)), where m1 and m0 are the
  outcomes that a model expects with and without a text. It is unbiased when either the chances or
  the model are right. The model is fitted on other people than those it is asked about
  (cross-fitting; Chernozhukov et al., "Double/debiased machine learning", 2018), by person.

Intervals are normal, from the influence function, summed by person. The effective rows are Kish's
("Survey Sampling", 1965): (sum of w)^2 / sum of w^2, with w = |d| over the chance of what happened,
for those texted and for the others; the smaller counts.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.effects.amounts import unequal_payers
from usergrowth_dagster.effects.result import Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

MIN_EFFECTIVE = 50.0
"""Fewer effective rows in an arm than this are no answer."""
MIN_EVENTS = 5
"""The normal interval of a rate wants at least as many returns, and non-returns, in each arm."""
MIN_PAYERS = 50.0
"""Amounts have an interval from so many equal payers in each arm: people who each pay the same, of
whom a mean would vary as much (:mod:`usergrowth_dagster.effects.amounts`). With fewer, few large
amounts of people with small chances decide, and the normal interval misses 8 to 10 %."""
FOLDS = 5
_RIDGE = 1.0
_CERTAIN = 1e-12


@dataclass(frozen=True)
class Logged:
    """What happened to people who could be texted: arrays of shape (n,), a row each.

    Attributes:
        texted: whether the row's arm was to be texted (intention to treat).
        chance: of that, as it was drawn, in [0, 1].
        outcome: what is counted: 1 for a return, or money.
        person: whose row it is, whole numbers; rows of a person are not independent.
        features: shape (n, k), known before the decision; what the outcome model sees.
        amounts: whether the outcome is an amount, of each person another one.
    """

    texted: "Array"
    chance: "Array"
    outcome: "Array"
    person: "Array"
    features: "Array"
    amounts: bool = False

    def __len__(self) -> int:
        return len(self.texted)


@dataclass(frozen=True)
class Answer:
    """The gain of one policy over another, by each estimator; None when it is refused.

    Attributes:
        rows: rows that the two policies treat differently.
        effective_rows: Kish's, of the smaller arm.
        refused: the sentence why no answer is given, and what would help.
    """

    rows: int
    effective_rows: float
    ips: Estimate | None = None
    snips: Estimate | None = None
    dr: Estimate | None = None
    refused: str | None = None


def gain(
    logged: Logged,
    policy: "Array",
    against: "Array | None" = None,
    *,
    level: float = 0.95,
    expected: "tuple[Array, Array] | None" = None,
) -> Answer:
    """What a policy would have brought beyond another, on these people.

    Args:
        logged: what happened.
        policy: chance with which it texts each row, shape (n,).
        against: the same of the other policy; default: nobody.
        level: of the intervals.
        expected: outcomes without and with a text (m0, m1) as a model expects them, each of shape
            (n,); default: :func:`expected_outcomes`.

    Returns:
        The gain, in units of the outcome, summed over the people.
    """
    import numpy as np

    other = np.zeros(len(logged)) if against is None else np.asarray(against, dtype=float)
    weight = np.asarray(policy, dtype=float) - other
    moved = np.abs(weight) > _CERTAIN
    rows = int(moved.sum())
    if rows == 0:
        nothing = Estimate(0.0, 0.0, 0.0)
        return Answer(0, 0.0, nothing, nothing, nothing)
    refused = _unsupported(weight, logged.chance)
    if refused is None:
        effective, refused = _too_few(logged, weight)
    else:
        effective = 0.0
    if refused is not None:
        return Answer(rows, effective, refused=refused)
    if expected is None:
        expected = expected_outcomes(logged)
    if logged.amounts and _payers(logged, weight, moved) < MIN_PAYERS:
        level = 0.0
    person = logged.person[moved]
    ips, snips, dr = (
        None if parts is None else _estimate(total, parts, person, level)
        for total, parts in _influence(logged, weight, moved, expected)
    )
    return Answer(rows, effective, ips, snips, dr)


def _payers(logged: Logged, weight: "Array", moved: "Array") -> float:
    """Equal payers of the smaller arm: its effective rows at the amounts of both arms together."""
    amounts = logged.outcome[moved]
    alike = unequal_payers(amounts[amounts != 0])
    if alike is None:
        return 0.0
    rows = []
    for texted in (True, False):
        mine = moved & (logged.texted == texted)
        chance = logged.chance[mine] if texted else 1 - logged.chance[mine]
        rows.append(effective_rows(abs(weight[mine]) / chance))
    spread = alike / float((amounts != 0).mean()) - 1
    return min(rows) / spread if spread > 0 else min(rows)


def effective_rows(weights: "Array") -> float:
    """Kish's effective sample size of rows with these weights."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares > 0 else 0.0


def _unsupported(weight: "Array", chance: "Array") -> str | None:
    """Why the log says nothing of some people: what the policy does with them never happened."""
    moved = abs(weight) > _CERTAIN
    rows = int(moved.sum())
    never = int((moved & (chance <= _CERTAIN)).sum())
    if never:
        return (
            f"{never:,} of the {rows:,} people that it treats otherwise had no chance of being "
            "texted, so nothing is known of what a text does to them; with selection.explore "
            "(0.05, say) some of them are texted at random next time"
        )
    always = int((moved & (chance >= 1 - _CERTAIN)).sum())
    if always:
        return (
            f"{always:,} of the {rows:,} people that it treats otherwise were sure to be texted, "
            "so nothing is known of how they do without; with holdout.share (0.1, say) some of "
            "them are held out next time"
        )
    return None


def _too_few(logged: Logged, weight: "Array") -> tuple[float, str | None]:
    """Effective rows of the smaller arm, and why they are no answer, if they are none."""
    import numpy as np

    moved = np.abs(weight) > _CERTAIN
    least, reason = np.inf, None
    for texted, words, more in (
        (True, "texted", "a larger selection.explore texts more of them"),
        (False, "not texted", "a larger holdout.share leaves more of them out"),
    ):
        mine = moved & (logged.texted == texted)
        chance = logged.chance if texted else 1 - logged.chance
        rows = effective_rows(np.abs(weight[mine]) / chance[mine])
        least = min(least, rows)
        came = int((logged.outcome[mine] > 0).sum())
        stayed = int(mine.sum()) - came
        if reason is not None:
            continue
        if rows < MIN_EFFECTIVE:
            reason = (
                f"those of them who were {words} are worth {rows:.0f} rows, and "
                f"{MIN_EFFECTIVE:.0f} are needed; {more}, and so does a larger population"
            )
        elif min(came, stayed) < MIN_EVENTS:
            reason = (
                f"of those who were {words}, {came} returned and {stayed} did not, and an interval "
                f"wants {MIN_EVENTS} of each; {more}, and so does a larger population"
            )
    return float(least), reason


def expected_outcomes(logged: Logged) -> "tuple[Array, Array]":
    """Outcomes without and with a text that a linear model expects of each row, cross-fitted.

    A ridge regression an arm, on standardized features; rows of one person are in one fold.
    """
    import numpy as np
    from sklearn.linear_model import Ridge

    spread = logged.features.std(axis=0)
    scaled = (logged.features - logged.features.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    fold = _folds(logged.person)
    expected = [np.zeros(len(logged)), np.zeros(len(logged))]
    for texted in (False, True):
        mine = logged.texted == texted
        for part in range(FOLDS):
            learned = mine & (fold != part)
            asked = fold == part
            if not learned.any():
                continue
            if scaled.shape[1] == 0:
                expected[texted][asked] = logged.outcome[learned].mean()
            else:
                model = Ridge(_RIDGE).fit(scaled[learned], logged.outcome[learned])
                expected[texted][asked] = model.predict(scaled[asked])
    return expected[0], expected[1]


def _folds(person: "Array") -> "Array":
    """A fold in [0, FOLDS) for each row, the same for all rows of a person, on every machine."""
    import numpy as np

    known, place = np.unique(person, return_inverse=True)
    seed = int.from_bytes(hashlib.sha256(str(len(known)).encode()).digest()[:8], "big")
    return np.random.default_rng(seed).permutation(len(known))[place] % FOLDS


def _influence(
    logged: Logged, weight: "Array", moved: "Array", expected: "tuple[Array, Array]"
) -> "list[tuple[float, Array | None]]":
    """Of IPS, SNIPS and DR the gain, and each moved row's centred part of it; None: unknown."""

    d, e = weight[moved], logged.chance[moved]
    texted, outcome = logged.texted[moved].astype(float), logged.outcome[moved]
    m0, m1 = expected[0][moved], expected[1][moved]
    ips = d * (texted * outcome / e - (1 - texted) * outcome / (1 - e))
    dr = d * (m1 - m0 + texted * (outcome - m1) / e - (1 - texted) * (outcome - m0) / (1 - e))
    return [
        (float(ips.sum()), ips - ips.mean()),
        _self_normalized(d, e, texted, outcome),
        (float(dr.sum()), dr - dr.mean()),
    ]


def _self_normalized(
    d: "Array", e: "Array", texted: "Array", outcome: "Array"
) -> "tuple[float, Array | None]":
    """SNIPS, apart for those whom the policy texts more and less; each must have both arms."""
    import numpy as np

    total, parts = 0.0, np.zeros(len(d))
    for side in (1.0, -1.0):
        mine = d * side > 0
        size = np.where(mine, np.abs(d), 0.0)
        if not mine.any():
            continue
        for taken, chance, sign in ((texted, e, side), (1 - texted, 1 - e, -side)):
            share = size * taken / chance
            if not share.any():
                return 0.0, None
            mean = float((share * outcome).sum() / share.sum())
            total += sign * mean * float(size.sum())
            parts += sign * share * (outcome - mean) * float(size.sum() / share.sum())
    return total, parts


def _estimate(total: float, parts: "Array", person: "Array", level: float) -> Estimate:
    """The gain with its normal interval; ``parts`` are centred, and added up by person.

    Without an interval at a level of 0.
    """
    import numpy as np
    from scipy.stats import norm

    if not level:
        return Estimate(total)
    _, place = np.unique(person, return_inverse=True)
    by_person = np.bincount(place, weights=parts)
    people = len(by_person)
    spread = float(np.sqrt((by_person**2).sum() * people / max(people - 1, 1)))
    reach = float(norm.ppf(0.5 + level / 2)) * spread
    p_value = float(2 * norm.sf(abs(total) / spread)) if spread > 0 else None
    return Estimate(total, total - reach, total + reach, p_value)
