"""Mean amounts of arms in which few pay: intervals that hold the truth, or none."""

from typing import Any

import numpy as np
import pytest
from effect_rows import outcomes, plan
from hypothesis import given, settings
from hypothesis import strategies as st

from usergrowth_dagster.effects.amounts import amount_difference
from usergrowth_dagster.effects.analysis import analyse
from usergrowth_dagster.effects.cuped import adjusted_amounts, adjusted_estimates
from usergrowth_dagster.effects.lift import mean_difference


def campaign(
    rng: np.random.Generator, arms: tuple[int, int], share: float, spread: float
) -> tuple[Any, Any, Any]:
    """Amounts, arms and two covariates of a campaign without an effect."""
    n = sum(arms)
    treated = np.zeros(n, bool)
    treated[rng.permutation(n)[: arms[0]]] = True
    busy, kind = rng.exponential(1, n), rng.normal(size=n)
    paid = rng.random(n) < np.minimum(1, share * (0.5 + 0.5 * busy))
    amounts = paid * np.exp(3 + spread * (0.6 * kind + 0.8 * rng.normal(size=n)))
    return amounts, treated, np.column_stack([busy, np.exp(kind)])


@pytest.mark.parametrize(
    ("arms", "share", "spread", "shown"),
    [
        ((450, 50), 0.02, 0.8, 0.0),
        ((900, 100), 0.02, 0.8, 0.0),
        ((2700, 300), 0.005, 0.8, 0.0),
        ((2700, 300), 0.02, 0.8, 0.0),
        ((2700, 300), 0.05, 0.8, 0.9),
        ((900, 100), 0.2, 0.8, 0.9),
        ((900, 900), 0.02, 0.8, 0.8),
        ((900, 100), 0.5, 1.2, 0.8),
    ],
)
def test_an_interval_holds_the_truth_or_is_not_shown(
    arms: tuple[int, int], share: float, spread: float, shown: float
) -> None:
    """Amounts of a few payers are said to differ in up to 34 % of campaigns without an effect."""
    rng = np.random.default_rng(71)
    rounds = 250
    estimates_by_method: dict[str, list[Any]] = {"plain": [], "weighted": [], "adjusted": []}
    for _ in range(rounds):
        amounts, treated, before = campaign(rng, arms, share, spread)
        chances = np.where(treated, arms[0], arms[1]) / sum(arms)
        estimates_by_method["plain"].append(amount_difference(amounts, treated))
        estimates_by_method["weighted"].append(amount_difference(amounts, treated, chances))
        estimates_by_method["adjusted"].append(adjusted_amounts(amounts, treated, before))
    assert [e.low for e in estimates_by_method["plain"]] == pytest.approx(
        [e.low for e in estimates_by_method["weighted"]]
    )
    for name, estimates in estimates_by_method.items():
        bounded = [e for e in estimates if e.low is not None]
        assert shown * rounds <= len(bounded) <= (rounds if shown else 0.02 * rounds), name
        for sides in ([e.low > 0 for e in bounded], [e.high < 0 for e in bounded]):
            assert sum(sides) <= 0.06 * rounds, name


def test_large_arms_are_welch_and_p_values_are_the_intervals() -> None:
    """An interval that large arms do not need, or a p-value that says otherwise than it does."""
    rng = np.random.default_rng(72)
    amounts = (rng.random(40_000) < 0.4) * rng.lognormal(3, 0.7, 40_000)
    treated = np.arange(40_000) % 2 == 0
    estimate, welch = (
        amount_difference(amounts, treated),
        mean_difference(amounts[treated], amounts[~treated]),
    )
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx(
        (welch.value, welch.low, welch.high),
        abs=0.02 * (welch.high - welch.low),  # type: ignore[operator]
    )
    assert estimate.p_value == pytest.approx(welch.p_value, abs=0.02)
    for _ in range(40):
        amounts, treated, _before = campaign(rng, (200, 100), 0.4, 0.8)
        amounts = amounts * np.where(treated, rng.uniform(0.5, 2), 1)
        estimate = amount_difference(amounts, treated)
        assert estimate.p_value is not None
        assert estimate.excludes_zero() == (estimate.p_value < 0.05)
        at_p = amount_difference(amounts, treated, level=1 - estimate.p_value)
        assert at_p.low is not None and at_p.high is not None
        assert min(abs(at_p.low), abs(at_p.high)) < 1e-4 * abs(at_p.high - at_p.low)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 1), st.floats(1e-6, 1e6), st.sampled_from([0.5, 2]))
def test_any_amounts(seed: int, share: float, unit: float, level: float) -> None:
    """A figure that depends on the currency, a bound on the wrong side, an infinite one."""
    rng = np.random.default_rng(seed)
    arms = (int(rng.integers(1, 300)), int(rng.integers(1, 300)))
    amounts, treated, _ = campaign(rng, arms, share, float(rng.uniform(0, 3)))
    amounts = amounts - (rng.random(sum(arms)) < 0.05) * rng.choice([0, 30])  # some give back
    level = 0.9999 if level > 1 else level
    estimate = amount_difference(amounts, treated, level=level)
    scaled = amount_difference(amounts * unit, treated, level=level)
    assert scaled.value == pytest.approx(unit * estimate.value, abs=1e-9 * unit)
    assert (scaled.low is None) == (estimate.low is None)
    if estimate.low is not None and estimate.high is not None:
        assert estimate.low <= estimate.value <= estimate.high
        assert np.isfinite([estimate.low, estimate.high]).all()
        assert scaled.high == pytest.approx(unit * estimate.high, rel=1e-6, abs=1e-6 * unit)


def test_too_few_payers_have_no_interval_of_profit() -> None:
    """The profit of three buyers is shown with an interval above zero."""
    rng = np.random.default_rng(73)
    arm = np.arange(500) >= 50
    came = np.zeros(500, bool)
    came[[60, 200, 300, 400, 410, 420, 450, 480]] = True
    amounts = came * rng.lognormal(4, 0.3, 500)
    rows = outcomes(arm, came, share=0.1, amount=amounts)
    effect = analyse(rows, plan(has_amount=True))
    assert effect.money.profit is not None and effect.contrasts[0].value is not None
    assert effect.money.profit.value > 0 and effect.money.profit.low is None
    assert mean_difference(amounts[arm], amounts[~arm]).low > 0  # type: ignore[operator]


def test_an_adjusted_mean_near_none() -> None:
    """OverflowError in a report, where a covariate takes nearly all of an arm's mean away."""
    rng = np.random.default_rng(5399)
    events = rng.pareto(1.5, 1000)
    days = np.minimum(28, rng.poisson(np.minimum(events, 50)))
    spent = events * rng.lognormal(2, 1, 1000)
    score = 1 / (1 + np.exp(-(np.log1p(events) - 1)))
    came = rng.random(1000) < 0.03 * (0.5 + score)
    arm = np.zeros(1000, bool)
    arm[rng.permutation(1000)[:900]] = True
    before = np.column_stack([score, days, events, spent])
    _, change = adjusted_estimates(came * spent, arm, before)
    assert change is not None and change.low is None
