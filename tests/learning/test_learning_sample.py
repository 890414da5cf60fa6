"""A training on a sample says what a training on all rows says."""

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from learning_frames import make_churn

from usergrowth_dagster.learning.calibration import METHODS, choose_method, fit_knots
from usergrowth_dagster.learning.card import write_card
from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.metrics import evaluate, gains, means, reliability
from usergrowth_dagster.learning.reference import histogram
from usergrowth_dagster.learning.sample import even_ceiling, sampled_rows
from usergrowth_dagster.learning.targets.binary import Binary
from usergrowth_dagster.learning.training import train

D = date(2024, 7, 29)
CHURN = TrainingConfig(algorithm="churn", start_date=date(2024, 1, 1))
FIGURES = ("auc", "pr_auc", "log_loss", "capture_10", "capture_40")


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=40), st.integers(40, 100_000))
def test_the_ceiling_is_the_highest_that_fits(sizes, most):
    """Guards against a sample that is larger than the setting, or smaller than it need be."""
    ceiling = even_ceiling(dict(enumerate(sizes)), most)
    assert sum(min(size, ceiling) for size in sizes) <= most or ceiling == 1
    if max(sizes) > ceiling:
        assert sum(min(size, ceiling + 1) for size in sizes) > most


def repeated(times, *arrays):
    """Arrays with each row as often as its weight says."""
    return [np.repeat(array, times) for array in arrays]


def test_a_weight_counts_as_so_many_rows():
    """Guards against a figure or a map that forgets the weights, in part or altogether."""
    rng = np.random.default_rng(5)
    score = rng.integers(1, 400, 6000) / 401  # with ties
    label = (rng.random(6000) < score).astype(int)
    weight = np.where(label == 1, 1, rng.integers(2, 6, 6000))
    user = rng.integers(0, 500, 6000)
    labels, scores, users = repeated(weight, label, score, user)
    once = {"resamples": 0}
    whole = evaluate(labels, {"m": scores}, users, **once).metrics["m"]
    short = evaluate(label, {"m": score}, user, weight=weight.astype(float), **once).metrics["m"]
    plain = evaluate(label, {"m": score}, user, **once).metrics["m"]
    for name, figure in whole.items():
        assert short[name].value == pytest.approx(figure.value, abs=2e-4), name
    assert plain["pr_auc"].value - whole["pr_auc"].value > 0.1
    one, other = (
        gains(labels, scores, users, **once),
        gains(label, score, user, weight=weight.astype(float), **once),
    )
    for a, b in zip(one, other, strict=True):
        assert a.capture.value == pytest.approx(b.capture.value)
        assert a.response.value == pytest.approx(b.response.value)
    mean = means({"share": label}, user, weight=weight.astype(float), **once)["share"].value
    assert mean == pytest.approx(labels.mean())
    bins = reliability(label, score, weight.astype(float))
    assert bins["rows"].sum() == weight.sum()
    assert bins["rows"] @ bins["share"] == pytest.approx(labels.sum())
    raw = score**1.5
    (raws,) = repeated(weight, raw)
    for method in METHODS:
        got = fit_knots(raw, label, method, weight.astype(float))
        wanted = fit_knots(raws, labels, method)
        at = np.linspace(-3, 2, 9)
        assert np.interp(at, *got) == pytest.approx(np.interp(at, *wanted), abs=0.02), method
    assert choose_method(raw, label, weight=weight / weight.mean()) == choose_method(raws, labels)
    counts = histogram(raw, weight=weight.astype(float)).counts
    assert sum(counts) == weight.sum() and max(counts) > 1.2 * min(counts[:-1])


def test_intervals_of_samples_hold_the_figures_of_all_rows(engine, settings):
    """Guards against a draw that prefers some users, and weights that do not put it right."""
    make_churn(engine, users=800)

    def figures(seed, most):
        chosen = settings.model_copy(update={"seed": seed, "max_training_rows": most})
        _, _, scope, sample = sampled_rows(engine, "churn_training", CHURN, D, chosen)
        rows = engine.arrow(
            "select ds, user_id, churned, 1 / (1 + exp(2 - recency_days * 0.08)) as p "
            f"from churn_training where {scope} order by ds, user_id"
        )
        label = rows["churned"].to_numpy().astype(int)
        day = rows["ds"].to_numpy().astype("datetime64[D]")
        weight = sample.weights(day, label) if sample else None
        user, score = rows["user_id"].to_numpy(), {"p": rows["p"].to_numpy()}
        drawn = evaluate(label, score, user, weight=weight, resamples=200).metrics["p"]
        return drawn, label, weight

    whole, labels, _ = figures(0, 10**9)
    for seed in range(6):
        drawn, label, weight = figures(seed, 7000)
        assert np.average(label, weights=weight) == pytest.approx(labels.mean())
        for name in FIGURES:
            assert drawn[name].low <= whole[name].value <= drawn[name].high, (seed, name)


def test_a_sampled_training_says_what_the_whole_one_says(engine, settings):
    """Guards against figures of the sample that are not those of the population, and against a
    sample that drops rare rows, splits its users at random or is larger than it may be."""
    make_churn(engine, users=800)
    whole = train(engine, "churn_training", CHURN, D, settings)
    small = settings.model_copy(update={"max_training_rows": 7000})
    trained = train(engine, "churn_training", CHURN, D, small)
    assert whole.sample is None and whole.test.weight is None
    sample, weight, label = trained.sample, trained.test.weight, trained.test.label
    assert sample is not None and weight is not None
    assert 6300 < sample.as_dict()["kept"] < 7100 and sample.rows == 24_000
    rows, positives = whole.counts["test"]
    assert np.average(label, weights=weight) == pytest.approx(positives / rows)
    assert label.mean() > 1.2 * positives / rows, "the rarer label is drawn more often"
    assert sample.share(trained.split.test) == pytest.approx(positives / rows)
    everyday = np.unique(trained.test.user, return_counts=True)[1]
    assert (everyday == len(trained.split.test)).sum() > 50, "users who are drawn stay"
    for name in FIGURES:
        one, other = trained.metrics[name], whole.metrics[name]
        assert one.low <= other.high and other.low <= one.high, name
    score = trained.models[trained.champion].model.score(trained.test.frame)
    assert abs(np.average(score - label, weights=weight)) < 0.03
    summary = Binary().summarize(trained, [])
    assert f"a sample of {sample.rows:,}" in write_card(summary)
    assert summary["sample"]["shares"]["test"] == pytest.approx(positives / rows)
    assert Binary().params(trained)["sample.rows"] == "24000"
