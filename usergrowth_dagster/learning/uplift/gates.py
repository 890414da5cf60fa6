"""What a model of effects must pass before it may choose anyone."""

import math
from dataclasses import dataclass
from datetime import date, timedelta

from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.gates import Gate
from usergrowth_dagster.learning.metrics import Interval
from usergrowth_dagster.learning.splits import TimeSplit
from usergrowth_dagster.learning.uplift.assignment import Foretold
from usergrowth_dagster.learning.uplift.choose import NONE, Choice
from usergrowth_dagster.learning.uplift.deciles import UpliftCalibration
from usergrowth_dagster.learning.uplift.rows import LeftOut, UpliftRows
from usergrowth_dagster.settings import Settings

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


def judge(found: Judged, settings: Settings) -> list[Gate]:
    """Every gate."""
    return [
        arms_gate(found, settings),
        propensity_gate(found),
        ratio_gate(found.train, found.test),
        assignment_gate(found.foretold),
        leakage_gate(found),
        uplift_gate(found),
        calibration_gate(found, settings),
    ]


def arms_gate(found: Judged, settings: Settings) -> Gate:
    """Both arms of both slices have returns enough."""
    told = []
    passed = True
    for name, rows, least in (
        ("train", found.train, settings.min_positives_train),
        ("test", found.test, settings.min_positives_test),
    ):
        for arm, figures in rows.counts().items():
            few = min(figures["returns"], figures["rows"] - figures["returns"]) < least
            passed = passed and not few
            told.append(
                f"{name} {arm}: {figures['returns']} of {figures['rows']} returned"
                + (f", at least {least} of either kind are needed" if few else "")
            )
    return Gate("arms", passed, "; ".join(told))


def propensity_gate(found: Judged) -> Gate:
    """The chance of the arm is known for everyone held out."""
    without = found.without
    said = (
        f"{without.unknown_touched} touches and {without.unknown_held_out} people held out have "
        f"no recorded chance, {without.certain} could have been in one arm only; none of them is "
        "learned from"
    )
    return Gate("propensities", without.unknown_held_out == 0, said)


def ratio_gate(*slices: UpliftRows) -> Gate:
    """As many rows were treated as the recorded chances say.

    z = Σ (t - e) / sqrt(Σ e (1 - e)), normal when each row was drawn by its own chance e.
    """
    gap = sum(float((rows.treated - rows.propensity).sum()) for rows in slices)
    spread = sum(float((rows.propensity * (1 - rows.propensity)).sum()) for rows in slices)
    p = math.erfc(abs(gap) / math.sqrt(2 * spread))
    treated = sum(float(rows.treated.sum()) for rows in slices)
    said = (
        f"{treated:.0f} rows were treated, {treated - gap:.0f} by the recorded chances "
        f"(p = {p:.4f})"
    )
    if p < RATIO_P:
        off = "treated" if gap < 0 else "held-out"
        said += f"; {off} rows are missing, so the arms cannot be compared"
    return Gate("sample_ratio", p >= RATIO_P, said)


def assignment_gate(found: Foretold) -> Gate:
    """No feature foretells who was held out, beyond the recorded chance."""
    said = (
        f"features foretell the arm of unseen users by a correlation of {found.correlation:.4f} "
        f"(p = {found.p:.4f}), up to {FORETOLD_FLOOR} is a trifle"
    )
    passed = found.p >= FORETOLD_P or found.correlation < FORETOLD_FLOOR
    if not passed:
        said += (
            f"; {found.feature} most, on average {found.treated:.4g} for treated rows and "
            f"{found.control:.4g} for held-out ones: it tells who was texted before, or the "
            "chances were recorded wrongly, so draw the control group anew more often "
            "(holdout.rotate_days)"
        )
    return Gate("assignment", passed, said)


def leakage_gate(found: Judged) -> Gate:
    """Labels were closed between the slices and before the execution date."""
    horizon = timedelta(days=found.config.horizon_days)
    last, first = max(found.split.train), min(found.split.test)
    closed = last + horizon <= first and max(found.split.test) + horizon <= found.execution_date
    verb = "were closed" if closed else "were not closed"
    return Gate("leakage", closed, f"labels {verb} before the next slice and before the date")


def uplift_gate(found: Judged) -> Gate:
    """On later days the ranking finds those whom a text makes return better than chance does."""
    own = (
        f"Qini {found.qini.value:.4f} [{found.qini.low:.4f}, {found.qini.high:.4f}] on the test "
        f"slice, a random ranking {found.chance.value:.4f} [{found.chance.low:.4f}, "
        f"{found.chance.high:.4f}]"
    )
    if found.choice.chosen.family == NONE:
        return Gate("uplift", False, f"no uplift shown where it was learned: {own}")
    passed = found.qini.low > max(0.0, found.chance.value)
    return Gate("uplift", passed, f"{'uplift shown' if passed else 'no uplift shown'}: {own}")


def calibration_gate(found: Judged, settings: Settings) -> Gate:
    """Predicted effects are as large as measured ones, but for what chance alone shows."""
    bound = settings.max_calibration_error + 2 * found.calibration.by_chance
    passed = found.calibration.error <= bound
    said = (
        f"predicted and measured effect differ by {found.calibration.error:.4f} on average over "
        f"the deciles, the bound is {bound:.4f}; mean effect predicted "
        f"{found.calibration.predicted:+.4f}, measured {found.calibration.measured.value:+.4f} "
        f"[{found.calibration.measured.low:+.4f}, {found.calibration.measured.high:+.4f}]"
    )
    return Gate("calibration", passed, said)
