"""One training, end to end on generated frames with a known signal."""

import subprocess
import sys
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from learning_frames import make_churn, make_winback

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.candidates import COMPARED, choose_champion
from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.origin import label_gap_holds
from usergrowth_dagster.learning.training import train

D = date(2024, 7, 29)
CHURN = TrainingConfig(algorithm="churn", start_date=date(2024, 1, 1))
WINBACK = TrainingConfig(algorithm="winback", return_behaviors=("redeem",))


@pytest.fixture
def churn_rows(engine):
    make_churn(engine)
    return engine


def test_the_signal_is_found_with_honest_figures(churn_rows, settings):
    """Guards against a pipeline that trains but misreads its columns, slices or label."""
    stages = []
    trained = train(churn_rows, "churn_training", CHURN, D, settings, progress=stages.append)
    assert trained.metrics["auc"].value > 0.76 > trained.evaluation.metrics["recency"]["auc"].value
    assert trained.metrics["auc"].low < trained.metrics["auc"].value < trained.metrics["auc"].high
    assert trained.metrics["ece"].value < 0.05
    assert set(trained.evaluation.metrics) == {"logistic", "lightgbm", "blend", "recency", "rfm"}
    assert next(iter(trained.importance)) == "recency_days"
    assert set(trained.figures) == {
        *("roc", "precision_recall", "calibration", "lift", "importance", "drift")
    }
    assert all(png.startswith(b"\x89PNG") and len(png) < 40_000 for png in trained.figures.values())
    assert stages == [
        "rows",
        "logistic",
        "lightgbm",
        "blend",
        "evaluate",
        "look closer",
        "pictures",
    ]
    assert label_gap_holds(trained) and trained.last_label_day < D
    assert trained.champion == "rfm" and trained.sentence.startswith("A baseline scores: RFM")
    rival = trained.evaluation.difference("auc", "logistic", "rfm")
    assert f"[{rival.low:+.4f}" in trained.sentence
    late = replace(trained, execution_date=trained.last_label_day)
    assert not label_gap_holds(late), "a label that closes on D is not closed at D"


def test_the_same_inputs_give_the_same_scores_whatever_the_row_order(churn_rows, settings):
    """Guards against figures that change from run to run or with the storage order."""
    first = train(churn_rows, "churn_training", CHURN, D, settings)
    churn_rows.run(
        "create table shuffled as select * from churn_training order by hash(user_id, ds)"
    )
    again = train(churn_rows, "shuffled", CHURN, D, settings)
    for kind in first.models:
        one = first.models[kind].model.score(first.test.frame)
        assert np.array_equal(one, again.models[kind].model.score(again.test.frame)), kind
    assert first.metrics == again.metrics and first.figures == again.figures


def test_rows_of_open_labels_change_nothing(churn_rows, settings):
    """Guards against leakage: snapshots whose label reaches D or later must not be looked at."""
    early = date(2024, 6, 17)
    first = train(churn_rows, "churn_training", CHURN, early, settings)
    churn_rows.run(
        "create table changed as select * replace (case when ds > '2024-06-10' then 99 else recency_days end "
        "as recency_days, case when ds > '2024-06-10' then 0 else days_to_next end as days_to_next) from churn_training"
    )
    again = train(churn_rows, "changed", CHURN, early, settings)
    assert first.metrics == again.metrics and first.spec == again.spec


def test_boosting_wins_only_where_it_has_something_to_find(engine, settings):
    """Guards against the champion rule being blind, or in love with the bigger model."""
    make_churn(engine, nonlinear=True)
    trained = train(engine, "churn_training", CHURN, D, settings)
    assert trained.champion == "lightgbm" and trained.paired["log_loss"].high < 0
    assert "LightGBM beats recency alone" in trained.sentence
    make_churn(engine)
    trained = train(engine, "churn_training", CHURN, D, settings)
    assert trained.champion == "rfm" and trained.sentence.count("the simpler model stands") == 3


