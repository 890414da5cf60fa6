"""Maps from raw scores to probabilities."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usergrowth_dagster.learning.calibration import (
    AGAIN,
    LEVEL,
    METHODS,
    RAW,
    Held,
    _sigmoid,
    apply_knots,
    choose_method,
    fit_knots,
    level_of,
    logit,
    replayed,
    shift_level,
)
from usergrowth_dagster.learning.metrics import evaluate


def _ece(label, p):
    return evaluate(label, {"m": p}, resamples=0).metrics["m"]["ece"].value


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    rows=st.integers(30, 5000),
    method=st.sampled_from(["identity", "offset", "sigmoid", "isotonic"]),
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


def _drifting(levels, rows=1500, slope=1.0, seed=7):
    """Weekly blocks of held rows, each with a level of its own: raw scores, labels, days."""
    rng = np.random.default_rng(seed)
    raw = rng.beta(2, 3, (len(levels), rows))
    p = 1 / (1 + np.exp(-(slope * logit(raw) + np.array(levels)[:, None])))
    label = (rng.random(p.shape) < p).astype(int)
    first = np.datetime64("2024-01-01", "D")
    day = np.repeat(first + np.arange(len(levels)) * np.timedelta64(7, "D"), rows)
    return raw.ravel(), label.ravel(), day


@pytest.mark.parametrize(
    ("levels", "slope", "expected"),
    [
        ([0.5, -0.4, 0.45, -0.5, 0.4, -0.45], 1.0, "identity"),  # it comes and goes
        ([0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 1.0, "identity"),
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5], 1.0, "offset"),
        ([0.3, 0.4, 0.5, 0.6, 0.7, 0.8], 1.0, "offset"),  # activity falls apart
        ([0.2, 0.2, 0.2, 0.2, 0.2, 0.2], 0.5, "sigmoid"),
    ],
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_level_that_moves_between_stretches_is_no_map(levels, slope, expected, seed):
    """Guards against a map that copies what one stretch of time shows and the next does not."""
    raw, label, day = _drifting(levels, slope=slope, seed=seed)
    assert choose_method(raw, label, day, horizon_days=7) == expected


def test_a_map_never_sees_labels_that_were_open():
    """Guards against figures of maps that know the days that they are judged on."""
    raw, label, day = _drifting([0.6] * 8)
    weeks = np.unique(day)
    before = day < weeks[4]
    held_out = Held(raw[before], label[before], day[before])
    test = Held(raw[~before], label[~before], day[~before])
    keys = {"horizon_days": 14, "level_days": 7}
    first = replayed(held_out, test, "offset", **keys)
    late = test.day >= weeks[6]  # their labels are open on the last stretch's first morning
    other = replace(test, label=np.where(late, 1 - test.label, test.label))
    again = replayed(held_out, other, "offset", **keys)
    for way in (AGAIN, LEVEL):
        assert np.array_equal(first[way], again[way])
        assert _ece(test.label, first[way]) < 0.03 < _ece(test.label, first[RAW])
    early = replace(held_out, label=1 - held_out.label)
    assert not np.array_equal(replayed(early, test, "offset", **keys)[AGAIN], first[AGAIN])


def test_the_level_is_that_of_the_newest_labels_of_both_classes():
    """Guards against a level of three labels, and of a whole year where a week is enough."""
    raw, label, day = _drifting([0.0] * 5 + [1.0], rows=400)
    rows = Held(raw, label, day)
    assert len(rows.newest(8).label) == 800 and len(rows.newest(7).label) == 400
    assert len(rows.newest(1).label) == 400
    assert level_of(rows.newest(1).score, rows.newest(1).label) == pytest.approx(1.0, abs=0.25)
    one_sided = replace(rows, label=np.zeros_like(label))
    assert len(one_sided.newest(7).label) == 0


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


def test_scores_of_0_and_1_have_a_place_on_the_logit_scale():
    """Guards against an infinite logit, which makes each probability of a run not a number."""
    end = np.log(1e-6 / (1 - 1e-6))
    assert logit([0, 1e-9, 1e-6, 0.5]) == pytest.approx([end, end, end, 0])
    assert logit([1, 1 - 1e-9, 1 - 1e-6]) == pytest.approx([-end, -end, -end])
    raw = np.r_[np.zeros(300), np.full(400, 0.5), np.ones(300)]
    label = np.r_[np.zeros(290), np.ones(10), np.tile([0, 1], 200), np.zeros(10), np.ones(290)]
    for method in METHODS:
        sure = apply_knots(np.array([0.0, 1.0]), fit_knots(raw, label, method))
        assert 0 < sure[0] < 0.5 < sure[1] < 1


def test_a_sigmoid_holds_for_every_score():
    """Guards against a map that heals the middle and leaves the surest scores as they were."""
    rng = np.random.default_rng(5)
    raw = rng.random(20_000)
    label = (rng.random(20_000) < 1 / (1 + np.exp(-(0.4 * logit(raw) - 1)))).astype(int)
    x, y = fit_knots(raw, label, "sigmoid")
    slope = (y[-1] - y[0]) / (x[-1] - x[0])
    assert slope == pytest.approx(0.4, abs=0.03)
    surest = np.array([1e-6, 1e-4, 0.9999, 1 - 1e-6])
    assert logit(apply_knots(surest, (x, y))) == pytest.approx(
        y[0] + slope * (logit(surest) - x[0])
    )


@pytest.mark.parametrize("spread", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("true", [(-1, 0.4), (0, 1), (0.5, 1.5), (-2, 0.8)])
def test_a_sigmoid_is_the_logistic_regression_also_of_extreme_scores(spread, true):
    """Newton steps that go back and forth, so that the map is wherever the last one ended."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(1)
    scores = np.clip(rng.beta(spread, spread, 4000), 1e-9, 1 - 1e-9)
    z = np.log(scores / (1 - scores))
    y = (rng.random(4000) < 1 / (1 + np.exp(-(true[0] + true[1] * z)))).astype(float)
    softened = np.where(y > 0, (y.sum() + 1) / (y.sum() + 2), 1 / ((1 - y).sum() + 2))
    fit = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        np.r_[z, z][:, None],
        np.r_[np.ones(len(y)), np.zeros(len(y))],
        sample_weight=np.r_[softened, 1 - softened],
    )
    assert _sigmoid(z, y) == pytest.approx((fit.intercept_[0], fit.coef_[0, 0]), abs=1e-4)


