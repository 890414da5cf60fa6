"""What a model of effects must pass before it may choose anyone."""

import math
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Literal

from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.gates import Gate
from usergrowth_dagster.learning.metrics import Interval
from usergrowth_dagster.learning.splits import TimeSplit, is_by_user
from usergrowth_dagster.learning.uplift.assignment import Foretold
from usergrowth_dagster.learning.uplift.choose import NONE, Choice
from usergrowth_dagster.learning.uplift.metrics import UpliftCalibration
from usergrowth_dagster.learning.uplift.rows import LeftOut, UpliftRows
from usergrowth_dagster.ranks import UPLIFT
from usergrowth_dagster.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SHOWN_P = 0.025  # one-sided, as the interval's bound is
RATIO_P = 0.001  # a true split fails so seldom
FORETOLD_P = 0.001  # and so seldom do fresh draws
FORETOLD_FLOOR = 0.02  # correlation below which it is a trifle: a chance of .9 wanders by .006


@dataclass(frozen=True)
class Judged:
    """What the gates look at."""

    config: TrainingConfig
    execution_date: date
    split: TimeSplit
    train: UpliftRows
    test: UpliftRows
    without: LeftOut
    choice: Choice
    qini: Interval
    chance: Interval
    calibration: UpliftCalibration
    foretold: Foretold


def judge(judged: Judged, settings: Settings) -> list[Gate]:
    """Every gate."""
    return [
        arms_gate(judged, settings),
        propensity_gate(judged),
        ratio_gate(judged.train, judged.test),
        assignment_gate(judged.foretold),
        leakage_gate(judged),
        uplift_gate(judged),
        calibration_gate(judged, settings),
    ]


def arms_gate(judged: Judged, settings: Settings) -> Gate:
    """Both arms of both slices have returns enough."""
    sentences = []
    passed = True
    for name, rows, least in (
        ("train", judged.train, settings.min_positives_train),
        ("test", judged.test, settings.min_positives_test),
    ):
        for arm, figures in rows.counts().items():
            few = min(figures["returns"], figures["rows"] - figures["returns"]) < least
            passed = passed and not few
            sentences.append(
                f"{name} {arm}: {figures['returns']} of {figures['rows']} returned"
                + (f", at least {least} of either kind are needed" if few else "")
            )
    return Gate("arms", passed, "; ".join(sentences))


def propensity_gate(judged: Judged) -> Gate:
    """The chance of the arm is known for everyone held out."""
    without = judged.without
    said = (
        f"{without.unknown_touched} touches and {without.unknown_held_out} people held out have "
        f"no recorded chance, {without.certain} could have been in one arm only; none of them is "
        "learned from"
    )
    return Gate("propensities", without.unknown_held_out == 0, said)


def ratio_gate(*slices: UpliftRows) -> Gate:
    """As many rows were treated as the recorded chances say.

    ``z = Σ (t - e) / error``, normal when every user was drawn by the recorded chance e; the error
    is that of :func:`_variance`, since a user's arm may be kept over rounds and slices.
    """
    import numpy as np

    treated = np.concatenate([rows.treated for rows in slices])
    chance = np.concatenate([rows.propensity for rows in slices])
    users = np.concatenate([rows.user for rows in slices])
    gap = float((treated - chance).sum())
    variance = _variance(treated - chance, chance, np.unique(users, return_inverse=True)[1])
    p = math.erfc(abs(gap) / math.sqrt(2 * variance))
    said = (
        f"{treated.sum():.0f} rows were treated, {chance.sum():.0f} by the recorded chances "
        f"(p = {p:.4f})"
    )
    if p < RATIO_P:
        off = "treated" if gap < 0 else "held-out"
        said += f"; {off} rows are missing, so the arms cannot be compared"
    return Gate("sample_ratio", p >= RATIO_P, said)


def _variance(drawn: "Floats", chance: "Floats", users: "NDArray[np.int64]") -> float:
    """Variance of Σ (t - e), rows of a user correlated as much as they are seen to be.

    With the spread ``s = sqrt(e (1 - e))`` of a row it is ``Σ s² + ρ Σ sᵢ sⱼ`` over the pairs of
    rows of one user. ρ, within [0, 1], is the intraclass correlation of the drawn t - e about their
    mean (Fisher 1925, *Statistical Methods for Research Workers*, chapter VII): 1 where a user
    keeps the arm, 0 where each round draws anew. The squared sum of each user needs no ρ, but
    varies with the few users held out: 3 % of true draws were then outside their p of .001, where
    20 of 1,000 users were held out for good.

    Args:
        drawn: t - e of each row, shape (n,).
        chance: e of each row, inside (0, 1), shape (n,).
        users: number of each row's user, shape (n,).
    """
    import numpy as np

    about = drawn - drawn.mean()
    of_user, squares = (np.bincount(users, weights=about**power) for power in (1, 2))
    pairs = float(np.bincount(users) @ squares - squares.sum())
    seen = float(of_user @ of_user - squares.sum())
    correlation = min(1.0, max(0.0, seen / pairs)) if pairs > 0 else 0.0
    spread = np.bincount(users, weights=np.sqrt(chance * (1 - chance)))
    alone = float((chance * (1 - chance)).sum())
    return alone + correlation * max(0.0, float(spread @ spread) - alone)


