"""Figures equal to scikit-learn's, and intervals that cover."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from usergrowth_dagster.learning.metrics import (
    Ranked,
    as_interval,
    curves,
    evaluate,
    gains,
    means,
    reliability,
    resample_weights,
)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(5, 300),
    levels=st.sampled_from([2, 5, 50, 10_000]),
    weighted=st.booleans(),
)
def test_weighted_figures_equal_sklearn_with_ties(seed, rows, levels, weighted):
    """Guards against ties or resampling weights counted otherwise than the standard library does."""
    rng = np.random.default_rng(seed)
    score = rng.integers(0, levels + 1, rows) / levels
    label = (rng.random(rows) < 0.4).astype(float)
    label[:2] = [0, 1]
    weights = rng.integers(0, 4, rows).astype(float) if weighted else np.ones(rows)
    weights[:2] = 1
    ranked = Ranked(label, score, probability=True)
    got = {
        name: float(value[0]) for name, value in ranked.figures(weights[None, ranked.order]).items()
    }
    clipped = np.clip(score, 1e-15, 1 - 1e-15)
    assert got["auc"] == pytest.approx(roc_auc_score(label, score, sample_weight=weights))
    assert got["pr_auc"] == pytest.approx(
        average_precision_score(label, score, sample_weight=weights)
    )
    assert got["log_loss"] == pytest.approx(log_loss(label, clipped, sample_weight=weights))


def test_a_resample_equals_the_repeated_rows():
    """Guards against weights that land on the wrong rows: a draw must equal its written-out sample."""
    rng = np.random.default_rng(1)
    users = rng.integers(0, 30, 200)
    label, score = (rng.random(200) < 0.3).astype(float), np.round(rng.random(200), 1)
    evaluation = evaluate(label, {"m": score}, users, resamples=25, seed=3)
    weights = np.concatenate(
        list(resample_weights(np.unique(users, return_inverse=True)[1], 25, 3))
    )
    for draw, row in enumerate(weights):
        assert len({(u, w) for u, w in zip(users, row, strict=True)}) == 30, (
            "a user is drawn as a whole"
        )
        repeated = np.repeat(np.arange(200), row.astype(int))
        again = evaluate(label[repeated], {"m": score[repeated]}, resamples=0).metrics["m"]
        for metric in ("auc", "pr_auc", "log_loss", "capture_10", "capture_40", "lift_20"):
            assert evaluation.draws["m"][metric][draw] == pytest.approx(again[metric].value), metric


def test_as_many_resamples_are_drawn_as_were_asked_for():
    """Guards against blocks of resamples that overlap the end, or that leave users out."""
    users = np.arange(3_000) % 1_500
    blocks = list(resample_weights(users, 150, 1))
    assert len(blocks) > 1 and sum(len(block) for block in blocks) == 150
    assert all((block.sum(axis=1) == 3_000).all() for block in blocks)
    assert np.concatenate(blocks).sum(axis=0).min() > 0, "somebody is never drawn"
    assert len({tuple(row) for block in blocks for row in block}) == 150
    label, score = (users % 3 == 0).astype(float), users / 1_500
    draws = evaluate(label, {"m": score}, users, resamples=150).draws["m"]
    assert {len(values) for values in draws.values()} == {150}


def test_means_are_those_of_whole_users():
    """Guards against an interval of rows where a user has many, or a mean of one column for both."""
    rng = np.random.default_rng(2)
    users = np.repeat(np.arange(400), 10)
    share = np.repeat(rng.random(400) < 0.3, 10).astype(float)  # the same in all rows of a user
    bias = rng.normal(-2, 1, 4_000)
    figures = means({"share": share, "bias": bias}, users, resamples=400, seed=1)
    for name, values in {"share": share, "bias": bias}.items():
        of_user = values.reshape(400, 10).mean(axis=1)
        width = 2 * 1.96 * of_user.std() / 400**0.5
        assert figures[name].value == pytest.approx(values.mean())
        assert figures[name].low < values.mean() < figures[name].high
        assert figures[name].high - figures[name].low == pytest.approx(width, rel=0.15), name


def test_twenty_resamples_have_an_interval_and_fewer_have_none():
    """Guards against bounds from a handful of draws, or from those that could not be computed."""
    draws = np.arange(20.0)
    interval = as_interval(9.5, draws)
    assert (interval.low, interval.high) == tuple(np.percentile(draws, [2.5, 97.5]))
    for few in (draws[1:], np.where(draws > 0, draws, np.nan), np.where(draws > 0, draws, np.inf)):
        assert np.isnan([as_interval(9.5, few).low, as_interval(9.5, few).high]).all()
    users = np.arange(60)
    label, score = (users % 3 == 0).astype(float), (users * 7 % 60) / 60
    for resamples in (0, 19):
        figures = [
            *evaluate(label, {"m": score}, users, resamples=resamples).metrics["m"].values(),
            *means({"share": label}, users, resamples=resamples).values(),
            *(gain.capture for gain in gains(label, score, users, resamples=resamples)),
        ]
        assert np.isnan([[one.low, one.high] for one in figures]).all()
        assert np.isfinite([one.value for one in figures]).all()


def test_capture_and_lift_by_hand():
    """Guards against capture that depends on the order of tied rows, or rounds the share of rows."""
    label = np.array([1, 1, 0, 0, 1, 0, 0, 0, 0, 0])
    score = np.array([0.9, 0.8, 0.7, 0.7, 0.7, 0.7, 0.2, 0.1, 0.1, 0.0])
    figures = evaluate(label, {"m": score}, resamples=0).metrics["m"]
    assert figures["capture_10"].value == pytest.approx(1 / 3)
    assert figures["capture_20"].value == pytest.approx(2 / 3)
    assert figures["capture_40"].value == pytest.approx((2 + 0.5) / 3)  # half of the four tied rows
    assert figures["lift_20"].value == pytest.approx(10 / 3)
    flat = evaluate(label, {"m": np.full(10, 0.3)}, resamples=0).metrics["m"]
    assert flat["auc"].value == 0.5 and flat["lift_40"].value == pytest.approx(1)
    assert flat["ece"].value == pytest.approx(0)


def test_auc_within_groups_equals_the_weighted_mean():
    """Guards against pairs across campaigns counting, and one-class campaigns spoiling the mean."""
    rng = np.random.default_rng(5)
    group = rng.integers(0, 6, 400)
    score = np.round(rng.random(400) + group, 1)
    label = (rng.random(400) < 0.3).astype(float)
    label[group == 4] = 0
    parts = [
        (np.sum(group == g), roc_auc_score(label[group == g], score[group == g]))
        for g in range(6)
        if g != 4
    ]
    expected = sum(n * a for n, a in parts) / sum(n for n, _ in parts)
    figures = evaluate(
        label, {"m": score}, groups=group, not_probabilities=["m"], resamples=0
    ).metrics["m"]
    assert figures["auc_within"].value == pytest.approx(expected)
    assert "ece" not in figures and "log_loss" not in figures


def test_calibration_error_sees_a_shift_and_forgives_the_truth():
    """Guards against an error that shrinks by averaging opposite gaps."""
    rng = np.random.default_rng(2)
    p = rng.beta(2, 3, 40_000)
    label = rng.random(40_000) < p
    evaluation = evaluate(
        label,
        {"true": p, "shifted": np.clip(p + 0.1, 0, 1), "steep": np.clip(2 * p - 0.4, 0, 1)},
        resamples=0,
    )
    for name in ("ece", "ace"):
        assert evaluation.metrics["true"][name].value < 0.01
        assert evaluation.metrics["shifted"][name].value == pytest.approx(0.1, abs=0.012)
        assert evaluation.metrics["steep"][name].value > 0.1
    bins = reliability(label, p)
    assert bins["rows"].sum() == 40_000 and len(bins["rows"]) == 10


def test_equal_width_and_equal_mass_errors_by_hand():
    """Guards against one calibration error passing for the other, and a score of 1 in no bin."""
    score = np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.91, 1.0])
    label = np.array([1, 0, 0, 0, 0, 0, 0, 0, 1, 1])
    figures = evaluate(label, {"m": score}, resamples=0).metrics["m"]
    assert figures["ece"].value == pytest.approx((abs(0.36 - 1) + abs(1.91 - 2)) / 10)
    assert figures["ace"].value == pytest.approx(np.abs(score - label).mean())


def test_intervals_cover_the_known_auc_of_clustered_rows():
    """Guards against intervals by row: with eight rows a user they would be far too short."""
    rng = np.random.default_rng(7)
    users, each, truth = 150, 8, float(norm.cdf(1 / np.sqrt(2 * (1 + 1))))
    covered = by_row = 0
    for _ in range(60):
        label = np.repeat(rng.random(users) < 0.5, each)
        score = label + np.repeat(rng.normal(0, 1, users), each) + rng.normal(0, 1, users * each)
        cluster = np.repeat(np.arange(users), each)
        kept = {"not_probabilities": ["m"], "resamples": 200, "seed": 1}
        auc = evaluate(label, {"m": score}, cluster, **kept).metrics["m"]["auc"]
        naive = evaluate(label, {"m": score}, **kept).metrics["m"]["auc"]
        covered += auc.low <= truth <= auc.high
        by_row += naive.low <= truth <= naive.high
    assert covered >= 52, "95 % intervals must cover about 57 of 60"
    assert by_row < 45


def test_paired_differences_are_shorter_than_unpaired_and_zero_for_twins():
    """Guards against comparing two models on different draws."""
    rng = np.random.default_rng(9)
    p = rng.random(3000)
    label = rng.random(3000) < p
    close = np.clip(p + rng.normal(0, 0.03, 3000), 0.01, 0.99)
    evaluation = evaluate(
        label, {"a": p, "b": close, "twin": p}, rng.integers(0, 500, 3000), resamples=200, seed=4
    )
    gap = evaluation.difference("auc", "a", "b")
    alone = evaluation.metrics["a"]["auc"]
    assert (gap.high - gap.low) < 0.5 * (alone.high - alone.low)
    assert evaluation.difference("log_loss", "a", "twin").high == 0.0
    assert evaluation.difference("log_loss", "b", "a").value > 0


def test_same_seed_same_intervals_whatever_the_block_size(monkeypatch):
    """Guards against figures that change with the memory at hand."""
    import usergrowth_dagster.learning.metrics as metrics

    rng = np.random.default_rng(11)
    label, score, users = rng.random(500) < 0.4, rng.random(500), rng.integers(0, 60, 500)
    whole = evaluate(label, {"m": score}, users, resamples=60, seed=8).draws["m"]
    monkeypatch.setattr(metrics, "_CELLS", 1500)
    blocks = evaluate(label, {"m": score}, users, resamples=60, seed=8).draws["m"]
    for metric, drawn in whole.items():
        assert drawn == pytest.approx(blocks[metric], rel=1e-12), metric


def test_curves_end_where_they_must():
    """Guards against a curve that stops short of all rows."""
    label, score = np.array([1, 0, 1, 0]), np.array([0.9, 0.9, 0.5, 0.1])
    drawn = curves(label, score)
    assert drawn["seen"].tolist() == [0.5, 0.75, 1.0]
    assert drawn["recall"].tolist() == [0.5, 1.0, 1.0]
    assert drawn["fall_out"].tolist() == [0.5, 0.5, 1.0]
    assert drawn["precision"] == pytest.approx([1 / 2, 2 / 3, 1 / 2])
    last = curves(np.array([0, 1]), np.array([0.9, 0.1]))  # the last row is a positive one
    assert last["recall"].tolist() == [0.0, 1.0] and last["fall_out"].tolist() == [1.0, 1.0]
    assert np.trapezoid(np.r_[0, drawn["recall"]], np.r_[0, drawn["fall_out"]]) == pytest.approx(
        roc_auc_score(label, score)
    )