def test_scores_beyond_those_that_were_seen_go_on_in_parallel():
    """Guards against an isotonic map that ties all users whose scores pass its last block."""
    rng = np.random.default_rng(6)
    raw = rng.uniform(0.3, 0.6, 8000)
    label = (rng.random(8000) < raw).astype(int)
    x, y = fit_knots(raw, label, "isotonic")
    beyond = np.array([0.01, 0.1, 0.8, 0.99])
    ends = np.array([y[0] - x[0], y[0] - x[0], y[-1] - x[-1], y[-1] - x[-1]])
    assert logit(apply_knots(beyond, (x, y))) == pytest.approx(logit(beyond) + ends)


@pytest.mark.parametrize("method", ["offset", "sigmoid"])
def test_a_map_never_turns_the_order_around(method):
    """Guards against a model worse than chance whose lowest scores are called the highest."""
    rng = np.random.default_rng(7)
    raw = rng.random(4000)
    label = (rng.random(4000) < 0.6 - 0.4 * raw).astype(int)
    x, y = fit_knots(raw, label, method)
    assert y[-1] - y[0] == pytest.approx(x[-1] - x[0])
    assert apply_knots(raw, (x, y)).mean() == pytest.approx(label.mean(), abs=0.01)


@pytest.mark.parametrize(("score", "positives"), [(0.9999, 20), (0.0001, 980), (0.5, 1)])
def test_a_level_that_is_far_off_is_reached(score, positives):
    """Guards against steps of Newton's method that leap over the answer and never come back."""
    label = np.r_[np.ones(positives), np.zeros(1000 - positives)]
    level = level_of(np.full(1000, score), label)
    assert shift_level(np.array([score]), level)[0] == pytest.approx(positives / 1000, abs=0.002)