def assignment_gate(foretold: Foretold) -> Gate:
    """No feature foretells who was held out, beyond the recorded chance."""
    said = (
        f"features foretell the arm of unseen users by a correlation of {foretold.correlation:.4f} "
        f"(p = {foretold.p:.4f}), up to {FORETOLD_FLOOR} is a trifle"
    )
    passed = foretold.p >= FORETOLD_P or foretold.correlation < FORETOLD_FLOOR
    if not passed:
        said += (
            f"; {foretold.feature} most, on average {foretold.treated:.4g} for treated rows and "
            f"{foretold.control:.4g} for held-out ones: it tells who was texted before, or the "
            "chances were recorded wrongly, so draw the control group anew more often "
            "(holdout.rotate_days)"
        )
    return Gate("assignment", passed, said)


def leakage_gate(judged: Judged) -> Gate:
    """Labels were closed between the slices and before the execution date."""
    horizon = timedelta(days=judged.config.horizon_days)
    last, first = max(judged.split.train), min(judged.split.test)
    if is_by_user(judged.split):
        closed = last + horizon <= judged.execution_date
        verb = "were closed" if closed else "were not closed"
        return Gate(
            "leakage",
            closed,
            f"the slices hold different users of the same days, and labels {verb} before the date",
        )
    closed = last + horizon <= first and max(judged.split.test) + horizon <= judged.execution_date
    verb = "were closed" if closed else "were not closed"
    return Gate("leakage", closed, f"labels {verb} before the next slice and before the date")


def uplift_gate(judged: Judged) -> Gate:
    """The ranking finds those whom a text makes return better than chance does."""
    by = shown_by(judged.choice, judged.qini, judged.chance)
    own = (
        f"Qini {judged.qini.value:.4f} [{judged.qini.low:.4f}, {judged.qini.high:.4f}] on the test "
        f"slice, a random ranking {judged.chance.value:.4f} [{judged.chance.low:.4f}, "
        f"{judged.chance.high:.4f}]"
    )
    if by == "folds":
        chosen = next(f for f in judged.choice.figures if f.name == judged.choice.chosen.name)
        own += f"; {chosen.qini:.4f} \N{PLUS-MINUS SIGN} {chosen.error:.4f} in the folds"
    return Gate(UPLIFT, bool(by), f"{'uplift shown' if by else 'no uplift shown'}: {own}")


def shown_by(choice: Choice, own: Interval, chance: Interval) -> Literal["later days", "folds", ""]:
    """What shows that the chosen ranking is better than chance; empty when nothing does.

    * ``later days``: its Qini on the test slice has an interval above that of a random ranking.
    * ``folds``: where the slice is too short for that, its cross-fitted Qini on the rows it was
      learned from is above zero by a corrected resampled t-test (Nadeau & Bengio 2003, section 3)
      at :data:`SHOWN_P`, divided by the number of rankings it was chosen from (Bonferroni), and on
      the test slice it is the better ranking too, though not surely.
    """
    from scipy.special import stdtr

    if choice.chosen.family == NONE:
        return ""
    if own.low > max(0.0, chance.value):
        return "later days"
    if not own.value > max(0.0, chance.value):
        return ""
    figure = next(f for f in choice.figures if f.name == choice.chosen.name)
    if not figure.error > 0:
        return ""
    p = float(stdtr(figure.folds - 1, -figure.qini / figure.error))
    return "folds" if p * len(choice.figures) < SHOWN_P else ""


def calibration_gate(judged: Judged, settings: Settings) -> Gate:
    """Predicted effects are as large as measured ones, but for what chance alone shows."""
    bound = settings.max_calibration_error + 2 * judged.calibration.by_chance
    passed = judged.calibration.error <= bound
    said = (
        f"predicted and measured effect differ by {judged.calibration.error:.4f} on average over "
        f"the deciles, the bound is {bound:.4f}; mean effect predicted "
        f"{judged.calibration.predicted:+.4f}, measured {judged.calibration.measured.value:+.4f} "
        f"[{judged.calibration.measured.low:+.4f}, {judged.calibration.measured.high:+.4f}]"
    )
    return Gate("calibration", passed, said)
