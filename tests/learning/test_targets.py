"""What a kind of answer writes down of a training, and the tables that people read of it."""

import json
from datetime import date

import numpy as np
import pytest
from learning_frames import make_churn

from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.gates import Gate
from usergrowth_dagster.learning.origin import MadeFrom
from usergrowth_dagster.learning.targets import target_called, targets
from usergrowth_dagster.ranks import UPLIFT
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import open_engine

D = date(2024, 7, 29)
CHURN = TrainingConfig(algorithm="churn", start_date=date(2024, 1, 1))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A training of churn."""
    settings = load_settings(tmp_path_factory.mktemp("targets") / "home")
    with open_engine(settings) as engine:
        make_churn(engine)
        job = (engine, "churn_training", CHURN, D, settings)
        yield target_called("binary").train(
            *job, made_from=MadeFrom({"t": 1}, code_version="abc"), progress=lambda _: None
        )


def test_a_summary_of_probabilities_is_that_of_its_training(trained):
    """Guards against a card whose rows, people or calibration are those of something else."""
    gates = [Gate("leakage", True, "none leaks"), Gate("calibration", False, "off by .1")]
    summary = target_called("binary").summarize(trained, gates)
    test = summary["rows"]["test"]
    assert test == {"rows": len(trained.test.label), "positives": int(trained.test.label.sum())}
    assert 0 < test["positives"] < test["rows"]
    assert summary["test"]["users"] == len(np.unique(trained.test.user)) < test["rows"]
    assert [gate["name"] for gate in summary["gates"]] == ["leakage", "calibration"]
    assert [gate["passed"] for gate in summary["gates"]] == [True, False]
    assert summary["champion"] == trained.champion == target_called("binary").chosen(trained)
    assert list(summary["importance"]) == list(trained.importance)[:50]
    assert set(summary["directions"]) <= set(trained.leans)
    assert summary["screened"] == list(trained.screening.seen)
    for name, auc in trained.screening.alone.items():
        assert summary["alone"][name] == pytest.approx(auc, abs=5e-5), name
    assert len(summary["gains"]) == len(trained.gains) == 10
    assert summary["gains"][-1]["rest"] is None  # nobody is left below everyone
    json.dumps(summary, allow_nan=False)


def test_the_reliability_of_a_summary_is_that_of_the_calibrated_scores(trained):
    """Guards against a calibration picture of raw scores, or of another scorer's."""
    bins = target_called("binary").summarize(trained, [])["reliability"]
    assert sum(part["rows"] for part in bins) == len(trained.test.label)
    shares = [part["share"] * part["rows"] for part in bins]
    assert sum(shares) == pytest.approx(trained.test.label.sum())
    means = [part["mean_score"] for part in bins]
    assert means == sorted(means, reverse=True) and 0 <= means[-1] < means[0] <= 1
    gaps = [abs(part["mean_score"] - part["share"]) * part["rows"] for part in bins]
    of_champion = trained.evaluation.metrics[trained.champion]["ace"].value
    assert sum(gaps) / len(trained.test.label) == pytest.approx(of_champion)


def test_a_model_is_saved_with_rows_to_try_it_and_what_its_scores_were(trained):
    """Guards against a version that cannot be tried in MLflow, or whose drift cannot be measured."""
    saved = target_called("binary").saved(trained)
    assert saved.predict == "predict_proba" and len(saved.example) == 5
    chances = saved.model.predict_proba(saved.example)
    assert np.array_equal(chances, trained.closed.predict_proba(trained.test.frame.head(5)))
    (content,) = saved.files.values()
    assert json.loads(content) == json.loads(trained.reference.model_dump_json())
    params = target_called("binary").params(trained)
    assert {name.partition(".")[0] for name in params} == set(trained.models)
    assert all(isinstance(value, str) for value in params.values())


def test_the_effect_by_decile_is_read_by_a_person():
    """Guards against a decile with one arm that is shown as an effect of zero."""
    effect = target_called("effect")
    deciles = [
        {
            "place": 1,
            "treated": 1200,
            "control": 300,
            "predicted": 0.0312,
            UPLIFT: {"value": 0.025, "low": -0.005, "high": 0.055},
        },
        {"place": 2, "treated": 7, "control": 0, "predicted": None, UPLIFT: None},
    ]
    ((title, table),) = effect.tables({"deciles": deciles}).items()
    assert title == "effect by decile"
    assert table.header == ("decile", "treated", "control", "predicted", "measured")
    assert table.rows == [
        ("1", "1,200", "300", "+0.0312", "+0.0250 [-0.0050, +0.0550]"),
        ("2", "7", "0", "", "an arm is empty"),
    ]


def test_the_amounts_by_tenth_are_read_by_a_person():
    """Guards against tenths that count from 0, or a prediction in the place of what came."""
    tenths = [
        {"rows": 1234.0, "predicted": 25.5, "real": 1030.25},
        {"rows": 1233.0, "predicted": 3.125, "real": 0.0},
    ]
    ((title, table),) = target_called("regression").tables({"deciles": tenths}).items()
    assert title == "amount by tenth"
    assert table.header == ("tenth", "rows", "predicted", "as it was")
    assert table.rows == [("1", "1,234", "25.50", "1,030.25"), ("2", "1,233", "3.12", "0.00")]
    assert target_called("binary").tables({"deciles": tenths}) == {}


def test_what_follows_from_the_kind_of_an_answer():
    """Guards against a level that moves amounts, a campaign that an effect without proof stops, or
    reasons of a score that is no sum of parts."""
    flags = {
        name: (one.amounts, one.compares, one.required, one.levels, one.contributes)
        for name, one in targets().items()
    }
    assert flags == {
        "binary": (False, True, True, True, True),
        "effect": (False, False, False, False, False),
        "regression": (True, True, True, False, False),
    }
