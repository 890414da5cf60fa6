"""Maps from raw scores to probabilities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usergrowth_dagster.learning.calibration import apply_knots, choose_method, fit_knots, logit
from usergrowth_dagster.learning.metrics import evaluate


def _ece(label, p):
    return evaluate(label, {"m": p}, resamples=0).metrics["m"]["ece"].value


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    rows=st.integers(30, 5000),
    method=st.sampled_from(["identity", "sigmoid", "isotonic"]),
)
def test_a_map_keeps_the_order_and_stays_within_bounds(seed, rows, method):
    """Guards against calibration that ties or reorders users, which a top-n selection would feel."""
    rng = np.random.default_rng(seed)
    raw = rng.beta(1, 3, rows)
    label = (rng.random(rows) < raw**2).astype(int)
    label[:2] = [0, 1]
    knots = fit_knots(raw, label, method)
    grid = np.linspace(0.001, 0.999, 500)
    mapped = apply_knots(grid, knots)
    assert (np.diff(mapped) >= 0).all() and (mapped > 0).all() and (mapped < 1).all()
    assert len(np.unique(mapped)) > 450


@pytest.mark.parametrize(
    ("distort", "expected"), [(lambda z: 2.5 * z + 1, "sigmoid"), (lambda z: z, "identity")]
)
def test_the_simplest_sufficient_map_is_chosen_and_heals(distort, expected):
    """Guards against scores left distorted, and against a map that only adds noise to good ones."""
    rng = np.random.default_rng(3)
    p = rng.beta(2, 3, 12_000)
    label = (rng.random(12_000) < p).astype(int)
    raw = 1 / (1 + np.exp(-distort(logit(p))))
    fit, new = slice(0, 6000), slice(6000, None)
    method = choose_method(raw[fit], label[fit])
    assert method == expected
    healed = apply_knots(raw[new], fit_knots(raw[fit], label[fit], method))
    assert _ece(label[new], healed) < 0.02


def test_a_small_but_sure_shift_is_mapped_and_a_stand_ins_is_not():
    """Guards against a test too weak to see what 8,000 rows show, and against copying fold noise."""
    rng = np.random.default_rng(3)
    truth = rng.beta(1.5, 2.5, 8000)
    label = (rng.random(8000) < truth).astype(int)
    flat = 1 / (1 + np.exp(-logit(truth) / 1.12))
    assert choose_method(flat, label) == "sigmoid"
    assert choose_method(flat, label, same_model=False) == "identity"
    assert choose_method(truth, label) == "identity"


def test_isotonic_heals_what_a_sigmoid_cannot():
    """Guards against a bent curve being called calibrated."""
    rng = np.random.default_rng(4)
    raw = rng.random(20_000)
    truth = 0.1 + 1.3 * np.maximum(raw - 0.4, 0)
    label = (rng.random(20_000) < truth).astype(int)
    fit, new = slice(0, 10_000), slice(10_000, None)
    assert choose_method(raw[fit], label[fit]) == "isotonic"
    bent = apply_knots(raw[new], fit_knots(raw[fit], label[fit], "isotonic"))
    straight = apply_knots(raw[new], fit_knots(raw[fit], label[fit], "sigmoid"))
    assert _ece(label[new], bent) < 0.02 < _ece(label[new], straight)


def test_few_or_one_sided_rows_do_not_break_it():
    """Guards against a division by zero when a run of rows holds one class only."""
    label = np.r_[np.zeros(50, int), np.ones(5, int)]
    assert choose_method(np.linspace(0.1, 0.5, 55), label) in ("identity", "sigmoid")
    knots = fit_knots(np.full(10, 0.3), np.r_[np.ones(3), np.zeros(7)], "sigmoid")
    assert apply_knots(np.array([0.3]), knots)[0] == pytest.approx(0.3, abs=0.1)
