"""Differences, ratios and means with their intervals, against formulas and tables of the papers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, norm, ttest_ind

from usergrowth_dagster.effects.lift import (
    Counts,
    effect_on_reached,
    mean_difference,
    rate_change,
    rate_difference,
    stratified_difference,
    weighted_change,
    weighted_difference,
    wilson,
)


@st.composite
def arms(draw: st.DrawFn) -> Counts:
    m, n = draw(st.integers(1, 3000)), draw(st.integers(1, 3000))
    return Counts(draw(st.integers(0, m)), m, draw(st.integers(0, n)), n)


def wilson_bounds(returns: int, users: int, level: float) -> tuple[float, float]:
    """The rates at which the observed one lies just at the edge of the score test (Wilson 1927)."""
    z2, rate = float(norm.isf((1 - level) / 2)) ** 2, returns / users
    a, b, c = users + z2, -(2 * users * rate + z2), users * rate**2
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


@settings(max_examples=150, deadline=None)
@given(arms(), st.sampled_from([0.8, 0.95, 0.999]))
def test_rates_follow_the_papers(c: Counts, level: float) -> None:
    """Guards against another interval than the report names, and arms that are interchanged."""
    x1, n1, x0, n0 = c.treated_returns, c.treated_users, c.control_returns, c.control_users
    difference = rate_difference(c, level)
    (low1, high1), (low0, high0) = (wilson_bounds(x, n, level) for x, n in ((x1, n1), (x0, n0)))
    assert wilson(x1, n1, level) == pytest.approx((low1, high1), abs=1e-9)
    below = math.hypot(c.treated_rate - low1, high0 - c.control_rate)
    above = math.hypot(high1 - c.treated_rate, c.control_rate - low0)
    assert difference.low == pytest.approx(difference.value - below, abs=1e-7)
    assert difference.high == pytest.approx(difference.value + above, abs=1e-7)
    assert difference.low <= difference.value <= difference.high
    assert difference.low >= -1 - 1e-12 and difference.high <= 1 + 1e-12
    if 0 < x1 + x0 < n1 + n0:
        table = [[x1, n1 - x1], [x0, n0 - x0]]
        assert difference.p_value == pytest.approx(
            chi2_contingency(table, correction=False).pvalue, abs=1e-9
        )
    else:
        assert difference.p_value == 1.0
    change = rate_change(c, level)
    if x0 == 0:
        assert change is None
        return
    assert change is not None and change.low is not None and change.high is not None
    assert change.low <= change.value
    reach = float(norm.isf((1 - level) / 2)) * math.sqrt(
        1 / (x1 + 0.5) - 1 / (n1 + 0.5) + 1 / (x0 + 0.5) - 1 / (n0 + 0.5)
    )
    middle = math.log((x1 + 0.5) / (n1 + 0.5) / ((x0 + 0.5) / (n0 + 0.5)))
    low = min(math.exp(middle - reach) - 1, change.value)
    assert change.low == pytest.approx(low, rel=1e-6, abs=1e-9)
    assert change.high == pytest.approx(math.exp(middle + reach) - 1, rel=1e-6, abs=1e-9)


def test_newcombe_table() -> None:
    """An interval that equals another program's, and not the paper: Newcombe's table II, method 10."""
    for counts, low, high in [
        (Counts(56, 70, 48, 80), 0.0524, 0.3339),
        (Counts(9, 10, 3, 10), 0.1705, 0.8090),
        (Counts(10, 10, 0, 20), 0.6791, 1.0),
        (Counts(0, 10, 0, 20), -0.1611, 0.2775),
        (Counts(10, 10, 0, 10), 0.6075, 1.0),
    ]:
        estimate = rate_difference(counts)
        assert estimate.low == pytest.approx(low, abs=5e-5)
        assert estimate.high == pytest.approx(high, abs=5e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 60), st.integers(2, 60), st.integers(0, 10**6))
def test_means_are_welchs(m: int, n: int, seed: int) -> None:
    """Guards against pooled variances, and a normal quantile where the arms are small."""
    rng = np.random.default_rng(seed)
    one, other = rng.exponential(3, m), rng.exponential(2, n)
    difference = mean_difference(one, other, 0.9)
    reference = ttest_ind(one, other, equal_var=False)
    interval = reference.confidence_interval(0.9)
    assert (difference.low, difference.high) == pytest.approx((interval.low, interval.high))
    assert difference.p_value == pytest.approx(reference.pvalue)


def test_means_of_too_little() -> None:
    """An interval made of nothing: one user in an arm, or amounts that are all alike."""
    assert mean_difference(np.ones(1), np.zeros(9)).low is None
    assert mean_difference(np.ones(5), np.zeros(9)).low is None
    assert mean_difference(np.ones(5), np.zeros(9)).value == 1.0


def test_different_chances_are_weighed() -> None:
    """Users drawn with a greater chance counted as often as others: the naive lift is confounded."""
    rng = np.random.default_rng(1)
    naive, weighed, covered = [], [], 0
    for _ in range(300):
        busy = rng.random(1500) < 0.5
        chance = np.where(busy, 0.9, 0.4)
        arm = rng.random(1500) < chance
        rate = np.where(busy, 0.6, 0.1) + 0.05 * arm
        came = (rng.random(1500) < rate).astype(float)
        chances = np.where(arm, chance, 1 - chance)
        estimate = weighted_difference(came, arm, chances)
        naive.append(came[arm].mean() - came[~arm].mean())
        weighed.append(estimate.value)
        assert estimate.low is not None and estimate.high is not None
        covered += estimate.low <= 0.05 <= estimate.high
        change = weighted_change(came, arm, chances)
        assert change is not None and change.low is not None and change.low < change.value
    assert abs(np.mean(weighed) - 0.05) < 0.006 < abs(np.mean(naive) - 0.05)
    assert covered >= 0.92 * 300


def test_equal_chances_need_no_weights() -> None:
    """Weights that shift an estimate which they should leave alone."""
    rng = np.random.default_rng(2)
    arm = rng.random(400) < 0.8
    came = (rng.random(400) < 0.3).astype(float)
    estimate = weighted_difference(came, arm, np.where(arm, 0.8, 0.2))
    plain = mean_difference(came[arm], came[~arm])
    assert estimate.value == pytest.approx(plain.value)
    assert estimate.high == pytest.approx(plain.high, abs=0.002)


def test_strata_cover_and_one_stratum_is_newcombe() -> None:
    """A stratified interval that is too narrow, or differs from the plain one where there is one."""
    one = Counts(30, 100, 4, 20)
    estimate, plain = stratified_difference([one]), rate_difference(one)
    assert (estimate.low, estimate.high) == pytest.approx((plain.low, plain.high))
    rng = np.random.default_rng(3)
    rates, users = np.array([0.05, 0.3, 0.8]), [(90, 30), (180, 60), (60, 20)]
    weights = np.array([sum(pair) for pair in users]) / 440
    truth = float((weights * 0.1).sum())
    covered, narrower = 0, 0
    for _ in range(1500):
        strata = [
            Counts(int(rng.binomial(m, p + 0.1)), m, int(rng.binomial(n, p)), n)
            for p, (m, n) in zip(rates, users, strict=True)
        ]
        estimate = stratified_difference(strata)
        assert estimate.low is not None and estimate.high is not None
        covered += estimate.low <= truth <= estimate.high
        whole = Counts(
            sum(s.treated_returns for s in strata),
            330,
            sum(s.control_returns for s in strata),
            110,
        )
        plain = rate_difference(whole)
        assert plain.low is not None and plain.high is not None
        narrower += (estimate.high - estimate.low) < (plain.high - plain.low)
    assert 0.93 * 1500 <= covered <= 0.98 * 1500
    assert narrower > 1400


@pytest.mark.parametrize(
    ("strata", "rates"),
    [
        ([(18, 2)] * 40, (0.3, 0.3)),
        ([(9, 1)] * 40, (0.5, 0.5)),
        ([(18, 2)] * 60, (0.1, 0.1)),
        ([(18, 2)] * 40, (0.05, 0.95)),
        ([(2, 2)] * 100, (0.1, 0.5)),
        ([(270, 30)] * 30, (0.02, 0.02)),
        ([(900, 100), (90, 90), *[(9, 1)] * 20], (0.05, 0.4)),
    ],
)
def test_small_strata(strata: list[tuple[int, int]], rates: tuple[float, float]) -> None:
    """An interval that misses up to 40 % of differences where many strata have few held out."""
    rng = np.random.default_rng(6)
    missed, rounds = 0, 1200
    for _ in range(rounds):
        drawn = [
            Counts(int(rng.binomial(m, p)), m, int(rng.binomial(n, p)), n)
            for (m, n), p in zip(strata, np.linspace(*rates, len(strata)), strict=True)
        ]
        estimate = stratified_difference(drawn)
        assert estimate.low is not None and estimate.high is not None
        missed += not estimate.low <= 0 <= estimate.high
        assert estimate.p_value is not None and 0 <= estimate.p_value <= 1
    assert 0.02 * rounds <= missed <= 0.068 * rounds


def test_strata_of_all_or_nobody() -> None:
    """A root of less than nothing, where rounding takes a rate beyond 1."""
    for came in (0, 1):
        sizes = [(3, 1), (7, 2), (11, 3), (1, 1)] * 7
        strata = [Counts(came * m, m, came * n, n) for m, n in sizes]
        estimate = stratified_difference(strata)
        assert estimate.value == pytest.approx(0) and estimate.p_value == 1.0
        assert estimate.low is not None and estimate.low < -0.01
        assert estimate.high is not None and estimate.high > 0.01


def test_effect_on_those_reached() -> None:
    """The effect on those reached taken from those reached alone, who are not like the others."""
    rng = np.random.default_rng(4)
    covered, naive = 0, []
    for _ in range(300):
        n = 2000
        arm = rng.random(n) < 0.5
        at_home = rng.random(n) < 0.6  # the text reaches these, who come more often anyhow
        reached = (arm & at_home).astype(float)
        came = (rng.random(n) < 0.1 + 0.3 * at_home + 0.08 * reached).astype(float)
        estimate = effect_on_reached(came, arm, reached)
        assert estimate is not None and estimate.low is not None and estimate.high is not None
        covered += estimate.low <= 0.08 <= estimate.high
        naive.append(came[reached > 0].mean() - came[~arm].mean())
    assert 0.92 * 300 <= covered <= 0.985 * 300
    assert np.mean(naive) > 0.15
    nobody = np.zeros(10)
    assert effect_on_reached(nobody, np.arange(10) < 5, nobody) is None


@pytest.mark.parametrize("counts", [Counts(0, 1, 0, 1), Counts(1, 1, 0, 1), Counts(5, 5, 5, 5)])
def test_one_user(counts: Counts) -> None:
    """A division by zero, or an interval that says more than one user can tell."""
    estimate = rate_difference(counts)
    assert estimate.low is not None and estimate.high is not None and estimate.low < 0.3
    assert all(math.isfinite(v) for v in (estimate.value, estimate.low, estimate.high))
