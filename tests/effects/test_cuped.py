"""The variance-reduced estimate: unbiased, robust, and no wider than the plain one on average."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from usergrowth_dagster.effects.cuped import ROWS_PER_COVARIATE, adjusted_estimates
from usergrowth_dagster.effects.lift import mean_difference


def width(estimate: object) -> float:
    return estimate.high - estimate.low  # type: ignore[attr-defined, no-any-return]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_equals_lins_regression(seed: int, k: int) -> None:
    """Another estimator than the one that is claimed: full interactions, centered, with HC2."""
    rng = np.random.default_rng(seed)
    n = 300
    x = rng.normal(size=(n, k)) * [1, 10, 0.1, 5][:k] + 3
    arm = rng.random(n) < 0.6
    y = x @ rng.normal(size=k) + arm * (1 + x[:, 0]) + rng.normal(size=n) * (1 + arm)
    estimate = adjusted_estimates(y, arm, x)[0]
    c = x - x.mean(0)
    design = sm.add_constant(np.column_stack([arm, c, c * arm[:, None]]).astype(float))
    fit = sm.OLS(y, design).fit(cov_type="HC2", use_t=True)
    assert estimate.value == pytest.approx(fit.params[1])
    slopes = c @ fit.params[2 + k :]
    extra = (slopes - slopes.mean()).var() / n
    half = fit.conf_int()[1, 1] - fit.params[1]
    expected = half * np.sqrt(1 + extra / fit.bse[1] ** 2)
    assert width(estimate) / 2 == pytest.approx(expected, rel=1e-6)


def test_unbiased_narrower_and_covering() -> None:
    """A bias bought with the variance, an interval that only looks narrower, or one that is wider.

    Rates near zero, a small control arm and a useless covariate are where adjusting may do harm.
    """
    rng = np.random.default_rng(11)
    for strength, share, worth in ((3.0, 0.5, 0.85), (2.0, 0.1, 0.97), (0.0, 0.2, 1.02)):
        errors, ratios, covered = [], [], 0
        for _ in range(250):
            n = 800
            before = rng.exponential(1, n)
            other = rng.poisson(1, n).astype(float)
            base = 1 / (1 + np.exp(2 - strength * (before - 1)))
            effect = 0.08 * (before < 1)
            arm = rng.random(n) >= share
            luck = rng.random(n)
            came = (luck < np.where(arm, base + effect * (1 - base), base)).astype(float)
            truth = (effect * (1 - base)).mean()
            estimate = adjusted_estimates(came, arm, np.column_stack([before, other]))[0]
            plain = mean_difference(came[arm], came[~arm])
            errors.append(estimate.value - truth)
            ratios.append(width(estimate) / width(plain))
            assert estimate.low is not None and estimate.high is not None
            covered += estimate.low <= truth <= estimate.high
        assert abs(np.mean(errors)) < 3.5 * np.std(errors) / np.sqrt(250)
        assert np.mean(ratios) < worth
        assert 0.92 * 250 <= covered <= 0.985 * 250


def test_different_chances() -> None:
    """Weights dropped on the way: users with a greater chance count as often as the others."""
    rng = np.random.default_rng(12)
    estimates = []
    for _ in range(200):
        busy = rng.random(1000) < 0.5
        chance = np.where(busy, 0.9, 0.5)
        arm = rng.random(1000) < chance
        effect = np.where(busy, 0.2, 0.0)
        came = (rng.random(1000) < 0.3 + effect * arm).astype(float)
        noise = rng.normal(size=(1000, 1))  # says nothing of who is busy
        chances = np.where(arm, chance, 1 - chance)
        estimates.append(adjusted_estimates(came, arm, noise, chances)[0].value)
    assert np.mean(estimates) == pytest.approx(0.1, abs=0.01)


def test_useless_covariates_are_left_out() -> None:
    """A division by a spread of zero, a covariate twice, one that is constant in an arm, one odd."""
    rng = np.random.default_rng(13)
    n = 200
    arm = np.arange(n) < 100
    y = rng.random(n)
    x = rng.normal(size=n)
    plain = mean_difference(y[arm], y[~arm])
    nothing = np.column_stack(
        [np.zeros(n), np.full(n, 7.0), arm * 1.0, arm * x, np.full(n, np.nan)]
    )
    estimate = adjusted_estimates(y, arm, nothing)[0]
    assert (estimate.value, estimate.low) == (plain.value, plain.low)
    once = adjusted_estimates(y, arm, x[:, None])[0]
    twice = adjusted_estimates(y, arm, np.column_stack([np.zeros(n), x, 2 * x + 1]))[0]
    assert (once.value, once.high) == pytest.approx((twice.value, twice.high))


@pytest.mark.parametrize("control", [1, 2, ROWS_PER_COVARIATE - 1, ROWS_PER_COVARIATE])
def test_small_arms(control: int) -> None:
    """As many coefficients as rows: an interval of no width around whatever came out."""
    rng = np.random.default_rng(control)
    arm = np.arange(100 + control) < 100
    y, x = rng.random(100 + control), rng.normal(size=(100 + control, 4))
    estimate = adjusted_estimates(y, arm, x)[0]
    plain = mean_difference(y[arm], y[~arm])
    if control < ROWS_PER_COVARIATE:
        assert estimate == plain
    else:
        assert estimate.low is not None and plain.low is not None
        assert width(estimate) > 0.5 * width(plain)


def test_nobody_returned_at_all() -> None:
    """A perfect fit taken for certainty."""
    arm = np.arange(100) < 50
    estimate = adjusted_estimates(np.zeros(100), arm, np.arange(100.0)[:, None])[0]
    assert estimate.value == pytest.approx(0) and estimate.low is None
