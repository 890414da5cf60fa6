"""The effect by decile has honest intervals, and calibration tells a true prediction from a loud
one."""

import numpy as np
import pytest

from usergrowth_dagster.learning.uplift.curves import arms
from usergrowth_dagster.learning.uplift.metrics import calibration, newcombe, uplift_by_bin


def test_interval_equals_statsmodels() -> None:
    """An interval by another formula than its name says; 0 of n must not have width 0."""
    stats = pytest.importorskip("statsmodels.stats.proportion")
    for a, n, b, m in ((12, 100, 5, 80), (0, 30, 3, 40), (0, 10, 0, 10), (50, 50, 1, 7)):
        low, high = stats.confint_proportions_2indep(a, n, b, m, method="newcomb")
        interval = newcombe(a / n, n, b / m, m)
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-9)


def test_bins_cover_the_true_effect_under_unequal_propensities() -> None:
    """Deciles that forget the weights show the draw, not the effect; ties are not torn apart."""
    rng = np.random.default_rng(7)
    x = rng.random(60_000)
    e = 0.2 + 0.6 * rng.random(len(x)) * (x > 0.5)
    treated = rng.random(len(x)) < e
    y = rng.random(len(x)) < 0.2 + 0.3 * x * treated
    rows = arms(y, treated, e)
    bins = uplift_by_bin(rows, x, predicted=0.3 * x)
    assert [b.place for b in bins] == list(range(1, 11))
    assert sum(b.treated + b.control for b in bins) == len(x)
    covered = [b.uplift.low <= b.predicted <= b.uplift.high for b in bins]  # type: ignore[union-attr, operator]
    assert sum(covered) >= 8
    flag = uplift_by_bin(rows, (x > 0.3).astype(float))
    assert [(b.low_score, b.high_score) for b in flag] == [(1, 1), (0, 0)]
    assert len(uplift_by_bin(rows, x, bins=100)) == 100


def test_an_arm_without_rows_has_no_effect() -> None:
    """A rate of nobody, shown as 0, reads as an effect."""
    score = np.array([2.0, 2, 1, 1])
    bins = uplift_by_bin(arms(np.array([1, 0, 1, 0]), np.array([1, 1, 1, 0])), score)
    assert (bins[0].control_rate, bins[0].uplift) == (None, None)
    assert bins[1].uplift is not None


def test_calibration_tells_truth_from_exaggeration() -> None:
    """A model that shouts three times the effect would spend three times the money."""
    rng = np.random.default_rng(8)
    x = rng.random(80_000)
    treated = rng.random(len(x)) < 0.8
    y = rng.random(len(x)) < 0.1 + 0.2 * x * treated
    rows = arms(y, treated)
    true, loud = calibration(rows, 0.2 * x), calibration(rows, 0.6 * x)
    assert true.error < 2 * true.by_chance < loud.error
    assert true.slope.low < 1 < true.slope.high
    assert loud.slope.high < 0.6
    assert true.measured.low < true.predicted < true.measured.high
    none = calibration(rows, np.random.default_rng(9).random(len(x)))
    assert none.slope.low < 0 < none.slope.high
    users = np.arange(len(x)) // 4
    assert calibration(rows, 0.2 * x, users).slope.value == pytest.approx(true.slope.value)
