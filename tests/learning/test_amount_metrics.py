"""Figures of predicted amounts, against known libraries and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import mean_tweedie_deviance, roc_auc_score

from usergrowth_dagster.learning.amounts.metrics import deciles, evaluate_amounts

amounts = st.sampled_from([0.0, 0.0, 1.0, 2.5, 2.5, 40.0])
predictions = st.sampled_from([0.1, 0.5, 0.5, 1.0, 3.0, 20.0])
rows = st.lists(st.tuples(amounts, predictions), min_size=12, max_size=60).filter(
    lambda pairs: len({a for a, _ in pairs}) > 1 and len({p for _, p in pairs}) > 1
)


def figures(amount, score, **options):
    evaluation = evaluate_amounts(np.array(amount), {"model": np.array(score)}, **options)
    return evaluation.metrics["model"]


@given(rows)
def test_figures_equal_those_of_known_libraries(pairs):
    """Guards against ties, zeros and steps that a figure of our own counts otherwise."""
    amount, score = map(np.array, zip(*pairs, strict=True))
    computed = figures(amount, score, resamples=0)
    assert computed["spearman"].value == pytest.approx(spearmanr(score, amount).statistic)
    wanted = mean_tweedie_deviance(amount, score, power=1.5)
    assert computed["deviance"].value == pytest.approx(wanted)
    assert computed["bias"].value == pytest.approx(score.sum() / amount.sum() - 1)
    some = (amount > 0).astype(float)
    if 0 < some.sum() < len(some):
        gini = figures(some, score, resamples=0)["gini"].value
        assert gini == pytest.approx(2 * roc_auc_score(some, score) - 1), "Somers' D"


@given(rows, st.integers(0, 5))
def test_a_resample_is_a_sample_with_rows_repeated(pairs, seed):
    """Guards against intervals of another figure than the one they stand beside."""
    amount, score = map(np.array, zip(*pairs, strict=True))
    user = np.arange(len(amount))
    evaluation = evaluate_amounts(amount, {"model": score}, user, resamples=3, seed=seed)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(user), size=(3, len(user)))
    for place, sample in enumerate(drawn):
        if len(set(amount[sample])) < 2 or len(set(score[sample])) < 2:
            continue
        again = figures(amount[sample], score[sample], resamples=0)
        for name in ("gini", "spearman", "bias", "deviance", "capture_20"):
            assert evaluation.draws["model"][name][place] == pytest.approx(again[name].value), name


def test_figures_by_hand():
    """Guards against a Gini of another curve, and a tenth that is weighed otherwise."""
    amount = np.array([0.0, 10.0, 0.0, 30.0])
    true, reverse = figures(amount, amount + 1, resamples=0), figures(amount, 31 - amount)
    assert true["gini"].value == pytest.approx(1) and reverse["gini"].value == pytest.approx(-1)
    # shares held after each row: .75 and 1, against .25, 1, 1, 1
    swapped = figures(amount, np.array([2.0, 4.0, 1.0, 3.0]), resamples=0)
    areas = (0.25 * (0.125 + 0.625 + 1 + 1), 0.25 * (0.375 + 0.875 + 1 + 1))
    assert swapped["gini"].value == pytest.approx((2 * areas[0] - 1) / (2 * areas[1] - 1))
    level = figures(amount, np.full(4, 10.0), resamples=0)
    assert level["gini"].value == pytest.approx(0) and level["bias"].value == pytest.approx(0)
    assert level["decile_error"].value == pytest.approx(0), "all rows are in one bin"
    assert level["capture_40"].value == pytest.approx(0.4)


def test_tenths_add_up_and_their_error_is_theirs():
    """Guards against a table of tenths that is not the one that the error is of."""
    rng = np.random.default_rng(1)
    score = rng.gamma(2, 10, 1000)
    amount = rng.gamma(1, score * 1.2)
    tenths = deciles(amount, score)
    assert [one["rows"] for one in tenths] == [100] * 10
    assert sum(one["real"] * 100 for one in tenths) == pytest.approx(amount.sum())
    assert tenths[0]["predicted"] > tenths[-1]["predicted"]
    error = sum(abs(one["predicted"] - one["real"]) * 100 for one in tenths) / amount.sum()
    assert figures(amount, score)["decile_error"].value == pytest.approx(error)
    top = np.sort(amount[np.argsort(-score)[:100]])
    assert tenths[0]["error"] == pytest.approx(top.std() / 10)
    some = np.where(score > np.median(score), amount, 0.0)
    assert np.isfinite(figures(some, score)["decile_error"].value), "half of the tenths are empty"


def test_an_interval_covers_the_true_figure_about_as_often_as_it_says():
    """Guards against intervals that are too narrow to judge candidates by."""
    hits = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        score = rng.gamma(2, 10, 400)
        evaluated = figures(rng.gamma(1, score), score, resamples=200, seed=seed)
        hits += evaluated["bias"].low <= 0 <= evaluated["bias"].high
    assert 50 <= hits <= 60


def test_what_is_no_amount_is_refused():
    """Guards against a deviance of negative amounts, which is no number."""
    with pytest.raises(ValueError, match="0 or more"):
        figures([1.0, -1.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="0 or more"):
        figures([1.0, 1.0], [1.0, -1.0])
