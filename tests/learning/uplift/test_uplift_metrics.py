"""Qini and AUUC are scikit-uplift's, weighted ones undo unequal propensities, intervals cover."""

import warnings
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usergrowth_dagster.learning.uplift.curves import area, arms, curve
from usergrowth_dagster.learning.uplift.metrics import evaluate_uplift

sklift = pytest.importorskip("sklift.metrics")


@st.composite
def samples(draw: st.DrawFn) -> tuple[Any, Any, Any]:
    """Outcomes, arms and scores: few rows or many, ties, arms and outcomes of any imbalance."""
    rows = draw(st.integers(4, 80))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    treated = (rng.random(rows) < draw(st.sampled_from([0.05, 0.5, 0.9]))).astype(int)
    treated[:2] = [0, 1]
    y = (rng.random(rows) < draw(st.sampled_from([0.1, 0.5, 0.9]))).astype(int)
    y[2:4] = [0, 1]
    levels = draw(st.sampled_from([1, 2, 5, 1000]))
    return y, treated, rng.integers(0, levels, rows).astype(float)


@settings(max_examples=200, deadline=None)
@given(samples())
def test_equal_to_scikit_uplift(sample: tuple[Any, Any, Any]) -> None:
    """A Qini of another normalization, or one that takes tied rows one by one, compares nothing."""
    y, treated, score = sample
    rows = arms(y, treated)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for kind, points in (("qini", sklift.qini_curve), ("auuc", sklift.uplift_curve)):
            drawn, expected = curve(rows, score, kind), points(y, score, treated)  # type: ignore[arg-type]
            np.testing.assert_allclose(drawn, expected, atol=1e-9)
            whole = np.trapezoid(expected[1], expected[0])
            triangle = len(y) * expected[1][-1] / 2
            raw = area(rows, score, kind, normalized=False)  # type: ignore[arg-type]
            assert raw == pytest.approx(whole - triangle, abs=1e-8)
        wanted = {("qini", True): sklift.qini_auc_score, ("auuc", True): sklift.uplift_auc_score}
        if curve(rows, score)[1][-1] > 1e-9:  # else it has no best curve, and refuses
            wanted["qini", False] = partial(sklift.qini_auc_score, negative_effect=False)
        for (kind, negative), of in wanted.items():
            ours = area(rows, score, kind, negative_effect=negative)  # type: ignore[arg-type]
            try:
                value = of(y, score, treated)
            except ZeroDivisionError:  # the best ranking is no better than chance
                assert np.isnan(ours)
            else:
                assert ours == pytest.approx(value, abs=1e-8, rel=1e-8)


def world(rows: int, seed: int, chance: Any = None) -> tuple[Any, ...]:
    """A feature in [0, 1], both arms and returns of which .1 + .2 x feature is the text's doing."""
    rng = np.random.default_rng(seed)
    x = rng.random(rows)
    e = np.full(rows, 0.5) if chance is None else chance(x)
    treated = rng.random(rows) < e
    y = rng.random(rows) < 0.2 + 0.2 * x * treated
    return x, e, treated, y


def test_unequal_propensities_are_undone() -> None:
    """Where those who gain most are texted most, an unweighted curve mistakes the draw."""
    x, _, treated, y = world(200_000, 1)
    truth = evaluate_uplift(arms(y, treated), {"x": x}, resamples=0).metrics["x"]
    x, e, treated, y = world(200_000, 2, lambda x: 0.1 + 0.8 * x)
    weighted = evaluate_uplift(arms(y, treated, e), {"x": x}, resamples=0).metrics["x"]
    plain = evaluate_uplift(arms(y, treated), {"x": x}, resamples=0).metrics["x"]
    for metric, near in (("auuc_area", 0.002), ("uplift_top_20", 0.02)):
        assert weighted[metric].value == pytest.approx(truth[metric].value, abs=near)
    assert weighted["qini_area"].value == pytest.approx(truth["qini_area"].value, abs=0.001)
    assert abs(plain["qini_area"].value - truth["qini_area"].value) > 0.005


def test_a_true_ranking_lies_above_chance_and_a_useless_one_does_not() -> None:
    """An interval too narrow, or not paired, lets a ranking without worth through."""
    x, _, treated, y = world(20_000, 3)
    useless = np.random.default_rng(4).random(len(x))
    users = np.arange(len(x)) // 2
    evaluation = evaluate_uplift(
        arms(y, treated), {"x": x, "near": x + useless * 0.2, "useless": useless}, users,
        resamples=200, seed=5,
    )  # fmt: skip
    figures = evaluation.metrics
    assert figures["x"]["qini"].low > max(0, figures["random"]["qini"].high)
    assert figures["useless"]["qini"].low < 0 < figures["useless"]["qini"].high
    assert abs(figures["random"]["qini"].value) < 0.01
    paired = evaluation.difference("qini", "x", "near")
    assert paired.high - paired.low < figures["x"]["qini"].high - figures["x"]["qini"].low
    again = evaluate_uplift(arms(y, treated), {"x": x}, users, resamples=200, seed=5)
    assert again.metrics["x"] == figures["x"]


def test_users_are_drawn_whole() -> None:
    """Rows of one user drawn apart give an interval narrower than what is known."""
    x, _, treated, y = world(2_000, 6)
    rows = arms(*(np.repeat(values, 10) for values in (y, treated)))
    many = {"x": np.repeat(x, 10)}
    users = np.repeat(np.arange(len(x)), 10)
    by_user = evaluate_uplift(rows, many, users, resamples=200).metrics["x"]["qini"]
    by_row = evaluate_uplift(rows, many, resamples=200).metrics["x"]["qini"]
    assert by_user.high - by_user.low > 2 * (by_row.high - by_row.low)


@pytest.mark.parametrize(
    ("y", "treated", "propensity"),
    [
        ([0, 1], [0, 1, 1], None),
        ([0, 2, 1], [0, 1, 1], None),
        ([0, 1, 1], [1, 1, 1], None),
        ([], [], None),
        ([0, 1, 1], [0, 1, 1], [0.5, 1.0, 0.5]),
        ([0, 1, 1], [0, 1, 1], [0.5, np.nan, 0.5]),
    ],
)
def test_what_cannot_be_evaluated_is_refused(y: Any, treated: Any, propensity: Any) -> None:
    """A curve of a sample with one arm, or of a treated person who had no other chance."""
    with pytest.raises(ValueError, match=r"must|both arms"):
        arms(np.array(y), np.array(treated), None if propensity is None else np.array(propensity))
    with pytest.raises(ValueError, match="finite"):
        curve(arms(np.array([0, 1]), np.array([0, 1])), np.array([np.nan, 1.0]))