def test_the_blend_is_the_mean_of_the_log_odds(churn_rows, settings):
    """Guards against a blend of other models than those beside it."""
    from usergrowth_dagster.learning.calibration import logit
    from usergrowth_dagster.learning.importance import lean
    from usergrowth_dagster.learning.model import Blend, positive_share

    trained = train(churn_rows, "churn_training", CHURN, D, settings)
    frame = trained.test.frame
    logistic, boosted, blend = (trained.models[k].model for k in ("logistic", "lightgbm", "blend"))
    assert isinstance(blend.pipeline, Blend)
    assert blend.pipeline.members == [logistic.pipeline, boosted.pipeline]
    parts = [logit(positive_share(m.pipeline, frame)) for m in (logistic, boosted)]
    assert np.allclose(logit(positive_share(blend.pipeline, frame)), sum(parts) / 2)
    weights = lean(blend, trained.spec, frame)
    assert next(iter(weights)) == "recency_days" and len(weights) == len(trained.spec.features)


def _compared(gaps):
    """An evaluation in which each kind's log-loss stands off the logistic one's: (gap, spread)."""
    from usergrowth_dagster.learning.metrics import Evaluation, Interval

    rng = np.random.default_rng(0)
    metrics, draws = {}, {}
    for kind, (gap, spread) in {"logistic": (0, 0), **gaps}.items():
        metrics[kind] = {m: Interval(0.5 + gap, 0, 1) for m in COMPARED}
        draws[kind] = {m: 0.5 + gap + rng.normal(0, 1, 200) * spread for m in COMPARED}
    return Evaluation(metrics, draws)


@pytest.mark.parametrize(
    ("lightgbm", "blend", "champion"),
    [
        ((-0.01, 0.02), (-0.01, 0.001), "blend"),  # a tie, then a clear gain over the logistic
        ((-0.01, 0.001), (-0.011, 0.01), "lightgbm"),  # a clear gain, then a tie
        ((-0.01, 0.001), (-0.02, 0.001), "blend"),
        ((-0.01, 0.02), (-0.02, 0.02), "logistic"),
        ((0.01, 0.001), (0.02, 0.001), "logistic"),  # clearly worse is no gain
    ],
)
def test_a_more_complex_model_needs_a_clear_gain_over_the_best_before(lightgbm, blend, champion):
    """Guards against the blend being compared with a model that is not the best so far."""
    chosen, paired, sentence = choose_champion(_compared({"lightgbm": lightgbm, "blend": blend}))
    assert chosen == champion
    assert paired["log_loss"].value == pytest.approx(lightgbm[0]), "boosting against logistic"
    boosted = lightgbm == (-0.01, 0.001)
    verb = "beats" if champion == "blend" else "does not beat"
    before = "LightGBM" if boosted else "the logistic regression"
    assert f"The blend of both {verb} {before}" in sentence


def test_winback_reports_the_auc_within_campaigns_and_cross_fits(engine, settings):
    """Guards against the campaign's kind passing for skill, and a thin calibration slice."""
    make_winback(engine, users=150)
    trained = train(engine, "winback_training", WINBACK, date(2024, 12, 1), settings)
    assert {"recency", "rfm", "past_response"} <= set(trained.evaluation.metrics)
    assert trained.metrics["auc_within"].value > 0.6
    assert trained.split.calibrate == () and "calibrate" not in trained.counts
    assert trained.models["logistic"].params["calibrated_on"] == "forward folds"
    only = train(
        engine,
        "winback_training",
        TrainingConfig(**WINBACK.model_dump() | {"op_target": "sms"}),
        date(2024, 12, 1),
        settings,
    )
    assert (
        sum(rows for rows, _ in only.counts.values())
        < sum(rows for rows, _ in trained.counts.values()) * 0.6
    )


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (TrainingConfig(algorithm="winback", op_target="post"), "op_target 'post'"),
        (TrainingConfig(algorithm="winback", return_behaviors=("never",)), "too few positive"),
    ],
)
def test_nothing_to_learn_from_is_one_sentence(engine, settings, config, words):
    """Guards against a library's traceback for a campaign nobody has data for."""
    make_winback(engine, users=60)
    with pytest.raises(UserError, match=words):
        train(engine, "winback_training", config, date(2024, 12, 1), settings)


def test_importing_the_package_loads_nothing_heavy():
    """Guards against a code location that takes seconds to load."""
    code = (
        "import sys, pkgutil, importlib, usergrowth_dagster.learning as p\n"
        "for m in pkgutil.iter_modules(p.__path__): importlib.import_module(f'{p.__name__}.{m.name}')\n"
        "heavy = {'mlflow', 'lightgbm', 'sklearn', 'pandas', 'matplotlib', 'scipy', 'duckdb', 'pyarrow'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
