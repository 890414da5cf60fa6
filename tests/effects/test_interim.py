"""Errors spent over several looks and several texts."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from usergrowth_dagster.effects.interim import (
    FARTHEST,
    analyses_due,
    analysis_day,
    boundaries,
    holm,
    level_of_analysis,
    spent,
)

pytestmark = pytest.mark.usefixtures("few_objects")  # statsmodels collects garbage at each call


def test_published_boundaries() -> None:
    """Boundaries that spend too much: the five-look table of Lan and DeMets' O'Brien-Fleming type."""
    times = [0.2, 0.4, 0.6, 0.8, 1.0]
    assert boundaries(times, times) == pytest.approx(
        [4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-4
    )
    assert boundaries([0.5, 1.0], [0.5, 1.0]) == pytest.approx([2.9626, 1.9686], abs=2e-4)
    assert boundaries([1.0], [3.0]) == pytest.approx([1.959964])
    assert spent(1.0, 0.05) == pytest.approx(0.05) and spent(0.0, 0.05) == 0.0


@pytest.mark.parametrize(
    ("shares", "information"),
    [
        ([0.2, 0.4, 0.6, 0.8, 1.0], [0.05, 0.3, 0.35, 0.36, 1.0]),
        ([0.25, 0.5, 0.75, 1.0], [1.0, 1.0, 1.0, 1.0]),
        ([0.1, 0.2, 0.9, 1.0], [0.01, 0.9, 0.9, 0.9001]),
        ([k / 12 for k in range(1, 13)], [k**2 for k in range(1, 13)]),
    ],
)
def test_error_of_all_looks(shares: list[float], information: list[float]) -> None:
    """More error than was planned when returns do not come evenly, or none come between two looks."""
    c = np.array(boundaries(shares, information))
    rng = np.random.default_rng(21)
    steps = np.sqrt(np.maximum(np.diff([0.0, *information]), 0))
    walk = (rng.normal(size=(300_000, len(c))) * steps).cumsum(1) / np.sqrt(information)
    crossed = (np.abs(walk) >= c).any(1).mean()
    assert crossed == pytest.approx(0.05, abs=0.0013)
    assert (c <= FARTHEST).all() and (c > 0).all()


def test_many_looks() -> None:
    """A loss of precision, or minutes of reckoning, at the most looks that a campaign may plan."""
    times = [k / 50 for k in range(1, 51)]
    c = boundaries(times, times)
    assert c[0] == FARTHEST
    assert all(a >= b for a, b in itertools.pairwise(c))
    assert 2.1 < c[-1] < 2.25


def test_level_of_a_look_does_not_change_afterwards() -> None:
    """An early look's level that depends on what came after it."""
    rng = np.random.default_rng(22)
    days = np.where(rng.random(1000) < 0.4, rng.integers(1, 29, 1000), np.inf)
    seen = np.where(days <= 14, days, np.inf)
    assert level_of_analysis(2, 4, 28, days) == level_of_analysis(2, 4, 28, seen)
    assert level_of_analysis(1, 1, 28, days) == level_of_analysis(0, 4, 28, days) == 0.95
    levels = [level_of_analysis(k, 4, 28, days) for k in (1, 2, 3, 4)]
    assert levels == sorted(levels, reverse=True) and 0.95 < levels[-1] < levels[0] < 1
    assert 0.95 < level_of_analysis(3, 4, 28, np.full(50, np.inf)) < 1  # nobody has returned
    assert 0.95 < level_of_analysis(3, 4, 28, np.ones(50)) < 1  # everybody on the first day


@settings(deadline=None)
@given(st.integers(1, 50), st.integers(1, 365))
def test_planned_days(looks: int, return_days: int) -> None:
    """More looks than were planned, or a last look before the window has ended."""
    days = [analysis_day(k, looks, return_days) for k in range(1, looks + 1)]
    assert days[-1] == return_days and days[0] >= 1
    assert days == sorted(days)
    reached = [analyses_due(landed, looks, return_days) for landed in range(return_days + 2)]
    assert reached[0] == 0 and reached[return_days] == looks == reached[-1]
    assert len(set(reached)) <= looks + 1


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_his_steps_reject(p_values: list[float]) -> None:
    """Guards against p-values of several texts as if there were one."""
    steps = [min(1.0, (len(p_values) - rank) * p) for rank, p in enumerate(sorted(p_values))]
    every = holm(p_values)
    for p, adjusted in zip(p_values, every, strict=True):
        place = sorted(p_values).index(p)  # where values are equal, the first step is the largest
        assert adjusted == pytest.approx(max(steps[: place + 1]))
    mixed = [p for value in p_values for p in (value, None)]
    among_others = holm(mixed)
    assert among_others[::2] == every and set(among_others[1::2]) == {None}


@pytest.mark.parametrize("level", [0.95, 0.9])
def test_the_level_of_two_analyses_is_that_of_their_boundaries(level: float) -> None:
    """A level that leaves out those who return on the day of an analysis, or reckons with other
    information than the odds of a return, and so claims an effect too often or too seldom."""
    days = np.array([3.0] * 15 + [14.0] * 5 + [28.0] * 30 + [np.inf] * 50)
    odds = [20.5 / 80.5, 50.5 / 50.5]  # with half a return more on both sides
    for number in (1, 2):
        c = boundaries([0.5, 1.0][:number], odds[:number], 1 - level)[-1]
        actual = level_of_analysis(number, 2, 28, days, level)
        assert actual == pytest.approx(stats.chi2.cdf(c**2, 1), abs=1e-9)
    assert level_of_analysis(1, 1, 28, days, level) == level
